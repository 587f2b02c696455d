"""What an error of the disk below the state directory means, as an error with a hint."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Final

from forge.errors import ConfigurationError, ForgeError, StoreError

__all__ = ["as_forge_error", "free_mib", "unreadable", "unwritable"]

_CHECK_DISK: Final = "see what dmesg says of the disk, check its file system and mount it writable"
_DISK_HINTS: Final = {
    errno.ENOSPC: "free disk space",
    errno.EDQUOT: "free disk space",
    errno.EROFS: _CHECK_DISK,
    errno.EIO: _CHECK_DISK,
    errno.EUCLEAN: _CHECK_DISK,
}


def unwritable(path: Path, error: OSError) -> ForgeError:
    """Return StoreError for a disk that is full or fails, else ConfigurationError."""
    kind = StoreError if error.errno in _DISK_HINTS else ConfigurationError
    message = f"The device's state folder {path} cannot be written"
    hint = _DISK_HINTS.get(error.errno or 0, "fix the folder's permissions")
    return kind(message, why=str(error), hint=f"{hint}; the active slot is untouched")


def unreadable(path: Path, error: OSError) -> ForgeError:
    """Return StoreError for a disk that fails, else ConfigurationError."""
    kind = StoreError if error.errno == errno.EIO else ConfigurationError
    message = f"The device's state folder {path} cannot be read"
    denied = error.errno in {errno.EACCES, errno.EPERM}
    hint = "run as root or as the agent's user" if denied else "see what dmesg says of the disk"
    return kind(message, why=str(error), hint=f"{hint}; nothing was changed")


def as_forge_error(path: Path, error: ForgeError | OSError) -> ForgeError:
    """Return the error itself, or what an OSError means for an action of the agent."""
    if isinstance(error, ForgeError):
        return error
    message = f"The device could not read or write below {path}"
    hint = f"{free_mib(path)} MiB are free there; see what dmesg says of the disk; it is retried"
    return StoreError(message, why=str(error), hint=hint)


def free_mib(path: Path) -> int:
    """Return the free disk space for the state directory, MiB; 0 if it cannot be read."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(path).free // 2**20
    except OSError:
        return 0
