"""Reading of a store what can be proved at once: small files, and the chunks of larger ones."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from typing import Final

from forge import canonical
from forge.errors import CorruptedError, NotInStoreError
from forge.store import chunklist
from forge.store.chunklist import ChunkList
from forge.store.layout import files_name, pack_name
from forge.store.objects import BrokenOffError, Objects, tries
from forge.store.ranges import Keep, Piece, Range, arriving
from forge.store.trees import TreeEntry

__all__ = ["Reader", "WrongFileError"]

_SETBACKS: Final = 3  # in a row, without one good chunk


class WrongFileError(CorruptedError):
    """Every chunk is what its list says and the file is another one: the list is wrong."""

    def __init__(self, entry: TreeEntry, url: str) -> None:
        why = f"{entry.path} does not have the digest {entry.sha256}"
        hint = "run 'forge store verify --repair', then build or publish it again"
        super().__init__(f"A file in {url} is damaged", why=why, hint=hint)
        self.entry = entry


class Reader:
    """Objects of a store, each read again where it came damaged, from elsewhere if that can be.

    Every method raises CorruptedError that names what is damaged or missing, and StoreError.

    Args:
        objects: the store.
        tell: called with (bytes that came, requests begun), from several threads.
    """

    def __init__(self, objects: Objects, tell: Callable[[int, int], None]) -> None:
        self._objects = objects
        self._tell = tell

    def small(self, entry: TreeEntry) -> bytes:
        """A file that is a pack of its own; read again if it came damaged."""
        name = pack_name(entry.sha256)
        damage = _damaged(name, f"it is the file {entry.path}", self._objects.url)
        for _ in tries(self._objects, name):
            try:
                with _missing(name, entry, self._objects.url):
                    data = self._objects.read(name, max_bytes=entry.size).data
            except CorruptedError as error:
                damage = error
                continue
            self._tell(len(data), 1)
            if canonical.sha256(data) == entry.sha256:
                return data
        raise damage

    def chunk_list(self, entry: TreeEntry) -> ChunkList:
        """The list of a larger file, as yet unproved."""
        name = files_name(entry.sha256)
        damage: CorruptedError | None = None
        for _ in tries(self._objects, name):
            with _missing(name, entry, self._objects.url):
                data = self._objects.read(name, max_bytes=chunklist.max_encoded(entry.size)).data
            self._tell(len(data), 1)
            try:
                return chunklist.decode(data, size=entry.size, name=name)
            except CorruptedError as error:
                damage = error
        raise damage or AssertionError

    def pieces(
        self, one: Range, entry: TreeEntry, keep: Keep | None = None
    ) -> Iterator[tuple[Piece, bytes]]:
        """The pieces of a range as they come; damaged and missing ones are asked for again.

        `keep` gets every byte at once, and again if it was wrong.
        """
        name, setbacks = pack_name(one.pack.hex()), 0
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
            if guessed:  # what an earlier run had of it was something else: no fault of the store
                one = one.headless()
                continue
            setbacks = 0 if good else setbacks + 1
            if wrong and self._objects.doubt(name):
                setbacks = 0
            if setbacks >= _SETBACKS:
                why = f"chunk {wrong} of {entry.path} is not what it was"
                raise broken or _damaged(name, why, self._objects.url)

    def _stream(self, name: str, one: Range, keep: Keep | None) -> Iterator[tuple[Piece, bytes]]:
        self._tell(0, 1)
        with contextlib.closing(self._objects.stream(name, one.start, one.length)) as blocks:
            yield from arriving(self._counted(blocks), one, keep)

    def _counted(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            self._tell(len(block), 0)
            yield block


@contextlib.contextmanager
def _missing(name: str, entry: TreeEntry, url: str) -> Iterator[None]:
    """Say what a missing object means: a damaged store, not a wrong name."""
    try:
        yield
    except NotInStoreError as error:
        why = f"{name} is missing, which {entry.path} needs"
        hint = "run 'forge store verify --repair', then build or publish it again"
        raise CorruptedError(f"The store {url} is incomplete", why=why, hint=hint) from error


def _damaged(name: str, why: str, url: str) -> CorruptedError:
    hint = "run 'forge store verify --repair', then build or publish it again"
    return CorruptedError(f"{name} in {url} is damaged", why=why, hint=hint)
