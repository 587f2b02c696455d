"""The proofs that are stored with a bundle.

    PROOFS/sbom.cdx.json           CycloneDX
    PROOFS/provenance.dsse.json    SLSA v1 provenance, signed with the build key
    PROOFS/model.sig               OpenSSF Model Signing signature over the engine folder
    PROOFS/accuracy.dsse.json      how near the engine is to its checkpoint: forge.trust.predicates
    PROOFS/performance.dsse.json   what the smoke benchmark measured: forge.trust.predicates
    PROOFS/checkpoint.dsse.json    who signed the checkpoint, if the pipeline says who must

Written by `forge.release.attest.attest`, verified by a device before it starts the bundle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from forge.bundle import Manifest
from forge.errors import TrustError
from forge.files import check_relative_path
from forge.store.disk_errors import WRONG_FILE, disk_error
from forge.trust import model, predicates, provenance
from forge.trust.proof_keys import ProofKeys
from forge.trust.provenance import Provenance
from forge.validation import validation_text

__all__ = [
    "MAX_SPEC_BYTES",
    "MODEL_SIGNATURE",
    "PROVENANCE",
    "SBOM",
    "SPEC",
    "engine_folder",
    "engine_path",
    "verify_accuracy",
    "verify_model_signature",
    "verify_provenance",
]

SBOM: Final = "sbom.cdx.json"
PROVENANCE: Final = "provenance.dsse.json"
MODEL_SIGNATURE: Final = "model.sig"
SPEC: Final = "serving.json"
MAX_SPEC_BYTES: Final = 1024 * 1024


class _Spec(BaseModel):
    """The engine's folder in serving.json; `forge.serving.repository.spec` reads the rest."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    repository: str
    model: str


def verify_provenance(proofs: Path, manifest: Manifest, keys: ProofKeys) -> Provenance:
    """Verify that a trusted build key signed provenance of the manifest's tree, and return it.

    Raises TrustError, and StoreError if the disk fails.
    """
    data = _read(proofs / PROVENANCE, provenance.MAX_PROVENANCE_BYTES)
    return provenance.verify_provenance(data, keys, tree=manifest.tree.digest)


def verify_model_signature(proofs: Path, tree: Path, keys: ProofKeys) -> None:
    """Verify the engine in an unpacked tree against its signature.

    Raises TrustError, and StoreError if the disk fails.
    """
    data = _read(proofs / MODEL_SIGNATURE, model.MAX_SIGNATURE_BYTES)
    model.verify_model_signature(data, engine_folder(tree), keys)


def verify_accuracy(proofs: Path, manifest: Manifest, keys: ProofKeys) -> None:
    """Verify the accuracy receipt of the manifest's tree, if the bundle has one.

    Raises TrustError, and StoreError if the disk fails.
    """
    if (proofs / predicates.ACCURACY).exists():
        data = _read(proofs / predicates.ACCURACY, predicates.MAX_PREDICATE_BYTES)
        predicates.verify_predicate(
            data, keys, tree=manifest.tree.digest, predicate_type=predicates.ACCURACY_TYPE
        )


def engine_folder(tree: Path) -> Path:
    """Return the engine's folder in an unpacked model repository. Raises TrustError."""
    path = engine_path(_read(tree / SPEC, MAX_SPEC_BYTES))
    if not (tree / path).is_dir():
        raise TrustError("The bundle has no engine", why=f"folder {path} does not exist")
    return tree / path


def engine_path(spec: bytes) -> str:
    """Return the path of the engine's folder that serving.json names. Raises TrustError."""
    try:
        found = _Spec.model_validate_json(spec)
    except ValidationError as error:
        what = f"{SPEC} of the bundle is not valid"
        raise TrustError(what, why=validation_text(error)) from None
    return check_relative_path(f"{found.repository}/{found.model}/1/engine")


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        if error.errno not in WRONG_FILE:
            raise disk_error(f"The bundle's {path.name} cannot be read", str(path), error) from None
        raise TrustError(
            f"The bundle's {path.name} cannot be read",
            why=str(error.strerror),
            hint="do not use this bundle; contact its publisher",
        ) from None
    if len(data) > max_bytes:
        raise TrustError(f"{path.name} is larger than {max_bytes} bytes")
    return data
