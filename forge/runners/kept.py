"""Trees that lie unpacked on this machine, kept for later steps and runs.

    FOLDER/<digest>/…           the tree
    FOLDER/<digest>.seen.json   what each file looked like when its bytes were last checked

A kept tree is believed only file by file: one that looks other than it did when its bytes were
checked (inode, size, times of change) is hashed again, and a tree that is not what its digest says
is unpacked anew. A build tool that writes into its input, or a weights file that is overwritten,
must not end in a bundle signed under the old digest.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from forge import canonical
from forge.files import sha256_file
from forge.store import Store, TreeEntry

__all__ = ["KeptTrees", "Looks", "looks_of"]

_MAX_SEEN_BYTES: Final = 64 * 1024 * 1024
_KEPT_S: Final = 14 * 24 * 3600.0  # a tree no run asked for this long is deleted

Looks: TypeAlias = Mapping[str, list[int]]
"""Inode, size, mtime and ctime (ns) by path."""


def looks_of(folder: Path) -> Looks:
    """What every file below `folder` looks like now."""
    return {
        path.relative_to(folder).as_posix(): _look(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@dataclass(frozen=True, slots=True)
class KeptTrees:
    """A folder of unpacked trees of one store."""

    folder: Path
    store: Store

    def get(self, digest: str, check: Callable[[], None] = lambda: None) -> Path:
        """The folder of a stored tree, every byte of it verified.

        Args:
            digest: of the tree.
            check: called while it is fetched; may raise to end that.

        Raises:
            StoreError: the store is out of reach or damaged, or the disk is full.
        """
        kept = self.folder / digest
        if not kept.is_dir() or not self._whole(kept, digest):
            self._unpack(digest, kept, check)
        os.utime(kept)
        return kept

    def adopt(self, digest: str, folder: Path, looks: Looks) -> None:
        """Keep a folder that was stored as this tree just now.

        Args:
            digest: of the tree.
            folder: moved here, unless the tree is kept already.
            looks: of its files before they were read to be stored.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):  # another run keeps the same tree already
            folder.rename(self.folder / digest)
            self._note(digest, looks)

    def trim(self, now: float) -> None:
        """Delete what no run has asked for in two weeks."""
        for kept in self.folder.glob("*") if self.folder.is_dir() else ():
            with contextlib.suppress(OSError):
                if kept.is_dir() and kept.stat().st_mtime < now - _KEPT_S:
                    shutil.rmtree(kept)
                    self._seen_file(kept.name).unlink(missing_ok=True)

    def _whole(self, kept: Path, digest: str) -> bool:
        seen = self._seen(digest)
        entries = self.store.tree(digest).entries
        now: dict[str, list[int]] = {}
        for entry in entries:
            try:
                now[entry.path] = _look(kept / entry.path)
                if not _same(kept, entry, seen, now[entry.path]):
                    return False
            except OSError:
                return False
        if now != seen:
            self._note(digest, now)
        return len(looks_of(kept)) == len(entries)

    def _unpack(self, digest: str, kept: Path, check: Callable[[], None]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        damaged = self.folder / f".{digest}.{os.getpid()}.{time.monotonic_ns()}"
        with contextlib.suppress(FileNotFoundError):
            kept.rename(damaged)
        try:
            seeds = [damaged] if damaged.is_dir() else []
            self.store.unpack(digest, kept, seeds=seeds, progress=lambda _done, _all: check())
        finally:
            shutil.rmtree(damaged, ignore_errors=True)
        self._note(digest, looks_of(kept))

    def _seen_file(self, digest: str) -> Path:
        return self.folder / f"{digest}.seen.json"

    def _seen(self, digest: str) -> Looks:
        try:
            with self._seen_file(digest).open("rb") as file:
                found = json.loads(file.read(_MAX_SEEN_BYTES))
        except (OSError, ValueError):
            return {}  # everything is hashed again
        return found if isinstance(found, dict) else {}

    def _note(self, digest: str, looks: Looks) -> None:
        # Not durable: what is lost is hashed again. Renamed: another run may read it now.
        temporary = self.folder / f".{digest}.seen.{os.getpid()}.{time.monotonic_ns()}"
        temporary.write_bytes(canonical.dumps(dict(looks)))
        temporary.replace(self._seen_file(digest))


def _look(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _same(kept: Path, entry: TreeEntry, seen: Looks, now: list[int]) -> bool:
    if seen.get(entry.path) == now:
        return True
    return now[1] == entry.size and sha256_file(kept / entry.path) == entry.sha256
