"""Which bytes of which packs to ask for, so that a file costs few requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from forge.store.chunklist import Chunk, ChunkList

__all__ = ["MAX_RANGE_BYTES", "Keep", "Piece", "Range", "arriving", "coalesce", "every_piece"]

# Measured on two cores: larger ones cost more in page faults than they save in requests.
MAX_RANGE_BYTES: Final = 4 * 1024 * 1024
MAX_GAP_BYTES: Final = 64 * 1024  # cheaper to read over than to ask again
Keep: TypeAlias = Callable[[int, memoryview], None]
"""Takes bytes, not proved yet, and their place in the file."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk and where it goes in the file.

    Attributes:
        chunk: where it lies in a pack.
        position: of its first byte in the file.
        head: what an earlier run has of it, as yet unproved; only the rest is asked for.
    """

    chunk: Chunk
    position: int
    head: bytes = b""

    @property
    def start(self) -> int:
        """Where in the pack the bytes begin that are asked for."""
        return self.chunk.offset + len(self.head)

    @property
    def end(self) -> int:
        """Where in the pack they end."""
        return self.chunk.offset + self.chunk.length


@dataclass(slots=True)
class Range:
    """Bytes of one pack, and the pieces cut from them."""

    pack: bytes
    start: int
    length: int
    pieces: list[Piece] = field(default_factory=list)

    def takes(self, piece: Piece) -> bool:
        """Whether the piece follows closely enough to be read in the same request."""
        end = self.start + self.length
        return (
            piece.chunk.pack == self.pack
            and not piece.head  # which is not to be read over
            and end <= piece.start <= end + MAX_GAP_BYTES
            and piece.end - self.start <= MAX_RANGE_BYTES
        )

    def add(self, piece: Piece) -> None:
        """Take one more piece; the range then ends with it."""
        self.length = piece.end - self.start
        self.pieces.append(piece)

    def cut(self, data: memoryview, piece: Piece) -> memoryview:
        """A piece's bytes out of the range's."""
        start = piece.chunk.offset - self.start
        return data[start : start + piece.chunk.length]

    def after(self, count: int) -> Range:
        """What is left of it without its first `count` pieces; it has none left if it is empty."""
        pieces = self.pieces[count:]
        start = pieces[0].start if pieces else self.start + self.length
        return Range(self.pack, start, self.start + self.length - start, pieces)

    def headless(self) -> Range:
        """The same with all of its first piece."""
        first, *others = self.pieces
        start, end = first.chunk.offset, self.start + self.length
        return Range(self.pack, start, end - start, [Piece(first.chunk, first.position), *others])


def arriving(
    blocks: Iterable[bytes], one: Range, keep: Keep | None = None
) -> Iterator[tuple[Piece, bytes]]:
    """Each piece of a range, and what was asked for of it, as soon as the last byte came.

    Args:
        blocks: the range as it comes.
        one: the range.
        keep: told at once of all bytes of pieces, before these are whole.
    """
    held, at = bytearray(), one.start  # `at`: where in the pack `held` begins
    pieces = iter(one.pieces)
    piece, kept = next(pieces, None), 0
    for block in blocks:
        held += block
        while piece is not None:
            begin, end = piece.start - at, piece.end - at
            came = min(len(held), end)
            if keep and came > begin + kept:
                with memoryview(held) as view, view[begin + kept : came] as new:
                    keep(piece.position + len(piece.head) + kept, new)
                kept = came - begin
            if len(held) < end:
                break
            yield piece, bytes(held[begin:end])
            del held[:end]
            at += end
            piece, kept = next(pieces, None), 0


def every_piece(chunks: ChunkList) -> Iterator[Piece]:
    """All chunks of a file in order, each with its position."""
    position = 0
    for chunk in chunks:
        yield Piece(chunk, position)
        position += chunk.length


def coalesce(pieces: Iterable[Piece]) -> Iterator[Range]:
    """Ranges of at most 4 MiB, made lazily in the order of the pieces."""
    current: Range | None = None
    for piece in pieces:
        if current is not None and not current.takes(piece):
            yield current
            current = None
        if current is None:
            current = Range(piece.chunk.pack, piece.start, 0)
        current.add(piece)
    if current is not None:
        yield current
