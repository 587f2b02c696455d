"""Seeds: local folders that may contain the same files or chunks."""

from __future__ import annotations

import bisect
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

from forge.files import sha256_file
from forge.store.formats.chunker import FileCutter
from forge.store.formats.tree import TreeEntry

__all__ = ["NearestFiles", "Seeds"]

_NEAREST: Final = 3  # files with another name that are searched for chunks
_File = TypeVar("_File")


class NearestFiles(Generic[_File]):
    """Selects the files that are searched for the chunks of another one. Pure."""

    def __init__(self) -> None:
        self._by_path: dict[str, list[_File]] = {}
        self._by_suffix: dict[str, list[tuple[int, _File]]] = {}

    def add(self, path: str, size: int, file: _File) -> None:
        """Add a file, by its path below the folder; none after `ready`."""
        self._by_path.setdefault(path, []).append(file)
        self._by_suffix.setdefault(Path(path).suffix, []).append((size, file))

    def ready(self) -> None:
        """Sort the files; after this, several threads may search at once."""
        for files in self._by_suffix.values():
            files.sort(key=_size)

    def at(self, path: str) -> Sequence[_File]:
        """Return the files with a path."""
        return self._by_path.get(path, ())

    def of(self, entry: TreeEntry) -> Sequence[_File]:
        """Return the files with its path, else those of its suffix that are nearest in size."""
        if same := self.at(entry.path):
            return same
        files = self._by_suffix.get(Path(entry.path).suffix, [])
        at = bisect.bisect_left(files, entry.size, key=_size)
        near = files[max(0, at - _NEAREST) : at + _NEAREST]
        near.sort(key=lambda file: abs(file[0] - entry.size))
        return [file for _, file in near[:_NEAREST]]


class Seeds:
    """The regular files below some folders. Unreadable files are ignored.

    Each file is hashed at most once, however many files of a tree have its size.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._by_size: dict[int, _EqualSize] = {}
        self._nearest: NearestFiles[Path] = NearestFiles()
        for folder in folders:
            for path, size in _files(folder):
                self._by_size.setdefault(size, _EqualSize()).add(path)
                self._nearest.add(path.relative_to(folder).as_posix(), size, path)
        self._nearest.ready()

    def whole(self, entry: TreeEntry) -> Path | None:
        """Return a file with exactly the bytes of the entry, hashed now; None if there is none."""
        files = self._by_size.get(entry.size)
        return files.find(entry.sha256, self._nearest.at(entry.path)) if files else None

    def chunks(
        self,
        entry: TreeEntry,
        wanted: Mapping[bytes, int],
        use: Callable[[bytes, memoryview], None],
    ) -> None:
        """Chunk the most similar files and pass each chunk whose digest is in `wanted` to `use`.

        `use` may remove digests from `wanted`; the search stops when it is empty.
        """
        for path in self._nearest.of(entry):
            if not wanted:
                return
            for digest, data in _readable(path):
                if digest in wanted:
                    use(digest, data)


class _EqualSize:
    """Files of one size: their digests as far as they are known."""

    def __init__(self) -> None:
        self._files: dict[Path, str | None] = {}
        self._by_digest: dict[str, Path] = {}
        self._left: list[Path] | None = None
        self._lock = threading.Lock()

    def add(self, path: Path) -> None:
        """Add a file; none after the first search."""
        self._files[path] = None

    def find(self, sha256: str, first: Iterable[Path]) -> Path | None:
        """Return a file with that digest, of `first` if one of them has it; None: there is none."""
        for path in first:
            if path in self._files and self._digest(path) == sha256:
                return path
        # One thread at a time: who does not find it would download what another is about to find.
        with self._lock:
            if self._left is None:
                self._left = [*reversed(self._files)]
            while sha256 not in self._by_digest and self._left:
                path = self._left.pop()
                self._by_digest.setdefault(self._digest(path), path)
            return self._by_digest.get(sha256)

    def _digest(self, path: Path) -> str:
        known = self._files[path]
        if known is None:
            try:
                known = sha256_file(path)
            except OSError:
                known = ""
            self._files[path] = known
        return known


def _size(file: tuple[int, object]) -> int:
    return file[0]


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
