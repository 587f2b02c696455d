"""The chunk list's bytes: what comes back, and what is refused."""

from __future__ import annotations

import struct
from array import array
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.errors import CorruptedError
from forge.store.formats.chunk_list import (
    MAX_PACK_BYTES,
    Chunk,
    ChunkList,
    ChunkListBuilder,
    decode,
    max_encoded,
)
from forge.store.formats.chunker import MAXIMUM


def _list(lengths: list[int]) -> ChunkList:
    count = len(lengths)
    digests = b"".join(bytes([number % 256]) * 32 for number in range(count))
    columns = (array("I", lengths), array("I", [0] * count), array("I", range(count)))
    return ChunkList(sum(lengths), (b"p" * 32,), digests, *columns)


@given(st.lists(st.integers(16 * 1024, MAXIMUM), min_size=1, max_size=50))
def test_list_comes_back_and_keeps_within_its_bound(lengths: list[int]) -> None:
    made = _list(lengths)
    data = made.encode()
    assert decode(data, size=made.size, name="x") == made
    assert len(data) <= max_encoded(made.size)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_clearly(data: bytes) -> None:
    with pytest.raises(CorruptedError, match="chunk list x is damaged"):
        decode(data, size=None, name="x")


@given(st.data())
def test_any_flipped_bit_is_refused_or_harmless(data: st.DataObject) -> None:
    good = bytearray(_list([20_000, 30_000]).encode())
    at = data.draw(st.integers(0, len(good) * 8 - 1))
    good[at // 8] ^= 1 << at % 8
    try:
        found = decode(bytes(good), size=50_000, name="x")
    except CorruptedError:
        return
    assert sum(found.lengths) == 50_000


def test_counts_beyond_the_file_are_refused_before_memory_is_taken() -> None:
    head = struct.pack("<8sQII", b"FORGECL\x01", 50_000, 2**32 - 1, 1)
    with pytest.raises(CorruptedError, match="cannot make 50000 bytes"):
        decode(head, size=50_000, name="x")


def _repeated(count: int) -> ChunkList:
    columns = (array("I", [MAXIMUM] * count), array("I", [0] * count), array("I", [0] * count))
    return ChunkList(MAXIMUM * count, (b"p" * 32,), b"d" * 32 * count, *columns)


def test_small_list_that_would_inflate_to_much_is_refused_unless_the_size_is_known() -> None:
    made = _repeated(1_000_000)
    data = made.encode()
    assert len(data) < 500_000
    with pytest.raises(CorruptedError, match="would inflate to 44000032"):
        decode(data, size=None, name="x")
    assert len(decode(data, size=made.size, name="x")) == 1_000_000


def test_list_of_many_gigabytes_of_zeros_is_read_without_knowing_the_size() -> None:
    made = _repeated(300_000)  # 75 GiB
    assert decode(made.encode(), size=None, name="x") == made


def test_size_that_no_file_can_have_is_refused() -> None:
    head = struct.pack("<8sQII", b"FORGECL\x01", 2**63, 10, 1)
    with pytest.raises(CorruptedError, match="cannot make 9223372036854775808 bytes"):
        decode(head, size=None, name="x")


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(16_384, 99_999))))
def test_builder_makes_the_list_of_what_was_added(rows: list[tuple[int, int, int]]) -> None:
    builder = ChunkListBuilder[str]()
    digests = [bytes([number]) * 32 for number in range(6)]
    for pack, offset, length in rows:
        builder.add(digests[pack], str(pack), offset, length)
    assert list(builder.packs) == list(dict.fromkeys(str(pack) for pack, _, _ in rows))
    made = builder.build(tuple(digests[int(pack)] for pack in builder.packs))
    expected = [
        Chunk(digests[pack], digests[pack], offset, length) for pack, offset, length in rows
    ]
    assert list(made) == expected
    assert (made.size, len(made)) == (sum(length for _, _, length in rows), len(rows))
    if rows:
        assert list(decode(made.encode(), size=None, name="x")) == expected


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"size": 50_001}, "add up"),
        ({"lengths": array("I", [0, 50_000])}, "empty or longer"),
        ({"lengths": array("I", [MAXIMUM + 1, 30_000]), "size": MAXIMUM + 30_001}, "longer"),
        ({"indexes": array("I", [0, 1])}, "not listed"),
        ({"offsets": array("I", [0, MAX_PACK_BYTES - 29_999])}, "past"),
    ],
)
def test_each_number_that_cannot_be_is_refused(change: dict[str, object], reason: str) -> None:
    good = _list([20_000, 30_000])
    assert decode(good.encode(), size=50_000, name="x")
    with pytest.raises(CorruptedError, match="chunk list x is damaged") as caught:
        decode(replace(good, **change).encode(), size=None, name="x")  # type: ignore[arg-type]
    assert reason in caught.value.why
    assert "verify --repair" in caught.value.hint


def test_the_list_of_a_file_of_another_size_is_refused() -> None:
    with pytest.raises(CorruptedError, match="50000 bytes, not 50001"):
        decode(_list([20_000, 30_000]).encode(), size=50_001, name="x")
