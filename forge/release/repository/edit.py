"""An edit of the repository: changes to copies of its targets, before anything is signed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tuf.api.metadata import TargetFile

from forge.canonical import Json
from forge.release.repository.state import Delegated, RepositoryState
from forge.store.backends.protocol import Objects
from forge.trust import layout
from forge.trust.proof_keys import MAX_PROOF_KEYS_BYTES, ProofKeys, parse_proof_keys
from forge.trust.tuf_errors import tuf_errors

if TYPE_CHECKING:
    from forge.release.keys.keyring import Keyring

__all__ = ["Edit", "new_proof_keys"]


@dataclass
class Edit:
    """Changes to the delegated roles.

    Attributes:
        targets: every target of each role, as copies.
        proof_keys: reads the proof keys that devices trust once this edit is published.
        files: contents of the new targets, by object name.
    """

    targets: dict[Delegated, dict[str, TargetFile]]
    proof_keys: Callable[[], ProofKeys]
    files: dict[str, bytes] = field(default_factory=dict)

    def put(self, role: Delegated, path: str, data: bytes, custom: dict[str, Json]) -> None:
        """Add or replace the target `path`.

        Args:
            role: the role that signs it.
            path: path of the target.
            data: its contents.
            custom: fields that are signed with it.
        """
        target = TargetFile.from_data(path, data, ["sha256"])
        target.unrecognized_fields["custom"] = custom
        self.targets[role][path] = target
        self.files[layout.target_name(path, target.hashes["sha256"])] = data

    def remove(self, role: Delegated, path: str) -> None:
        """Remove the target `path`; its file stays in the store until garbage is collected."""
        del self.targets[role][path]

    def mark(self, role: Delegated, path: str, field_name: str, value: Json) -> None:
        """Set a custom field of the target `path`, whose contents stay as they are."""
        target = copy.deepcopy(self.targets[role][path])  # the present metadata has this object
        target.unrecognized_fields["custom"] = {**(target.custom or {}), field_name: value}
        self.targets[role][path] = target


def new_proof_keys(objects: Objects, keyring: Keyring, state: RepositoryState) -> ProofKeys:
    """Return the proof keys that devices trust once `state` is published.

    Raises:
        TrustError: the list does not have the digest that the targets metadata names.
        StoreError: the store cannot be reached.
    """
    path = layout.PROOF_KEYS_PATH
    target = state.targets.signed.targets[path]
    digest = target.hashes["sha256"]
    if state.new_targets is None:
        name = layout.target_name(path, digest)
        data = objects.read(name, max_bytes=min(target.length, MAX_PROOF_KEYS_BYTES)).data
    else:
        data = keyring.target(path, digest)
    with tuf_errors(objects.url):
        target.verify_length_and_hashes(data)
    return parse_proof_keys(data)
