"""Read small files and the chunks of larger ones from a store, and verify each."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from typing import Final

from forge import canonical
from forge.errors import CorruptedError, NotInStoreError
from forge.store.backends.protocol import BrokenOffError, Objects, read_attempts
from forge.store.download.ranges import Keep, Piece, Range, arriving
from forge.store.formats import chunk_list
from forge.store.formats.chunk_list import ChunkList
from forge.store.formats.names import files_name, pack_name
from forge.store.formats.tree import TreeEntry

__all__ = ["Reader", "WrongFileError"]

_SETBACKS: Final = 3  # consecutive attempts without a correct chunk


class WrongFileError(CorruptedError):
    """Every chunk matches the chunk list, but the file has another digest: the list is wrong."""

    def __init__(self, entry: TreeEntry, url: str) -> None:
        why = f"{entry.path} does not have the digest {entry.sha256}"
        hint = "run 'forge store verify --repair', then build or publish it again"
        super().__init__(f"A file in {url} is damaged", why=why, hint=hint)
        self.entry = entry


class Reader:
    """Reads and verifies objects; damaged ones are read again, from another place if possible.

    Every method raises StoreError, and CorruptedError that names what is damaged or missing.

    Args:
        objects: the store.
        count: called with (bytes received, requests started), from several threads.
    """

    def __init__(self, objects: Objects, count: Callable[[int, int], None]) -> None:
        self._objects = objects
        self._count = count

    def small(self, entry: TreeEntry) -> bytes:
        """Return a file that is stored as a pack of its own."""
        name = pack_name(entry.sha256)
        damage = _damaged(name, f"it contains the file {entry.path}", self._objects.url)
        for _ in read_attempts(self._objects, name):
            try:
                with _missing(name, entry, self._objects.url):
                    data = self._objects.read(name, max_bytes=entry.size).data
            except CorruptedError as error:
                damage = error
                continue
            self._count(len(data), 1)
            if canonical.sha256(data) == entry.sha256:
                return data
        raise damage

    def chunk_list(self, entry: TreeEntry) -> ChunkList:
        """Return the chunk list of a larger file; its digests are not verified."""
        name = files_name(entry.sha256)
        damage: CorruptedError | None = None
        for _ in read_attempts(self._objects, name):
            with _missing(name, entry, self._objects.url):
                data = self._objects.read(name, max_bytes=chunk_list.max_encoded(entry.size)).data
            self._count(len(data), 1)
            try:
                return chunk_list.decode(data, size=entry.size, name=name)
            except CorruptedError as error:
                damage = error
        raise damage or AssertionError

    def pieces(
        self, one: Range, entry: TreeEntry, keep: Keep | None = None
    ) -> Iterator[tuple[Piece, bytes]]:
        """Yield the pieces of a range as they arrive; request damaged and missing ones again.

        `keep` receives every byte as it arrives, and again after a retry.
        """
        name, setbacks, elsewhere = pack_name(one.pack.hex()), 0, True
        while one.pieces:
            good, wrong, broken, guessed = 0, "", None, False
            try:
                with _missing(name, entry, self._objects.url):
                    for piece, data in self._stream(name, one, keep):
                        whole = piece.head + data
                        if hashlib.sha256(whole).digest() != piece.chunk.digest:
                            guessed = bool(piece.head)
                            wrong = "" if guessed else piece.chunk.digest.hex()
                            break
                        good += 1
                        yield piece, whole
            except BrokenOffError as error:
                broken = error
            one = one.after(good)
            if guessed:  # the head left by an earlier run was wrong, not the store
                one = one.headless()
                continue
            setbacks = 0 if good else setbacks + 1
            elsewhere = elsewhere or bool(good)
            if wrong and elsewhere:
                # Only until no place is left: the next report would begin with the first again.
                elsewhere = self._objects.report_bad_copy(name)
                setbacks = 0 if elsewhere else setbacks
            if setbacks >= _SETBACKS:
                why = f"chunk {wrong} of {entry.path} has another digest"
                raise broken or _damaged(name, why, self._objects.url)

    def _stream(self, name: str, one: Range, keep: Keep | None) -> Iterator[tuple[Piece, bytes]]:
        self._count(0, 1)
        with contextlib.closing(self._objects.stream(name, one.start, one.length)) as blocks:
            yield from arriving(self._counted(blocks), one, keep)

    def _counted(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            self._count(len(block), 0)
            yield block


@contextlib.contextmanager
def _missing(name: str, entry: TreeEntry, url: str) -> Iterator[None]:
    """Raise a missing object as CorruptedError: the store is damaged, the name is right."""
    try:
        yield
    except NotInStoreError as error:
        why = f"{name}, which {entry.path} requires, is missing"
        hint = "run 'forge store verify --repair', then build or publish it again"
        raise CorruptedError(f"The store {url} is incomplete", why=why, hint=hint) from error


def _damaged(name: str, why: str, url: str) -> CorruptedError:
    hint = "run 'forge store verify --repair', then build or publish it again"
    return CorruptedError(f"{name} in {url} is damaged", why=why, hint=hint)
