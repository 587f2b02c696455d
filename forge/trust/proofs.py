"""The proofs that travel with a bundle, as files beside it.

    PROOFS/sbom.cdx.json           CycloneDX
    PROOFS/provenance.dsse.json    SLSA v1 provenance, signed with the build key
    PROOFS/model.sig               OpenSSF Model Signing signature over the engine folder

Made by `forge.release.prove`, verified by a device before it starts anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from forge.bundle import Manifest
from forge.errors import TrustError
from forge.files import check_relative_path
from forge.store.disk import WRONG_FILE, disk_error
from forge.trust import model, provenance
from forge.trust.proof_keys import ProofKeys
from forge.trust.provenance import Provenance

__all__ = [
    "MODEL_SIGNATURE",
    "PROVENANCE",
    "SBOM",
    "engine_folder",
    "verify_model_signature",
    "verify_provenance",
]

SBOM: Final = "sbom.cdx.json"
PROVENANCE: Final = "provenance.dsse.json"
MODEL_SIGNATURE: Final = "model.sig"
_SPEC: Final = "serving.json"
_MAX_SPEC_BYTES: Final = 1024 * 1024


class _Spec(BaseModel):
    """Where the engine lies; the rest of serving.json is `forge.serving.spec`'s."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    repository: str
    model: str


def verify_provenance(proofs: Path, manifest: Manifest, keys: ProofKeys) -> Provenance:
    """Verify that a trusted build key vouches for the manifest's tree.

    Raises TrustError, and StoreError for a disk that fails.
    """
    data = _read(proofs / PROVENANCE, provenance.MAX_PROVENANCE_BYTES)
    return provenance.verify_provenance(data, keys, tree=manifest.tree.digest)


def verify_model_signature(
    proofs: Path, tree: Path, keys: ProofKeys, *, work: Path | None = None
) -> None:
    """Verify the engine in an unpacked tree against its signature; `work` as in forge.trust.model.

    Raises TrustError, and StoreError for a disk that fails.
    """
    data = _read(proofs / MODEL_SIGNATURE, model.MAX_SIGNATURE_BYTES)
    model.verify_model_signature(data, engine_folder(tree), keys, work=work)


def engine_folder(tree: Path) -> Path:
    """Where the engine lies in an unpacked model repository. Raises TrustError."""
    try:
        spec = _Spec.model_validate_json(_read(tree / _SPEC, _MAX_SPEC_BYTES))
    except ValidationError as error:
        raise TrustError(f"{_SPEC} of the bundle is not valid", why=str(error)) from None
    path = check_relative_path(f"{spec.repository}/{spec.model}/1/engine")
    if not (tree / path).is_dir():
        raise TrustError("The bundle holds no engine", why=f"there is no folder {path}")
    return tree / path


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        if error.errno not in WRONG_FILE:
            raise disk_error(f"The bundle's {path.name} cannot be read", str(path), error) from None
        raise TrustError(
            f"The bundle has no readable {path.name}",
            why=str(error.strerror),
            hint="do not use this bundle; report its publisher",
        ) from None
    if len(data) > max_bytes:
        raise TrustError(f"{path.name} is larger than {max_bytes} bytes")
    return data
