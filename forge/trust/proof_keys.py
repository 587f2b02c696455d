"""The public keys that proofs are checked with, signed by the offline targets role.

A key stays in the list when it is rotated, so that bundles proved with it can still be installed,
and leaves it when it is revoked.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge import canonical
from forge.bundle import Digest
from forge.errors import TrustError

__all__ = ["MAX_PROOF_KEYS_BYTES", "BuildKey", "ProofKeys", "parse_proof_keys"]

MAX_PROOF_KEYS_BYTES = 256 * 1024


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BuildKey(_Document):
    """A key that signs provenance, as TUF writes keys."""

    keyid: Digest
    keytype: str
    scheme: str
    public: str


class ProofKeys(_Document):
    """Every key a proof may be signed with."""

    schema_version: Literal[1] = 1
    build: tuple[BuildKey, ...]
    model: tuple[str, ...] = Field(description="PEM, SubjectPublicKeyInfo, EC")

    def encode(self) -> bytes:
        """Canonical bytes."""
        return canonical.dumps(self.model_dump(mode="json"))


def parse_proof_keys(data: bytes) -> ProofKeys:
    """The key list from its bytes. Raises TrustError."""
    try:
        return ProofKeys.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise TrustError(
            "The list of proof keys is not valid",
            why=f"{place}: {first['msg']}",
            hint="it was made by a newer Forge or is damaged: update Forge on this machine",
        ) from None
