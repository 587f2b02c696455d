"""Plan which byte ranges of which packs to request, so that a file needs few requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from forge.store.formats.chunk_list import Chunk, ChunkList

__all__ = ["MAX_RANGE_BYTES", "Keep", "Piece", "Range", "arriving", "coalesce", "every_piece"]

# Measured on two cores: larger ranges cost more in page faults than they save in requests.
MAX_RANGE_BYTES: Final = 4 * 1024 * 1024
MAX_GAP_BYTES: Final = 64 * 1024  # cheaper to read and discard than another request
Keep: TypeAlias = Callable[[int, memoryview], None]
"""Receives bytes that are not verified yet, and their position in the file."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk and its position in the file.

    Attributes:
        chunk: location in a pack.
        position: offset of its first byte in the file.
        head: first bytes, left by an earlier run and not verified; only the rest is requested.
    """

    chunk: Chunk
    position: int
    head: bytes = b""

    @property
    def start(self) -> int:
        """Return the offset in the pack at which the requested bytes start."""
        return self.chunk.offset + len(self.head)

    @property
    def end(self) -> int:
        """Return the offset in the pack at which the requested bytes end."""
        return self.chunk.offset + self.chunk.length


@dataclass(slots=True)
class Range:
    """Bytes of one pack, and the pieces cut from them."""

    pack: bytes
    start: int
    length: int
    pieces: list[Piece] = field(default_factory=list)

    def takes(self, piece: Piece) -> bool:
        """Return whether the piece is close enough to be read in the same request."""
        end = self.start + self.length
        return (
            piece.chunk.pack == self.pack
            and not piece.head  # the bytes of a head must not be requested
            and end <= piece.start <= end + MAX_GAP_BYTES
            and piece.end - self.start <= MAX_RANGE_BYTES
        )

    def add(self, piece: Piece) -> None:
        """Extend the range by one piece."""
        self.length = piece.end - self.start
        self.pieces.append(piece)

    def cut(self, data: memoryview, piece: Piece) -> memoryview:
        """Return the bytes of a piece from those of the range."""
        start = piece.chunk.offset - self.start
        return data[start : start + piece.chunk.length]

    def after(self, count: int) -> Range:
        """Return the range without its first `count` pieces; it may be empty."""
        pieces = self.pieces[count:]
        start = pieces[0].start if pieces else self.start + self.length
        return Range(self.pack, start, self.start + self.length - start, pieces)

    def headless(self) -> Range:
        """Return the range without the head of its first piece, which is then requested."""
        first, *others = self.pieces
        start, end = first.chunk.offset, self.start + self.length
        return Range(self.pack, start, end - start, [Piece(first.chunk, first.position), *others])


def arriving(
    blocks: Iterable[bytes], one: Range, keep: Keep | None = None
) -> Iterator[tuple[Piece, bytes]]:
    """Yield each piece of a range with its requested bytes as soon as they are complete.

    Args:
        blocks: bytes of the range as they arrive.
        one: the range.
        keep: receives the bytes of pieces as they arrive, before a piece is complete.
    """
    held, at = bytearray(), one.start  # `at`: where in the pack `held` begins
    pieces = iter(one.pieces)
    piece, kept = next(pieces, None), 0
    for block in blocks:
        held += block
        while piece is not None:
            begin, end = piece.start - at, piece.end - at
            received = min(len(held), end)
            if keep and received > begin + kept:
                with memoryview(held) as view, view[begin + kept : received] as new:
                    keep(piece.position + len(piece.head) + kept, new)
                kept = received - begin
            if len(held) < end:
                break
            yield piece, bytes(held[begin:end])
            del held[:end]
            at += end
            piece, kept = next(pieces, None), 0


def every_piece(chunks: ChunkList) -> Iterator[Piece]:
    """Yield all chunks of a file in order, each with its position."""
    position = 0
    for chunk in chunks:
        yield Piece(chunk, position)
        position += chunk.length


def coalesce(pieces: Iterable[Piece]) -> Iterator[Range]:
    """Yield ranges of at most 4 MiB in the order of the pieces."""
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
