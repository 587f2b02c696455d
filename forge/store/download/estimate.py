"""Estimate what a download will fetch, from the chunk lists in the store, without fetching it.

The same rules as `forge.store.download.downloader`: files that the device has are linked, chunks of
similar files are copied, the rest is requested in ranges. Damage, retries and what an interrupted
run left are not foreseen.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from forge.store.backends.protocol import Objects
from forge.store.download.downloader import WINDOW
from forge.store.download.ranges import Piece, coalesce, every_piece
from forge.store.download.reader import Reader
from forge.store.download.seeds import SimilarFiles
from forge.store.formats.chunk_list import ChunkList
from forge.store.formats.tree import SMALL, Tree, TreeEntry

__all__ = ["DownloadEstimate", "estimate_download"]


@dataclass(frozen=True, slots=True)
class DownloadEstimate:
    """Cost of a download.

    Attributes:
        files: files that are not linked.
        chunks: chunks to fetch; a file of at most 16 KiB counts as one.
        bytes: bytes to fetch, those of the chunk lists and of the gaps within a request included.
        requests: number of requests.
        size: bytes of the whole tree.
    """

    files: int = 0
    chunks: int = 0
    bytes: int = 0
    requests: int = 0
    size: int = 0

    def __add__(self, other: Self) -> DownloadEstimate:
        """Return the cost of both."""
        return DownloadEstimate(
            self.files + other.files,
            self.chunks + other.chunks,
            self.bytes + other.bytes,
            self.requests + other.requests,
            self.size + other.size,
        )


def estimate_download(objects: Objects, tree: Tree, held: Tree | None = None) -> DownloadEstimate:
    """Return what unpacking a tree fetches on a device that has another one.

    Args:
        objects: the store, from which only chunk lists are read.
        tree: what is unpacked.
        held: what the device has; None: nothing.

    Raises:
        CorruptedError: a chunk list is damaged or missing.
        StoreError: the store cannot be reached.
    """
    return _Estimator(objects, held.entries if held else ()).run(tree)


class _Estimator:
    def __init__(self, objects: Objects, held: Iterable[TreeEntry]) -> None:
        self._bytes = 0
        self._requests = 0
        self._reader = Reader(objects, self._count)
        self._held = {entry.sha256 for entry in held if entry.size}
        self._similar = SimilarFiles[TreeEntry]()
        for entry in held:
            if entry.size:
                self._similar.add(entry.path, entry.size, entry)

    def run(self, tree: Tree) -> DownloadEstimate:
        missing = [one for one in tree.entries if one.sha256 not in self._held]
        first = {one.sha256: one for one in reversed(missing)}
        chunks = sum(self._file(one) for one in first.values() if one.size)
        return DownloadEstimate(len(missing), chunks, self._bytes, self._requests, tree.size)

    def _file(self, entry: TreeEntry) -> int:
        """Count a file and return the number of its chunks that are fetched."""
        if entry.size <= SMALL:
            self._count(entry.size, 1)
            return 1
        listed = self._reader.chunk_list(entry)
        held = self._chunks_near(entry)
        return sum(self._window(listed, start, held) for start in range(0, len(listed), WINDOW))

    def _window(self, listed: ChunkList, start: int, held: set[bytes]) -> int:
        pieces = [*_missing(listed, start, held)]
        for one in coalesce(pieces):
            self._count(one.length, 1)
        return len(pieces)

    def _chunks_near(self, entry: TreeEntry) -> set[bytes]:
        """Return the digests of the chunks of similar files that the device has."""
        found: set[bytes] = set()
        for one in self._similar.to(entry):
            if one.size <= SMALL:  # the whole file is one chunk
                found.add(bytes.fromhex(one.sha256))
            else:
                found |= {chunk.digest for chunk in self._list_of_held(one)}
        return found

    def _list_of_held(self, entry: TreeEntry) -> ChunkList:
        """Return a chunk list that the device does not fetch, so that it is not counted."""
        before = self._bytes, self._requests
        listed = self._reader.chunk_list(entry)
        self._bytes, self._requests = before
        return listed

    def _count(self, fetched: int, requests: int) -> None:
        self._bytes += fetched
        self._requests += requests


def _missing(listed: ChunkList, start: int, held: set[bytes]) -> Iterator[Piece]:
    """Yield each chunk of a window that is to be fetched, once, in file order."""
    seen = set(held)
    for piece in itertools.islice(every_piece(listed), start, start + WINDOW):
        if piece.chunk.digest not in seen:
            seen.add(piece.chunk.digest)
            yield piece
