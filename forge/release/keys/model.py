"""Documents of a keyring: `keys.json` and its parts."""

from __future__ import annotations

import os
import shlex
import stat
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from forge import canonical
from forge.bundle import Digest
from forge.errors import UsageError

if TYPE_CHECKING:
    from securesystemslib.signer import Key

__all__ = ["Expiry", "KeyEntry", "KeysFile", "Role", "check_private", "read_capped"]

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


def read_capped(path: Path, *, private: bool = False) -> bytes:
    """Return the bytes of a small file.

    Args:
        path: the file.
        private: refuse a file that other users may open, as `check_private`.

    Raises:
        UsageError: the file cannot be read, has more than 1 MiB, or others may open it.
    """
    try:
        with path.open("rb") as file:
            if private:
                check_private(path, os.fstat(file.fileno()))
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"Cannot read {path}", why=str(error)) from None
    if len(data) > _MAX_FILE_BYTES:
        raise UsageError(f"{path} is larger than {_MAX_FILE_BYTES} bytes")
    return data


def check_private(path: Path, found: os.stat_result) -> None:
    """Refuse a secret file that other users may open; ssh refuses such keys, too.

    A group may be allowed in the file of another owner: systemd gives a service its credentials so.

    Raises:
        UsageError: the mode of the file is too open.
    """
    mine = found.st_uid == os.geteuid()
    if found.st_mode & (0o077 if mine else 0o007):
        raise UsageError(
            f"Other users can open {path}",
            why=f"its mode is {stat.S_IMODE(found.st_mode):04o}",
            hint=f"chmod 600 {shlex.quote(str(path))}  # on a disk without modes (FAT): mount it "
            "with umask=077",
        )
