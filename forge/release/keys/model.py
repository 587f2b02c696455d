"""Documents of a keyring: `keys.json` and its parts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from forge import canonical
from forge.bundle import Digest
from forge.errors import UsageError

if TYPE_CHECKING:
    from securesystemslib.signer import Key

__all__ = ["Expiry", "KeyEntry", "KeysFile", "Role", "read_capped"]

Role = Literal["root", "targets", "bundles", "channels", "online", "model"]
_MAX_FILE_BYTES: Final = 1024 * 1024


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Expiry(_Document):
    """Validity of each role's signatures, in days."""

    root: int = Field(default=365, ge=1)
    targets: int = Field(default=365, ge=1)
    bundles: int = Field(default=90, ge=1)
    channels: int = Field(default=90, ge=1)
    snapshot: int = Field(default=30, ge=1)
    timestamp: int = Field(default=7, ge=1)

    def of(self, role: str) -> timedelta:
        """Return the validity of one role's metadata."""
        return timedelta(days=getattr(self, role))


class KeyEntry(_Document):
    """One key: its role, the URI of the private key, and the public key as TUF writes it."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,40}$")
    role: Role
    uri: str = Field(pattern=r"^[a-z0-9+-]+:.+$")
    keyid: Digest
    keytype: str
    scheme: str
    public: str

    def public_key(self) -> Key:
        """Return the public key for securesystemslib and python-tuf."""
        from securesystemslib.signer import Key

        fields = {"keytype": self.keytype, "scheme": self.scheme, "keyval": {"public": self.public}}
        return Key.from_dict(self.keyid, fields)


class KeysFile(_Document):
    """Contents of `keys.json`."""

    schema_version: Literal[1] = 1
    created: str
    expiry_days: Expiry
    keys: tuple[KeyEntry, ...]

    def encode(self) -> bytes:
        """Return the canonical JSON bytes."""
        return canonical.dumps(self.model_dump(mode="json"))


def read_capped(path: Path) -> bytes:
    """Return the bytes of a small file.

    Raises:
        UsageError: the file cannot be read, or has more than 1 MiB.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"Cannot read {path}", why=str(error)) from None
    if len(data) > _MAX_FILE_BYTES:
        raise UsageError(f"{path} is larger than {_MAX_FILE_BYTES} bytes")
    return data
