"""Verify the proofs of a published bundle as a device does, without reading its engine.

The signature of the engine is held against the digests of the files in the bundle's tree. A device
also reads the files themselves, which may have 100 GB.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from forge.accuracy.receipt import Receipt
from forge.bundle import Manifest
from forge.errors import TrustError
from forge.release.attest.verify import engine_digests
from forge.report.report import BillOfMaterials, ProofFile, VerifiedProofs
from forge.report.sbom import MAX_SBOM_BYTES, parse_sbom
from forge.smoke.result import Result
from forge.store import Store, Tree, TreeEntry
from forge.store.download.downloader import Downloader
from forge.trust import model, predicates, provenance
from forge.trust.predicates import verify_predicate
from forge.trust.proof_keys import ProofKeys
from forge.trust.proofs import MODEL_SIGNATURE, PROVENANCE, SBOM
from forge.trust.provenance import Provenance, verify_provenance
from forge.validation import validation_text

__all__ = ["KNOWN_PROOFS", "Measured", "ProofReader", "Proven"]

_VERIFIED: Final = {
    SBOM: "part of the signed tree of proofs",
    PROVENANCE: "signed by a trusted build key, for this tree",
    MODEL_SIGNATURE: "signed by a trusted model key, for exactly the engine's files in this tree",
    predicates.ACCURACY: "signed by a trusted build key, for this tree",
    predicates.PERFORMANCE: "signed by a trusted build key, for this tree",
    predicates.CHECKPOINT: "signed by a trusted build key, for this tree",
}
KNOWN_PROOFS: Final = frozenset(_VERIFIED)
_LIMITS: Final = {
    SBOM: MAX_SBOM_BYTES,
    PROVENANCE: provenance.MAX_PROVENANCE_BYTES,
    MODEL_SIGNATURE: model.MAX_SIGNATURE_BYTES,
}


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a bundle and signed; None: published without it."""

    result: Result | None
    receipt: Receipt | None


@dataclass(frozen=True, slots=True)
class Proven:
    """All that the proofs of a bundle say."""

    measured: Measured
    proofs: VerifiedProofs
    sbom: BillOfMaterials


class ProofReader:
    """Reads and verifies the proofs of bundles.

    Every method raises:
        NotInStoreError: the proofs are not stored any more.
        CorruptedError: they are damaged.
        TrustError: devices would refuse them.
        StoreError: the store cannot be reached.

    Args:
        store: holds the proofs.
        keys: that devices trust.
    """

    def __init__(self, store: Store, keys: ProofKeys) -> None:
        self._store = store
        self._keys = keys

    def measured(self, manifest: Manifest) -> Measured:
        """Return what was measured of a bundle."""
        return self._measured(manifest, self._files(manifest))

    def proven(self, manifest: Manifest) -> Proven:
        """Return all that the proofs of a bundle say."""
        files = self._files(manifest)
        data = {one: self._read(files, one, limit) for one, limit in _LIMITS.items()}
        found = verify_provenance(data[PROVENANCE], self._keys, tree=manifest.tree.digest)
        engine = engine_digests(self._store, manifest)
        model.verify_model_digests(data[MODEL_SIGNATURE], engine, self._keys)
        self._predicate(manifest, files, predicates.CHECKPOINT, predicates.CHECKPOINT_TYPE)
        what = f"{SBOM} of {manifest.name} {manifest.version} for {manifest.profile}"
        return Proven(
            measured=self._measured(manifest, files),
            proofs=_verified(files, found),
            sbom=parse_sbom(data[SBOM], what),
        )

    def _measured(self, manifest: Manifest, files: dict[str, TreeEntry]) -> Measured:
        result = self._predicate(
            manifest, files, predicates.PERFORMANCE, predicates.PERFORMANCE_TYPE
        )
        receipt = self._predicate(manifest, files, predicates.ACCURACY, predicates.ACCURACY_TYPE)
        try:
            return Measured(
                None if result is None else Result.model_validate_json(result),
                None if receipt is None else Receipt.model_validate_json(receipt),
            )
        except ValidationError as error:
            raise TrustError(
                f"A measurement of {manifest.name} {manifest.version} is not valid",
                why=validation_text(error),
                hint="it is from a newer version of Forge: update Forge on this machine",
            ) from None

    def _predicate(
        self, manifest: Manifest, files: dict[str, TreeEntry], name: str, kind: str
    ) -> bytes | None:
        """Return a predicate as JSON; None for a bundle without it."""
        if name not in files:
            return None
        envelope = self._read(files, name, predicates.MAX_PREDICATE_BYTES)
        found = verify_predicate(
            envelope, self._keys, tree=manifest.tree.digest, predicate_type=kind
        )
        return json.dumps(found).encode()

    def _files(self, manifest: Manifest) -> dict[str, TreeEntry]:
        return {one.path: one for one in self._store.tree(manifest.proofs.digest).entries}

    def _read(self, files: dict[str, TreeEntry], name: str, max_bytes: int) -> bytes:
        entry = files.get(name)
        if entry is None:
            raise TrustError(f"The proofs lack {name}", hint="do not use this bundle")
        if entry.size > max_bytes:
            raise TrustError(f"{name} is larger than {max_bytes} bytes")
        return Downloader(self._store.objects, Tree(entries=(entry,)), None).read(entry)


def _verified(files: dict[str, TreeEntry], found: Provenance) -> VerifiedProofs:
    return VerifiedProofs(
        files=tuple(
            ProofFile(one.path, one.size, one.sha256, _VERIFIED.get(one.path, "not known"))
            for one in files.values()
        ),
        builder=found.builder,
        started=found.started,
        finished=found.finished,
        engine_files=len(found.files),
    )
