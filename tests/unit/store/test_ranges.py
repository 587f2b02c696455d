"""Ranges cut into chunks as their bytes come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forge.store.chunklist import Chunk
from forge.store.ranges import Piece, Range, arriving, coalesce

PACK = bytes(32)
lengths = st.lists(st.tuples(st.integers(0, 200), st.integers(1, 300)), min_size=1, max_size=12)


def pieces(rows: list[tuple[int, int]]) -> tuple[list[Piece], int]:
    """Chunks with gaps in front of them, and where the pack ends."""
    found, offset, position = [], 0, 0
    for gap, length in rows:
        found.append(Piece(Chunk(bytes(32), PACK, offset + gap, length), position))
        offset += gap + length
        position += length
    return found, offset


@given(lengths, st.lists(st.integers(1, 400), min_size=1, max_size=40))
def test_every_chunk_arrives_with_its_bytes_however_they_are_cut(
    rows: list[tuple[int, int]], blocks: list[int]
) -> None:
    made, size = pieces(rows)
    pack = bytes(number % 251 for number in range(size))
    (one,) = coalesce(made)
    data = pack[one.start : one.start + one.length]
    sent: list[bytes] = []
    at = 0
    while at < len(data):
        step = blocks[len(sent) % len(blocks)]
        sent.append(data[at : at + step])
        at += step
    found = list(arriving(sent, one))
    assert [piece for piece, _ in found] == made
    for piece, part in found:
        offset, length = piece.chunk.offset, piece.chunk.length
        assert part == pack[offset : offset + length]


@given(lengths, st.integers(0, 12))
def test_what_is_left_of_a_range_begins_at_its_first_missing_chunk(
    rows: list[tuple[int, int]], count: int
) -> None:
    made, _ = pieces(rows)
    (one,) = coalesce(made)
    left = one.after(count)
    assert left.pieces == made[count:]
    assert left.start + left.length == one.start + one.length
    if left.pieces:
        assert left.start == left.pieces[0].chunk.offset


def test_stream_that_ends_early_gives_only_whole_chunks() -> None:
    made, _ = pieces([(0, 10), (0, 10)])
    one = Range(PACK, 0, 20, made)
    assert [part for _, part in arriving([b"x" * 15], one)] == [b"x" * 10]
