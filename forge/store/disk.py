"""What a failing local disk means in words."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from forge.errors import StoreError

__all__ = ["WRONG_FILE", "DiskError", "disk_error", "disk_errors", "sweep_folder"]

_HINTS: Final = {
    errno.ENOSPC: "free some space there, for a store with 'forge store gc'",
    errno.EDQUOT: "free some of the quota there, for a store with 'forge store gc'",
    errno.EROFS: "mount it writable, or use another place",
    errno.EACCES: "change its owner or mode, or use another place",
    errno.EPERM: "change its owner or mode, or use another place",
    errno.EIO: "check the disk: the kernel's log says more",
    errno.ESTALE: "mount it again",
}
# What an OSError means of the files and not of the disk: one that is missing, or no file at all.
WRONG_FILE: Final = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}


class DiskError(StoreError):
    """A local file or folder that cannot be read or written."""


def disk_error(what: str, place: str, error: OSError) -> DiskError:
    """The error to raise for `error`: `what` happened, at `place`."""
    hint = _HINTS.get(error.errno or 0, "check that folder")
    return DiskError(what, why=f"{error.strerror or error} ({place})", hint=hint)


@contextlib.contextmanager
def disk_errors(what: str, place: object) -> Iterator[None]:
    """Turn an OSError of the body into a DiskError."""
    try:
        yield
    except OSError as error:
        raise disk_error(what, str(error.filename or place), error) from error


def sweep_folder(folder: Path, before: float) -> int:
    """Delete the files of a folder that were last written before a time; how many.

    None where there is no such folder. Raises OSError.
    """
    swept = 0
    if not folder.is_dir():
        return 0
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # its writer is done with it
            if path.stat().st_mtime < before:
                path.unlink()
                swept += 1
    return swept
