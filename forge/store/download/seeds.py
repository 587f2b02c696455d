"""Seeds: local folders that may contain the same files or chunks."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from forge.files import sha256_file
from forge.store.formats.chunker import FileCutter
from forge.store.formats.tree import TreeEntry

__all__ = ["Seeds"]

_NEAREST: Final = 3  # files with another name that are searched for chunks


class Seeds:
    """The regular files below some folders. Unreadable files are ignored."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._by_size: dict[int, list[Path]] = {}
        self._by_path: dict[str, list[Path]] = {}
        self._digests: dict[Path, str] = {}
        self._lock = threading.Lock()
        for folder in folders:
            for path, size in _files(folder):
                self._by_size.setdefault(size, []).append(path)
                relative = path.relative_to(folder).as_posix()
                self._by_path.setdefault(relative, []).append(path)

    def whole(self, entry: TreeEntry) -> Path | None:
        """Return a file with exactly the bytes of the entry, hashed now; None if there is none."""
        same_path = self._by_path.get(entry.path, [])
        candidates = self._by_size.get(entry.size, [])
        for path in sorted(candidates, key=lambda one: one not in same_path):
            if self._digest(path) == entry.sha256:
                return path
        return None

    def chunks(
        self,
        entry: TreeEntry,
        wanted: Mapping[bytes, int],
        use: Callable[[bytes, memoryview], None],
    ) -> None:
        """Chunk the most similar files and pass each chunk whose digest is in `wanted` to `use`.

        `use` may remove digests from `wanted`; the search stops when it is empty.
        """
        for path in self._likely(entry):
            if not wanted:
                return
            for digest, data in _readable(path):
                if digest in wanted:
                    use(digest, data)

    def _likely(self, entry: TreeEntry) -> list[Path]:
        same = self._by_path.get(entry.path)
        if same:
            return same
        suffix = Path(entry.path).suffix
        sizes = sorted(self._by_size, key=lambda size: abs(size - entry.size))
        near = (path for size in sizes for path in self._by_size[size] if path.suffix == suffix)
        return [path for path, _ in zip(near, range(_NEAREST), strict=False)]

    def _digest(self, path: Path) -> str:
        with self._lock:
            known = self._digests.get(path)
        if known is None:
            try:
                known = sha256_file(path)
            except OSError:
                known = ""
            with self._lock:
                self._digests[path] = known
        return known


def _readable(path: Path) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the chunks of a file up to a read error; the store has the others.

    Only reading is guarded: a full disk at the destination must not look like a bad seed.
    """
    chunks = iter(FileCutter(path))
    while True:
        try:
            found = next(chunks, None)
        except OSError:
            return
        if found is None:
            return
        yield found


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                size = path.stat().st_size
                if size:
                    yield path, size
