"""A cache of unpacked trees on this machine, for later steps and runs.

    FOLDER/<digest>/…           the tree
    FOLDER/<digest>.seen.json   state of each file when its bytes were last verified

A file whose state (inode, size, times) has changed since it was verified is hashed again, and a
tree that does not match its digest is unpacked again. Otherwise a build tool that writes to its
input, or an overwritten weights file, could get into a bundle that is signed under the old digest.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from forge import canonical
from forge.files import sha256_file, try_lock
from forge.store import Store, TreeEntry
from forge.store.progress import Progress

__all__ = ["FileStates", "TreeCache", "file_states"]

_MAX_SEEN_BYTES: Final = 64 * 1024 * 1024
_POLL_S: Final = 0.05

FileStates: TypeAlias = Mapping[str, list[int]]
"""Inode, size, mtime and ctime (ns) by path."""


def file_states(folder: Path) -> FileStates:
    """Return the current state of every file below `folder`."""
    return {
        path.relative_to(folder).as_posix(): _state(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@dataclass(frozen=True, slots=True)
class TreeCache:
    """A folder with unpacked trees of one store."""

    folder: Path
    store: Store

    def get(self, digest: str, progress: Progress | None = None) -> Path:
        """Return the folder of a stored tree, every byte of it verified.

        Waits for another step or run that unpacks the same tree: two profiles often have one.

        Args:
            digest: digest of the tree.
            progress: called during the download, and while another one is waited for, with (bytes
                done, bytes in total); may raise to cancel it.

        Raises:
            StoreError: the store is unreachable or damaged, or the disk is full.
        """
        kept = self.folder / digest
        with self._alone(digest, progress):
            if not kept.is_dir() or not self._whole(kept, digest):
                self._unpack(digest, kept, progress)
            os.utime(kept)
        return kept

    @contextlib.contextmanager
    def _alone(self, digest: str, progress: Progress | None) -> Iterator[None]:
        """Hold the lock of a tree, against other threads and processes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f".{digest}.lock").open("a") as lock:
            while not try_lock(lock):
                if progress is not None:
                    progress(0, self.store.tree(digest).size)
                time.sleep(_POLL_S)
            yield

    def adopt(self, digest: str, folder: Path, states: FileStates) -> None:
        """Add a folder that was just stored as this tree.

        Args:
            digest: digest of the tree.
            folder: the folder; it is moved here, unless the tree is cached already.
            states: of its files before they were read to be stored.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):  # another run has cached the same tree
            folder.rename(self.folder / digest)
            self._note(digest, states)

    def _whole(self, kept: Path, digest: str) -> bool:
        seen = self._seen(digest)
        entries = self.store.tree(digest).entries
        now: dict[str, list[int]] = {}
        for entry in entries:
            try:
                now[entry.path] = _state(kept / entry.path)
                if not _same(kept, entry, seen, now[entry.path]):
                    return False
            except OSError:
                return False
        if now != seen:
            self._note(digest, now)
        return len(file_states(kept)) == len(entries)

    def _unpack(self, digest: str, kept: Path, progress: Progress | None) -> None:
        damaged = self.folder / f".{digest}.{os.getpid()}.{time.monotonic_ns()}"
        with contextlib.suppress(FileNotFoundError):
            kept.rename(damaged)
        try:
            seeds = [damaged] if damaged.is_dir() else []
            self.store.unpack(digest, kept, seeds=seeds, progress=progress)
        finally:
            shutil.rmtree(damaged, ignore_errors=True)
        self._note(digest, file_states(kept))

    def _seen_file(self, digest: str) -> Path:
        return self.folder / f"{digest}.seen.json"

    def _seen(self, digest: str) -> FileStates:
        try:
            with self._seen_file(digest).open("rb") as file:
                found = json.loads(file.read(_MAX_SEEN_BYTES))
        except (OSError, ValueError):
            return {}  # everything is hashed again
        return found if isinstance(found, dict) else {}

    def _note(self, digest: str, states: FileStates) -> None:
        # Not synced: lost states only mean hashing again. Renamed: other runs may be reading it.
        temporary = self.folder / f".{digest}.seen.{os.getpid()}.{time.monotonic_ns()}"
        temporary.write_bytes(canonical.dumps(dict(states)))
        temporary.replace(self._seen_file(digest))


def _state(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _same(kept: Path, entry: TreeEntry, seen: FileStates, now: list[int]) -> bool:
    if seen.get(entry.path) == now:
        return True
    return now[1] == entry.size and sha256_file(kept / entry.path) == entry.sha256
