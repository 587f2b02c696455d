"""Whether devices will believe a bundle's proofs, asked before anything of it is signed."""

from __future__ import annotations

from typing import Final, Protocol

from forge.bundle import Manifest
from forge.errors import TrustError
from forge.trust import model, provenance
from forge.trust.proof_keys import ProofKeys
from forge.trust.proofs import MODEL_SIGNATURE, PROVENANCE

__all__ = ["ProofStore", "check_proofs"]

_HINT: Final = (
    "nothing was published; run 'forge keys refresh', which takes over the newest list of keys, "
    "then the release again: it is proved anew"
)


class ProofStore(Protocol):
    """Where proofs are read."""

    def read_file(self, digest: str, path: str, *, max_bytes: int) -> bytes:
        """One small file of a tree."""


def check_proofs(store: ProofStore, manifest: Manifest, keys: ProofKeys) -> None:
    """Verify the provenance, and that the engine's signature names a believed key.

    The engine itself is verified by who signs it and by devices: it may have 100 GB.

    Args:
        store: holds the proofs.
        manifest: what is going to be published.
        keys: that devices are told to believe.

    Raises:
        TrustError: devices would refuse it.
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
