"""The public keys that verify proofs, signed by the offline targets role.

A rotated key stays in the list, so that bundles signed with it can still be installed. A revoked
key is removed.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge import canonical
from forge.bundle import Digest
from forge.errors import TrustError
from forge.validation import validation_text

__all__ = ["MAX_PROOF_KEYS_BYTES", "BuildKey", "ProofKeys", "parse_proof_keys"]

MAX_PROOF_KEYS_BYTES = 256 * 1024


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BuildKey(_Document):
    """A key that signs provenance, in TUF's key format."""

    keyid: Digest
    keytype: str
    scheme: str
    public: str


class ProofKeys(_Document):
    """All keys that may sign a proof."""

    schema_version: Literal[1] = 1
    build: tuple[BuildKey, ...]
    model: tuple[str, ...] = Field(description="PEM, SubjectPublicKeyInfo, EC")

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return canonical.dumps(self.model_dump(mode="json"))


def parse_proof_keys(data: bytes) -> ProofKeys:
    """Parse the key list. Raises TrustError."""
    try:
        return ProofKeys.model_validate_json(data)
    except ValidationError as error:
        raise TrustError(
            "The list of proof keys is not valid",
            why=validation_text(error),
            hint="it is damaged or from a newer version of Forge: update Forge on this machine",
        ) from None
