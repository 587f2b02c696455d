"""Ranges cut into chunks as their bytes come."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from forge.store.download.ranges import (
    MAX_GAP_BYTES,
    MAX_RANGE_BYTES,
    Piece,
    Range,
    arriving,
    coalesce,
)
from forge.store.formats.chunk_list import Chunk

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


def stored(rows: list[tuple[int, int]]) -> tuple[Range, bytes]:
    """A range whose chunks follow each other as in the file, and its pack."""
    made, size = pieces([(0, length) for _, length in rows])
    (one,) = coalesce(made)
    return one, bytes(number % 251 for number in range(size))


@given(lengths, st.lists(st.integers(1, 400), min_size=1, max_size=40), st.integers(1, 12))
def test_bytes_are_kept_as_they_come_each_once_and_in_its_place(
    rows: list[tuple[int, int]], sizes: list[int], blocks: int
) -> None:
    one, pack = stored(rows)
    file, times = bytearray(len(pack)), bytearray(len(pack))

    def keep(position: int, data: memoryview) -> None:
        file[position : position + len(data)] = data
        for at in range(position, position + len(data)):
            times[at] += 1

    sent, at = [], 0
    for number in range(blocks):
        size = sizes[number % len(sizes)]
        sent.append(pack[at : at + size])
        at += size
    whole = list(arriving(sent, one, keep))
    came = min(at, len(pack))
    assert file[:came] == pack[:came]
    assert times == b"\1" * came + bytes(len(pack) - came)
    assert b"".join(data for _, data in whole) == pack[: sum(len(data) for _, data in whole)]


def test_of_a_chunk_that_was_begun_only_the_rest_is_asked_for() -> None:
    made, _ = pieces([(0, 10), (0, 10), (0, 10)])
    begun = Piece(made[1].chunk, made[1].position, head=b"0123")
    first, second = coalesce([made[0], begun, made[2]])
    assert (first.start, first.length) == (0, 10)
    assert (second.start, second.length) == (14, 16)  # one request for the rest and what follows
    kept: list[tuple[int, bytes]] = []
    found = list(
        arriving(
            [b"456789abcdef", b"ghij"], second, lambda at, data: kept.append((at, bytes(data)))
        )
    )
    assert [data for _, data in found] == [b"456789", b"abcdefghij"]
    assert kept == [(14, b"456789"), (20, b"abcdef"), (26, b"ghij")]


def test_a_begun_chunk_that_was_something_else_is_asked_for_whole() -> None:
    made, _ = pieces([(5, 10), (0, 10)])
    (one,) = coalesce([Piece(made[0].chunk, made[0].position, head=b"0123"), made[1]])
    assert (one.start, one.length) == (9, 16)
    whole = one.headless()
    assert (whole.start, whole.length, whole.pieces) == (5, 20, made)


packs = st.lists(
    st.tuples(st.sampled_from([b"p" * 32, b"q" * 32]), st.integers(0, 100_000),
              st.integers(1, 300_000), st.booleans()),
    max_size=30,
)  # fmt: skip


@given(packs)
def test_ranges_cover_all_wanted_bytes_in_few_requests_of_bounded_size(
    rows: list[tuple[bytes, int, int, bool]],
) -> None:
    offset, found = 0, []
    for number, (pack, gap, length, begun) in enumerate(rows):
        offset += gap
        head = b"x" * (length // 2) if begun else b""
        found.append(Piece(Chunk(bytes([number]) * 32, pack, offset, length), offset, head))
        offset += length
    ranges = list(coalesce(found))
    assert [piece for one in ranges for piece in one.pieces] == found
    for one in ranges:
        first, *others = one.pieces
        assert (one.start, one.start + one.length) == (first.start, one.pieces[-1].end)
        assert one.length <= MAX_RANGE_BYTES
        assert {piece.chunk.pack for piece in one.pieces} == {one.pack}
        assert not any(piece.head for piece in others)
        for before, after in itertools.pairwise(one.pieces):
            assert 0 <= after.start - before.end <= MAX_GAP_BYTES
    for left, right in itertools.pairwise(ranges):  # none could have been part of the one before
        piece, end = right.pieces[0], left.start + left.length
        assert (
            piece.chunk.pack != left.pack
            or piece.head
            or piece.start - end > MAX_GAP_BYTES
            or piece.end - left.start > MAX_RANGE_BYTES
        )


def test_chunks_that_go_back_in_the_pack_are_another_range() -> None:
    first, second = Chunk(bytes(32), PACK, 100, 10), Chunk(bytes(32), PACK, 90, 10)
    ranges = list(coalesce([Piece(first, 0), Piece(second, 10)]))
    assert [(one.start, one.length) for one in ranges] == [(100, 10), (90, 10)]


def test_a_piece_is_cut_from_its_place_in_a_range() -> None:
    made, size = pieces([(5, 10), (3, 7)])
    pack = bytes(range(size))
    (one,) = coalesce(made)
    data = memoryview(pack[one.start :])
    assert [bytes(one.cut(data, piece)) for piece in made] == [pack[5:15], pack[18:25]]
