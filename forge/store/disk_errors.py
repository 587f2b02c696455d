"""Errors of the local disk, with a hint for each cause."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from forge.errors import StoreError

__all__ = ["WRONG_FILE", "DiskError", "disk_error", "disk_errors", "sweep_folder"]

_HINTS: Final = {
    errno.ENOSPC: "free some disk space; for a store, run 'forge store gc'",
    errno.EDQUOT: "free some of the disk quota; for a store, run 'forge store gc'",
    errno.EROFS: "mount it writable, or use another folder",
    errno.EACCES: "change its owner or mode, or use another folder",
    errno.EPERM: "change its owner or mode, or use another folder",
    errno.EIO: "check the disk and the kernel log",
    errno.ESTALE: "mount it again",
}
# Errors of the files and not of the disk: a missing file, or something that is not a file.
WRONG_FILE: Final = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}


class DiskError(StoreError):
    """A local file or folder that cannot be read or written."""


def disk_error(what: str, place: str, error: OSError) -> DiskError:
    """Return the DiskError for an OSError.

    Args:
        what: what happened, one sentence.
        place: the file or folder.
        error: the cause.
    """
    hint = _HINTS.get(error.errno or 0, "check that folder")
    return DiskError(what, why=f"{error.strerror or error} ({place})", hint=hint)


@contextlib.contextmanager
def disk_errors(what: str, place: object) -> Iterator[None]:
    """Raise an OSError of the body as DiskError; the arguments are those of `disk_error`."""
    try:
        yield
    except OSError as error:
        raise disk_error(what, str(error.filename or place), error) from error


def sweep_folder(folder: Path, before: float) -> int:
    """Delete the files of a folder that were last written before a time; return their number.

    Returns 0 if the folder does not exist. Raises OSError.
    """
    swept = 0
    if not folder.is_dir():
        return 0
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # its writer deleted it
            if path.stat().st_mtime < before:
                path.unlink()
                swept += 1
    return swept
