"""Durable writes, links and copies of files, and validation of relative paths."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import IO

from forge.errors import TrustError

__all__ = [
    "check_paths",
    "check_relative_path",
    "clone_or_copy",
    "fsync_directory",
    "link_or_copy",
    "sha256_file",
    "try_lock",
    "write_durably",
]

_MAX_PATH_BYTES = 1024
# Another file system, one without links, too many links, or links to others' files forbidden.
_CANNOT_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}
_FICLONE = 0x40049409  # from linux/fs.h
_COPY_BYTES = 1024 * 1024
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def fsync_directory(path: Path) -> None:
    """Sync a directory, so that renames and deletions in it are durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace a file atomically, so that a power cut leaves the old bytes or the new ones.

    Writes a temporary file in the same folder, syncs it, renames it and syncs the folder. Raises
    OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
    fsync_directory(path.parent)


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link `source` as `target`, or copy it if links are not possible. Raises OSError."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        clone_or_copy(source, target)


def clone_or_copy(source: Path, target: Path) -> None:
    """Copy `source` to `target`, as a reflink if possible.

    On btrfs and xfs both files share blocks until one is written to. Raises OSError.
    """
    with source.open("rb") as old, target.open("wb") as new:
        try:
            fcntl.ioctl(new, _FICLONE, old.fileno())
        except OSError:  # another file system, or one without reflinks
            shutil.copyfileobj(old, new, _COPY_BYTES)


def sha256_file(path: Path) -> str:
    """Return the lower-case hex SHA-256 of a file, read in 1 MiB blocks. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_relative_path(path: str) -> str:
    """Return `path` if it is safe to create below a folder, else raise TrustError.

    Not safe are paths that are empty, absolute or longer than 1024 bytes, and those with `.` or
    `..` parts, backslashes, control characters or text that is not in NFC.
    """
    parts = path.split("/")
    reason = ""
    if not path or path.startswith("/") or PurePosixPath(path).is_absolute():
        reason = "it is empty or absolute"
    elif any(part in {"", ".", ".."} for part in parts):
        reason = "it has an empty part, '.' or '..'"
    elif "\\" in path or _CONTROL.search(path):
        reason = "it has a backslash or a control character"
    elif unicodedata.normalize("NFC", path) != path:
        reason = "it is not in Unicode NFC"
    elif len(path.encode("utf-8", "surrogatepass")) > _MAX_PATH_BYTES:
        reason = f"it is longer than {_MAX_PATH_BYTES} bytes"
    if reason:
        message = f"Unsafe path {path!r} in a manifest"
        raise TrustError(message, why=reason, hint="do not use this bundle; contact its publisher")
    return path


def check_paths(paths: Iterable[str]) -> None:
    """Check each path, and that no two conflict on a case-insensitive disk or as file and folder.

    Raises TrustError.
    """
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in paths:
        check_relative_path(path)
        parents = [str(parent) for parent in PurePosixPath(path).parents][:-1]
        clash = files.get(path.casefold()) or folders.get(path.casefold())
        for parent in parents:
            known = folders.setdefault(parent.casefold(), parent)
            clash = clash or files.get(parent.casefold()) or (known if known != parent else None)
        if clash:
            message = f"Unsafe path {path!r} in a manifest"
            hint = "do not use this bundle; contact its publisher"
            raise TrustError(message, why=f"it conflicts with {clash!r}", hint=hint)
        files[path.casefold()] = path


def try_lock(file: IO[str]) -> bool:
    """Take the exclusive lock of an open file, unless a thread or process has it; never waits."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
