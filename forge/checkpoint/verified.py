"""What was verified of a checkpoint's signature: the format of signature.json.

The step that fetches the checkpoint writes it as an output of its own, so that its digest is in the
chain of the manifest and in the provenance; it is signed with the bundle as checkpoint.dsse.json
(forge.trust.predicates).
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["RECORD", "VerifiedSignature"]

RECORD: Final = "signature.json"
_SHOWN: Final = 16  # digits of a digest in a table


class VerifiedSignature(BaseModel):
    """What was verified of a checkpoint's signature; stored and signed with a bundle."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    checkpoint: str = Field(
        pattern="^[0-9a-f]{64}$", description="digest of the files, as their URL pins it"
    )
    method: Literal["key", "certificate"]
    identity: str = Field(description="that the certificate has; empty for a key")
    fingerprint: str = Field(
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 of the key (DER, SubjectPublicKeyInfo) or of the certificate (DER)",
    )
    signature_sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the signature's file")
    files: int = Field(ge=1, description="number of files of the checkpoint, all of them signed")

    @property
    def text(self) -> str:
        """Return it in one line, for tables."""
        who = f"{self.identity}, certificate" if self.identity else "key"
        return (
            f"by {who} sha256:{self.fingerprint[:_SHOWN]}, {self.files} files,"
            f" signature {self.signature_sha256[:_SHOWN]}"
        )
