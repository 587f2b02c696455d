"""Upload a folder: find chunks that the store has, pack the others, and write the tree last.

The order (packs, then chunk lists, then the tree) makes a kill at any point harmless: nothing
refers to what a killed run leaves, so the next run reuses it or it is collected as garbage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from forge.bundle import TreeReference
from forge.errors import CorruptedError, NotInStoreError, StoreError
from forge.files import sha256_file
from forge.store.backends.protocol import Entry, Objects
from forge.store.disk_errors import disk_errors
from forge.store.formats import chunk_list
from forge.store.formats.chunk_list import ChunkList, ChunkListBuilder
from forge.store.formats.chunker import FileCutter
from forge.store.formats.names import files_name, pack_name, tree_name
from forge.store.formats.tree import MAX_TREE_BYTES, SMALL, Found, Tree, TreeEntry
from forge.store.progress import Progress
from forge.store.upload.chunk_index import ChunkIndex, Location
from forge.store.upload.pack_writer import OpenPack, PackWriter

__all__ = ["TOUCH_AFTER_S", "PutReport", "Uploader"]

TOUCH_AFTER_S: Final = 12 * 3600.0


"""Half of the default grace period of garbage collection: an older object that is reused is
touched before anything refers to it."""


_SMALL_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True)
class PutReport:
    """Result of storing a folder.

    Attributes:
        reference: reference of the tree.
        new_bytes: bytes of new packs.
        reused_bytes: bytes of the folder that were already in the store.
    """

    reference: TreeReference
    new_bytes: int
    reused_bytes: int


class Uploader:
    """Upload of one folder."""

    def __init__(
        self,
        objects: Objects,
        index: ChunkIndex,
        pool: ThreadPoolExecutor,
        *,
        now: float,
        progress: Progress | None,
    ) -> None:
        self._objects = objects
        self._index = index
        self._pool = pool
        self._now = now
        self._progress = progress or (lambda _done, _all: None)
        self._done = 0
        self._new = 0
        self._pending: dict[bytes, tuple[OpenPack, int, int]] = {}
        self._packs: dict[bytes, int | None] = {}
        self._lists: dict[str, ChunkListBuilder[OpenPack | bytes]] = {}
        self._smalls: dict[str, Future[int]] = {}

    def run(self, found: Sequence[Found], before_tree: Callable[[], None]) -> PutReport:
        """Store the files and the tree.

        Args:
            found: the folder's files.
            before_tree: called before the tree is written; may raise to stop there.

        Raises:
            StoreError: the store or the disk failed, or a file changed while it was read.
        """
        tree = Tree(entries=self.files(found))
        before_tree()
        self._write_tree(tree)
        reused = max(0, tree.size - self._new)
        return PutReport(tree.reference(), self._new, reused)

    def files(self, found: Sequence[Found]) -> tuple[TreeEntry, ...]:
        """Store the files and no tree. Raises StoreError."""
        size = sum(one.size for one in found)
        entries = []
        with PackWriter(self._objects, self._pool) as writer:
            for one in found:
                entries.append(self._file(one, writer))
                self._done += one.size
                self._progress(self._done, size)
            self._settle(writer.finish())
        self._new += sum(future.result() for future in self._smalls.values())
        self._write_lists()
        return tuple(entries)

    def _file(self, one: Found, writer: PackWriter) -> TreeEntry:
        with disk_errors("A file cannot be read", one.source):
            if one.size <= SMALL:
                digest, size = self._small(one)
            else:
                digest, size = self._large(one, writer)
        if size != one.size:
            raise _changed(one)
        return TreeEntry(path=one.path, mode=one.mode, size=size, sha256=digest)

    def _small(self, one: Found) -> tuple[str, int]:
        with one.source.open("rb") as file:
            data = file.read(SMALL + 1)
        digest = hashlib.sha256(data).hexdigest()
        if data and len(data) <= SMALL and digest not in self._smalls:
            self._smalls[digest] = self._pool.submit(self._store_small, digest, data)
            if len(self._smalls) % _SMALL_AT_ONCE == 0:  # limits the bytes in memory
                self._smalls[digest].result()
        return digest, len(data)

    def _store_small(self, digest: str, data: bytes) -> int:
        name = pack_name(digest)
        if self._use(name) == len(data):
            return 0
        self._objects.write(name, data)
        return len(data)

    def _large(self, one: Found, writer: PackWriter) -> tuple[str, int]:
        expected = ""
        if self._index.has_size(one.size):
            expected = sha256_file(one.source)
            if expected in self._lists or self._has_file(expected, one.size):
                return expected, one.size
        cutter = FileCutter(one.source)
        builder = ChunkListBuilder[OpenPack | bytes]()
        for digest, data in cutter:
            pack, offset = self._place(digest, data, writer)
            builder.add(digest, pack, offset, len(data))
        if expected and cutter.sha256 != expected:
            raise _changed(one)
        self._lists[cutter.sha256] = builder
        return cutter.sha256, cutter.size

    def _place(
        self, digest: bytes, data: memoryview, writer: PackWriter
    ) -> tuple[OpenPack | bytes, int]:
        pending = self._pending.get(digest)
        if pending is not None:
            return pending[0], pending[1]
        location = self._index.find(digest)
        if location is not None and self._usable(location, len(data)):
            return location[0], location[1]
        pack, offset = writer.add(digest, data)
        self._pending[digest] = (pack, offset, len(data))
        if offset == 0:  # a new pack was started: earlier ones may be stored now
            self._settle(writer.settled())
        return pack, offset

    def _settle(self, packs: Iterable[OpenPack]) -> None:
        for pack in packs:
            self._index.add(pack.digest, pack.rows)
            self._packs[pack.digest] = pack.size
            self._new += pack.size
            for digest, _, _ in pack.rows:
                self._pending.pop(digest, None)
            pack.rows.clear()

    def _usable(self, location: Location, length: int) -> bool:
        pack, offset, known = location
        return known == length and offset + length <= (self._pack_size(pack) or 0)

    def _pack_size(self, pack: bytes) -> int | None:
        """Return the size of a pack in bytes, or None if it is not in the store; cached."""
        if pack not in self._packs:
            self._packs[pack] = self._use(pack_name(pack.hex()))
            if self._packs[pack] is None:
                self._index.forget(pack)
        return self._packs[pack]

    def _use(self, name: str) -> int | None:
        """Return the size of an object that will be referred to, after touching it if it is old."""
        entry = self._objects.entry(name)
        if entry is None or not self._touch(entry):
            return None
        return entry.size

    def _touch(self, entry: Entry) -> bool:
        if self._now - entry.modified > TOUCH_AFTER_S:
            try:
                self._objects.touch(entry.name)
            except NotInStoreError:
                return False
        return True

    def _has_file(self, digest: str, size: int) -> bool:
        """Return whether the store has the complete file: a valid chunk list and all its packs."""
        name = files_name(digest)
        if self._use(name) is None:
            return False
        try:
            data = self._objects.read(name, max_bytes=chunk_list.max_encoded(size)).data
            chunks = chunk_list.decode(data, size=size, name=name)
        except (CorruptedError, NotInStoreError):
            return False  # written again
        return all(self._usable((one.pack, one.offset, one.length), one.length) for one in chunks)

    def _write_lists(self) -> None:
        built = {digest: _build(builder) for digest, builder in self._lists.items()}
        futures = [
            self._pool.submit(self._objects.write, files_name(digest), chunks.encode())
            for digest, chunks in built.items()
        ]
        for future in futures:
            future.result()
        for digest, chunks in built.items():
            self._index.add_list(digest, chunks)

    def _write_tree(self, tree: Tree) -> None:
        data = tree.encode()
        name = tree_name(tree.reference().digest)
        if len(data) > MAX_TREE_BYTES:
            raise StoreError(
                f"The folder has too many files: {len(tree.entries)}",
                hint="store fewer files, for example as one archive",
            )
        if self._use(name) is not None:
            try:
                if self._objects.read(name, max_bytes=len(data)).data == data:
                    return
            except (CorruptedError, NotInStoreError):
                pass  # replaced below
        self._objects.write(name, data)


def _build(builder: ChunkListBuilder[OpenPack | bytes]) -> ChunkList:
    digests = tuple(pack.digest if isinstance(pack, OpenPack) else pack for pack in builder.packs)
    return builder.build(digests)


def _changed(one: Found) -> StoreError:
    message = f"{one.source} changed while it was being stored"
    return StoreError(
        message, hint="stop the process that writes to it, then run the command again"
    )
