"""What lies beside a folder while it is made, so that the next run goes on where this one ended.

.NAME.partial    the folder being filled: whole files only
.NAME.leftover   the same of the run before; its files are linked into the new one
.NAME.parts      <sha256>/<path>: files not whole yet; each chunk is found again in its place
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge.errors import ConflictError
from forge.store.disk import DiskError
from forge.store.trees import TreeEntry

__all__ = ["Partial", "check_space", "full_disk", "making"]

_SPARE_BYTES: Final = 4 * 1024 * 1024  # left free beside the tree
_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Partial:
    """Where a run writes, and what the one before left it."""

    folder: Path
    leftover: Path
    parts: Path

    def part(self, entry: TreeEntry) -> Path:
        """Where a file is kept until it is whole."""
        return self.parts / entry.sha256 / entry.path

    def strangers(self, entries: Collection[TreeEntry]) -> list[Path]:
        """Folders with unfinished files of another tree: they may have equal chunks."""
        known = {entry.sha256 for entry in entries}
        if not self.parts.is_dir():
            return []
        return [folder for folder in self.parts.iterdir() if folder.name not in known]


@contextlib.contextmanager
def making(destination: Path) -> Iterator[Partial]:
    """The folder to fill; nothing is left beside it after success.

    After a full disk neither: what is left must not keep it full. Raises OSError; ConflictError
    while another process does the same.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    kinds = ("partial", "leftover", "parts")
    where = Partial(*(destination.parent / f".{destination.name}.{kind}" for kind in kinds))
    if where.folder.is_dir():
        with _locked(where.folder):
            shutil.rmtree(where.leftover, ignore_errors=True)
            where.folder.rename(where.leftover)
    where.folder.mkdir()
    with _locked(where.folder):
        try:
            yield where
        except (OSError, DiskError):
            for left in (where.folder, where.leftover, where.parts):
                shutil.rmtree(left, ignore_errors=True)
            raise
    for left in (where.leftover, where.parts):
        shutil.rmtree(left, ignore_errors=True)


def check_space(where: Partial, missing: Collection[TreeEntry]) -> None:
    """Raise DiskError unless the disk takes all these files beside what is there of them.

    What is left of another tree only spares downloads: where room is short it is deleted first.
    """
    needed = _needed(where, missing)
    if _free(where.folder) < needed:
        for folder in (where.leftover, *where.strangers(missing)):
            shutil.rmtree(folder, ignore_errors=True)
    status = os.statvfs(where.folder)
    free = status.f_bavail * status.f_frsize
    if free < needed:
        why = (
            f"{_mib(needed)} MiB are needed, 4 of them to spare, and {free // _MIB} MiB are free: "
            f"{_mib(needed) - free // _MIB} MiB are missing"
        )
        raise DiskError(f"{where.folder.parent} is too full", why=why, hint="free some space there")
    if status.f_files and status.f_favail < len(missing):
        why = f"{len(missing)} files are needed and it takes {status.f_favail} more"
        hint = "delete some files there"
        raise DiskError(f"{where.folder.parent} is too full", why=why, hint=hint)


def _needed(where: Partial, missing: Collection[TreeEntry]) -> int:
    block = os.statvfs(where.folder).f_frsize
    sizes = (-(-one.size // block) * block - _allocated(where.part(one)) for one in missing)
    return _SPARE_BYTES + sum(sizes)


def _free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def full_disk(destination: Path, size: int, error: OSError) -> DiskError | None:
    """The error to raise for a disk that filled up meanwhile; None if `error` is another one.

    Args:
        destination: the folder that was made; what was left of it is deleted already.
        size: bytes of the whole tree.
        error: as it was raised.
    """
    if error.errno not in _FULL:
        return None
    status = os.statvfs(destination.parent)
    free = status.f_bavail * status.f_frsize
    needed = _mib(size + _SPARE_BYTES)
    why = (
        f"{error.strerror}: it takes up to {needed} MiB and {free // _MIB} MiB are free now, "
        f"{max(0, needed - free // _MIB)} MiB too few"
    )
    return DiskError(f"{destination} cannot be written", why=why, hint="free some space there")


def _mib(count: int) -> int:
    return -(-count // _MIB)


def _allocated(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        hint = "wait for it, or unpack to another folder"
        raise ConflictError(f"Another process is filling {folder}", hint=hint) from None
    finally:
        os.close(descriptor)
