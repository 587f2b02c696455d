"""How many bytes a device fetches to get from one version to another, without fetching them.

The rule is the downloader's (`forge.store.download`): equal files are linked, equal chunks of the
files that it searches are copied, the rest is read in ranges. Only tree documents and chunk lists
are read here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from forge.store import Store
from forge.store.download.ranges import Piece, coalesce, every_piece
from forge.store.download.reader import Reader
from forge.store.download.seeds import NearestFiles
from forge.store.formats.chunk_list import ChunkList
from forge.store.formats.tree import SMALL, Tree, TreeEntry

__all__ = ["DownloadSizes"]

_LISTS_IN_MEMORY: Final = 8  # 70 MB each for a file of 100 GB


class DownloadSizes:
    """Bytes to fetch of the trees of one store.

    Every method raises NotInStoreError if a tree is not stored, CorruptedError if it is damaged,
    and StoreError if the store cannot be reached.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._list_bytes = 0
        self._reader = Reader(store.objects, self._came)
        self._chunks = lru_cache(maxsize=_LISTS_IN_MEMORY)(self._read_chunks)

    def document(self, digest: str) -> int:
        """Return the size of a tree document in bytes."""
        return len(self._store.tree(digest).encode())

    def content(self, digest: str, seeds: Sequence[str] = ()) -> int:
        """Return the bytes to fetch of the content of a tree.

        Args:
            digest: of the tree.
            seeds: digests of the trees that the device has.
        """
        have = [entry for seed in seeds for entry in self._store.tree(seed).entries if entry.size]
        whole = {entry.sha256 for entry in have}
        nearest: NearestFiles[TreeEntry] = NearestFiles()
        for entry in have:
            nearest.add(entry.path, entry.size, entry)
        nearest.ready()
        missing = _once(self._store.tree(digest), whole)
        return sum(self._file(entry, nearest) for entry in missing)

    def _file(self, entry: TreeEntry, nearest: NearestFiles[TreeEntry]) -> int:
        if entry.size <= SMALL:
            return entry.size
        chunks, list_bytes = self._chunks(entry.sha256, entry)
        known = {digest for file in nearest.of(entry) for digest in self._digests(file)}
        return list_bytes + sum(one.length for one in coalesce(_missing(chunks, known)))

    def _digests(self, file: TreeEntry) -> Iterable[bytes]:
        """Return the digests of a file's chunks; a small file is one chunk."""
        if file.size <= SMALL:
            return (bytes.fromhex(file.sha256),)
        return (chunk.digest for chunk in self._chunks(file.sha256, file)[0])

    def _read_chunks(self, _sha256: str, entry: TreeEntry) -> tuple[ChunkList, int]:
        self._list_bytes = 0
        chunks = self._reader.chunk_list(entry)
        return chunks, self._list_bytes

    def _came(self, received: int, _requests: int) -> None:
        self._list_bytes += received


def _once(tree: Tree, whole: set[str]) -> list[TreeEntry]:
    """Return the files that a device lacks, each content once."""
    found = {entry.sha256: entry for entry in reversed(tree.entries)}
    return [entry for digest, entry in found.items() if entry.size and digest not in whole]


def _missing(chunks: ChunkList, known: set[bytes]) -> Iterable[Piece]:
    """Yield each chunk that is not known, once, in file order."""
    wanted = set(known)
    for piece in every_piece(chunks):
        if piece.chunk.digest not in wanted:
            wanted.add(piece.chunk.digest)
            yield piece
