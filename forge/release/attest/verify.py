"""Verify the proofs of a bundle as devices do, before a release or a promotion is signed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from forge.bundle import Manifest
from forge.errors import TrustError
from forge.trust import model, provenance
from forge.trust.proof_keys import ProofKeys
from forge.trust.proofs import (
    MAX_SPEC_BYTES,
    MODEL_SIGNATURE,
    PROVENANCE,
    SPEC,
    engine_path,
)

if TYPE_CHECKING:
    from forge.store import Store

__all__ = ["ProofStore", "check_proofs", "engine_digests"]

_HINT: Final = (
    "nothing was published; run 'forge keys refresh' to get the newest list of keys; if its key "
    "was revoked, release it as a new version, which signs new proofs"
)


class ProofStore(Protocol):
    """Reads the files of proofs."""

    def read_file(self, digest: str, path: str, *, max_bytes: int) -> bytes:
        """Return the bytes of a small file of a tree."""


def check_proofs(store: ProofStore, manifest: Manifest, keys: ProofKeys) -> None:
    """Verify the provenance, and that a trusted key signed the engine.

    The engine's files are not read, because they may have 100 GB: the step that signs them and
    devices verify them.

    Args:
        store: holds the proofs.
        manifest: the manifest to publish.
        keys: proof keys that devices trust.

    Raises:
        TrustError: devices would refuse the bundle.
        StoreError: the proofs cannot be read.
    """
    proofs = manifest.proofs.digest
    envelope = store.read_file(proofs, PROVENANCE, max_bytes=provenance.MAX_PROVENANCE_BYTES)
    signature = store.read_file(proofs, MODEL_SIGNATURE, max_bytes=model.MAX_SIGNATURE_BYTES)
    try:
        provenance.verify_provenance(envelope, keys, tree=manifest.tree.digest)
        model.check_signer(signature, keys)
    except TrustError as error:
        raise TrustError(
            f"Devices would refuse {manifest.name} {manifest.version} for {manifest.profile}",
            why=f"{error.what}: {error.why}",
            hint=_HINT,
        ) from None


def engine_digests(store: Store, manifest: Manifest) -> dict[str, str]:
    """Return the SHA-256 of each file of the engine by its path in the engine's folder.

    Raises:
        TrustError: the tree does not say where its engine is.
        StoreError: the tree cannot be read.
    """
    digest = manifest.tree.digest
    folder = f"{engine_path(store.read_file(digest, SPEC, max_bytes=MAX_SPEC_BYTES))}/"
    entries = [one for one in store.tree(digest).entries if one.path.startswith(folder)]
    return {one.path.removeprefix(folder): one.sha256 for one in entries}
