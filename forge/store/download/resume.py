"""Partial files next to a folder while it is filled, so that the next run resumes there.

.NAME.partial    the folder being filled, with complete files only
.NAME.leftover   the .partial folder of the previous run; its files are linked into the new one
.NAME.parts      <sha256>/<path>: incomplete files, each chunk at its final position
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge.errors import ConflictError
from forge.store.disk_errors import DiskError
from forge.store.download.out_of_order_file import OutOfOrderFile
from forge.store.download.ranges import Piece
from forge.store.formats.tree import TreeEntry

__all__ = ["Partial", "check_space", "full_disk", "resume_chunks", "staging"]

# Bytes of incomplete chunks in memory at once; an earlier run may have left more than six of them.
_HEADS: Final = 16 * 1024 * 1024
_SPARE_BYTES: Final = 4 * 1024 * 1024  # kept free in addition to the tree
_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Partial:
    """Folders that a run writes to, and those that the previous run left."""

    folder: Path
    leftover: Path
    parts: Path

    def part(self, entry: TreeEntry) -> Path:
        """Return the path of a file until it is complete."""
        return self.parts / entry.sha256 / entry.path

    def other_partials(self, entries: Collection[TreeEntry]) -> list[Path]:
        """Return folders with incomplete files of another tree, which may have equal chunks."""
        known = {entry.sha256 for entry in entries}
        if not self.parts.is_dir():
            return []
        return [folder for folder in self.parts.iterdir() if folder.name not in known]


@contextlib.contextmanager
def staging(destination: Path) -> Iterator[Partial]:
    """Yield the folders to fill; all of them are deleted after success.

    They are deleted after a disk error as well, so that they do not keep a full disk full. Raises
    OSError, and ConflictError while another process fills the same folder.
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


def resume_chunks(
    file: OutOfOrderFile,
    pieces: Iterator[Piece],
    wanted: dict[bytes, int],
    resumed: Callable[[int], None],
) -> dict[bytes, bytes]:
    """Keep what an earlier run wrote of a file, and return the bytes of its incomplete chunks.

    Args:
        file: the file, as the earlier run left it.
        pieces: its missing chunks, in file order.
        wanted: position by digest; complete chunks are removed from it.
        resumed: called with the length of each complete chunk.

    Returns:
        The first bytes of incomplete chunks, by digest of the chunk.
    """
    heads, held = dict[bytes, bytes](), 0
    for piece in pieces:
        chunk = piece.chunk
        head = file.found(piece.position, chunk.length, chunk.digest)
        if head is None:
            del wanted[chunk.digest]
            resumed(chunk.length)
        elif head and held < _HEADS:
            heads[chunk.digest] = head
            held += len(head)
    return heads


def check_space(where: Partial, missing: Collection[TreeEntry]) -> None:
    """Raise DiskError unless the disk has space for the missing files.

    Incomplete files of another tree only save downloads, so they are deleted first if space is
    short.
    """
    needed = _needed(where, missing)
    if _free(where.folder) < needed:
        for folder in (where.leftover, *where.other_partials(missing)):
            shutil.rmtree(folder, ignore_errors=True)
    status = os.statvfs(where.folder)
    free = status.f_bavail * status.f_frsize
    if free < needed:
        why = (
            f"requires {_mib(needed)} MiB with a reserve of 4 MiB, {free // _MIB} MiB are free: "
            f"{_mib(needed) - free // _MIB} MiB are missing"
        )
        raise DiskError(
            f"Not enough space in {where.folder.parent}", why=why, hint="free some disk space"
        )
    if status.f_files and status.f_favail < len(missing):
        why = f"requires {len(missing)} inodes, {status.f_favail} are free"
        hint = "delete some files"
        raise DiskError(f"Not enough inodes in {where.folder.parent}", why=why, hint=hint)


def _needed(where: Partial, missing: Collection[TreeEntry]) -> int:
    block = os.statvfs(where.folder).f_frsize
    sizes = (-(-one.size // block) * block - _allocated(where.part(one)) for one in missing)
    return _SPARE_BYTES + sum(sizes)


def _free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def full_disk(destination: Path, size: int, error: OSError) -> DiskError | None:
    """Return the error for a disk that filled up during the download, or None for other errors.

    Args:
        destination: the folder that was filled; its partial files are deleted already.
        size: bytes of the whole tree.
        error: the error raised.
    """
    if error.errno not in _FULL:
        return None
    status = os.statvfs(destination.parent)
    free = status.f_bavail * status.f_frsize
    needed = _mib(size + _SPARE_BYTES)
    why = (
        f"{error.strerror}: requires up to {needed} MiB, {free // _MIB} MiB are free, "
        f"{max(0, needed - free // _MIB)} MiB are missing"
    )
    return DiskError(f"{destination} cannot be written", why=why, hint="free some disk space")


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
        hint = "wait for it to finish, or unpack to another folder"
        raise ConflictError(f"Another process is filling {folder}", hint=hint) from None
    finally:
        os.close(descriptor)
