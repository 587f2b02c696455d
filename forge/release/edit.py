"""An edit of the repository: what a publisher changes, on copies, before anything is signed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tuf.api.metadata import TargetFile

from forge.canonical import Json
from forge.release.state import Delegated, State
from forge.store.objects import Objects
from forge.trust import layout
from forge.trust.explain import tuf_errors
from forge.trust.proof_keys import MAX_PROOF_KEYS_BYTES, ProofKeys, parse_proof_keys

if TYPE_CHECKING:
    from forge.release.keyring import Keyring

__all__ = ["Edit", "new_proof_keys"]


@dataclass
class Edit:
    """Changes to the delegated roles, on copies.

    Attributes:
        targets: every target of each role.
        proof_keys: reads the proof keys that devices believe once this edit is published.
        files: what the new targets hold, by object name.
    """

    targets: dict[Delegated, dict[str, TargetFile]]
    proof_keys: Callable[[], ProofKeys]
    files: dict[str, bytes] = field(default_factory=dict)

    def put(self, role: Delegated, path: str, data: bytes, custom: dict[str, Json]) -> None:
        """Make `path` a target with these bytes and signed custom fields."""
        target = TargetFile.from_data(path, data, ["sha256"])
        target.unrecognized_fields["custom"] = custom
        self.targets[role][path] = target
        self.files[layout.target_name(path, target.hashes["sha256"])] = data


def new_proof_keys(objects: Objects, ring: Keyring, state: State) -> ProofKeys:
    """The proof keys that devices believe once `state` is published.

    Raises:
        TrustError: they are not what the targets metadata names.
        StoreError: the store is out of reach.
    """
    path = layout.PROOF_KEYS_PATH
    target = state.targets.signed.targets[path]
    digest = target.hashes["sha256"]
    if state.new_targets is None:
        name = layout.target_name(path, digest)
        data = objects.read(name, max_bytes=min(target.length, MAX_PROOF_KEYS_BYTES)).data
    else:
        data = ring.target(path, digest)
    with tuf_errors(objects.url):
        target.verify_length_and_hashes(data)
    return parse_proof_keys(data)
