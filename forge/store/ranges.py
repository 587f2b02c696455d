"""Which bytes of which packs to ask for, so that a file costs few requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from forge.store.chunklist import Chunk, ChunkList

__all__ = ["MAX_RANGE_BYTES", "Piece", "Range", "arriving", "coalesce", "every_piece"]

# Measured on two cores: larger ones cost more in page faults than they save in requests.
MAX_RANGE_BYTES: Final = 4 * 1024 * 1024
MAX_GAP_BYTES: Final = 64 * 1024  # cheaper to read over than to ask again


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk and where it goes in the file."""

    chunk: Chunk
    position: int


@dataclass(slots=True)
class Range:
    """Bytes of one pack, and the pieces cut from them."""

    pack: bytes
    start: int
    length: int
    pieces: list[Piece] = field(default_factory=list)

    def takes(self, chunk: Chunk) -> bool:
        """Whether the chunk follows closely enough to be read in the same request."""
        end = self.start + self.length
        return (
            chunk.pack == self.pack
            and end <= chunk.offset <= end + MAX_GAP_BYTES
            and chunk.offset + chunk.length - self.start <= MAX_RANGE_BYTES
        )

    def add(self, piece: Piece) -> None:
        """Take one more piece; the range then ends with it."""
        self.length = piece.chunk.offset + piece.chunk.length - self.start
        self.pieces.append(piece)

    def cut(self, data: memoryview, piece: Piece) -> memoryview:
        """A piece's bytes out of the range's."""
        start = piece.chunk.offset - self.start
        return data[start : start + piece.chunk.length]

    def after(self, count: int) -> Range:
        """What is left of it without its first `count` pieces; it has none left if it is empty."""
        pieces = self.pieces[count:]
        start = pieces[0].chunk.offset if pieces else self.start + self.length
        return Range(self.pack, start, self.start + self.length - start, pieces)


def arriving(blocks: Iterable[bytes], one: Range) -> Iterator[tuple[Piece, bytes]]:
    """Each piece of a range and its bytes, as soon as the last of them came."""
    held, at = bytearray(), one.start  # `at`: where in the pack `held` begins
    pieces = iter(one.pieces)
    piece = next(pieces, None)
    for block in blocks:
        held += block
        while piece is not None:
            begin = piece.chunk.offset - at
            end = begin + piece.chunk.length
            if len(held) < end:
                break
            yield piece, bytes(held[begin:end])
            del held[:end]
            at += end
            piece = next(pieces, None)


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
        if current is not None and not current.takes(piece.chunk):
            yield current
            current = None
        if current is None:
            current = Range(piece.chunk.pack, piece.chunk.offset, 0)
        current.add(piece)
    if current is not None:
        yield current
