"""Reading from a store that returns wrong bytes, too few, or none: only right ones come out."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.errors import CorruptedError, StoreError
from forge.store.backends.mirrors import Mirrors
from forge.store.backends.protocol import BrokenOffError
from forge.store.download.ranges import Piece, Range, coalesce, every_piece
from forge.store.download.reader import Reader, WrongFileError
from forge.store.formats.chunk_list import ChunkList
from forge.store.formats.names import files_name, pack_name
from forge.store.formats.tree import TreeEntry
from tests.support.memory_stores import Place
from tests.support.stores import noise

SMALL = noise(1000, 1)
CHUNKS = [noise(size, size) for size in (20_000, 17_000, 30_000, 16_500)]
LARGE = b"".join(CHUNKS)


def entry(data: bytes) -> TreeEntry:
    digest = hashlib.sha256(data).hexdigest()
    return TreeEntry(path="the/file", mode=0o644, size=len(data), sha256=digest)


def chunk_list() -> ChunkList:
    offsets = [sum(map(len, CHUNKS[:number])) for number in range(len(CHUNKS))]
    return ChunkList(
        len(LARGE),
        (hashlib.sha256(LARGE).digest(),),
        b"".join(hashlib.sha256(one).digest() for one in CHUNKS),
        array("I", map(len, CHUNKS)),
        array("I", [0] * len(CHUNKS)),
        array("I", offsets),
    )


PACK = pack_name(hashlib.sha256(LARGE).hexdigest())
LIST = files_name(hashlib.sha256(LARGE).hexdigest())
SMALL_PACK = pack_name(hashlib.sha256(SMALL).hexdigest())


def place(url: str = "memory:place") -> Place:
    found = Place(url)
    found.write(PACK, LARGE)
    found.write(LIST, chunk_list().encode())
    found.write(SMALL_PACK, SMALL)
    return found


class Told:
    """Counts what a reader tells."""

    def __init__(self) -> None:
        self.bytes = self.requests = 0

    def __call__(self, fetched: int, requests: int) -> None:
        self.bytes += fetched
        self.requests += requests


def whole() -> Range:
    (one,) = coalesce(every_piece(chunk_list()))
    return one


def read(reader: Reader, one: Range | None = None) -> list[bytes]:
    return [data for _, data in reader.pieces(one or whole(), entry(LARGE))]


def test_right_bytes_are_read_with_one_request_each() -> None:
    told = Told()
    reader = Reader(place(), told)
    assert reader.small(entry(SMALL)) == SMALL
    assert (told.bytes, told.requests) == (1000, 1)
    assert reader.chunk_list(entry(LARGE)) == chunk_list()
    assert told.requests == 2
    before = told.bytes
    assert read(reader) == CHUNKS
    assert (told.bytes - before, told.requests) == (len(LARGE), 3)


@pytest.mark.parametrize(
    ("name", "use"),
    [
        (SMALL_PACK, lambda reader: reader.small(entry(SMALL))),
        (LIST, lambda reader: reader.chunk_list(entry(LARGE))),
        (PACK, read),
    ],
    ids=["small", "list", "pack"],
)
class TestEachKindOfObject:
    def test_bytes_damaged_on_the_way_are_read_again(self, name: str, use: object) -> None:
        objects = place()
        objects.damaged[name] = 1
        assert callable(use)
        expected = use(Reader(place(), Told()))
        assert use(Reader(objects, Told())) == expected

    def test_bytes_damaged_for_good_are_named(self, name: str, use: object) -> None:
        objects = place()
        objects.damaged[name] = 100
        assert callable(use)
        with pytest.raises(CorruptedError, match=name) as caught:
            use(Reader(objects, Told()))
        assert "verify --repair" in caught.value.hint
        assert 1 < len(objects.asked) < 5

    def test_a_missing_object_is_damage_and_names_the_file(self, name: str, use: object) -> None:
        objects = place()
        objects.delete(name)
        assert callable(use)
        with pytest.raises(CorruptedError, match="is incomplete") as caught:
            use(Reader(objects, Told()))
        assert objects.url in caught.value.what
        assert name in caught.value.why
        assert "the/file" in caught.value.why

    def test_another_mirror_is_read_where_one_is_damaged(self, name: str, use: object) -> None:
        bad, good = place("memory:bad"), place("memory:good")
        bad.damaged[name] = 100
        assert callable(use)
        expected = use(Reader(place(), Told()))
        assert use(Reader(Mirrors([bad, good], clock=lambda: 0.0), Told())) == expected

    def test_the_same_damage_in_every_mirror_is_an_error(self, name: str, use: object) -> None:
        places = [place(f"memory:{number}") for number in range(3)]
        for one in places:
            one.damaged[name] = 1000
        assert callable(use)
        with pytest.raises(CorruptedError, match=name):
            use(Reader(Mirrors(places, clock=lambda: 0.0), Told()))
        assert all(1 <= len(one.asked) < 5 for one in places)

    def test_a_store_out_of_reach_is_not_called_damaged(self, name: str, use: object) -> None:
        objects = place()
        objects.failure = StoreError(f"{name} timed out")
        assert callable(use)
        with pytest.raises(StoreError, match="timed out") as caught:
            use(Reader(objects, Told()))
        assert caught.value is objects.failure


def test_a_larger_object_than_the_file_is_not_read_whole() -> None:
    objects = place()
    objects.write(SMALL_PACK, SMALL + b"x")
    with pytest.raises(CorruptedError, match="larger than 1000 bytes"):
        Reader(objects, Told()).small(entry(SMALL))


def test_only_what_was_wrong_is_asked_for_again() -> None:
    objects, good, found = place(), bytearray(LARGE), list[bytes]()
    good[20_000 + 17_000 + 5] ^= 1  # in the third chunk
    objects.write(PACK, bytes(good))
    pieces = Reader(objects, Told()).pieces(whole(), entry(LARGE))

    def collect() -> None:
        for _, data in pieces:
            found.append(data)

    with pytest.raises(CorruptedError, match=hashlib.sha256(CHUNKS[2]).hexdigest()):
        collect()
    assert found == CHUNKS[:2]
    assert len(objects.asked) == 4  # once for the two good chunks, three times for the third


def fails_after(breaks: list[int]) -> bool:
    """Whether three streams in a row end without one whole chunk."""
    left, setbacks = list(map(len, CHUNKS)), 0
    for limit in breaks:
        if limit >= sum(left):
            return False
        good = 0
        while sum(left[: good + 1]) <= limit:
            good += 1
        left = left[good:]
        setbacks = 0 if good else setbacks + 1
        if setbacks == 3:
            return True
    return False


@given(st.lists(st.integers(1, len(LARGE)), max_size=6), st.integers(1000, 40_000))
def test_a_stream_that_breaks_is_continued_at_the_first_missing_chunk(
    breaks: list[int], block: int
) -> None:
    objects = place()
    objects.block = block
    objects.break_error = BrokenOffError("broken")
    objects.breaks_after = list(breaks)
    try:
        found = read(Reader(objects, Told()))
    except BrokenOffError:
        assert fails_after(breaks)
    else:
        assert not fails_after(breaks)
        assert found == CHUNKS


def test_a_stream_that_always_breaks_is_given_up() -> None:
    objects = place()
    objects.break_error = BrokenOffError("broken at byte 5")
    objects.breaks_after = [5] * 10
    with pytest.raises(BrokenOffError, match="broken at byte 5"):
        read(Reader(objects, Told()))
    assert len(objects.asked) == 3


def test_every_byte_is_kept_as_it_comes() -> None:
    objects = place()
    objects.block = 7000
    file = bytearray(len(LARGE))

    def keep(position: int, data: memoryview) -> None:
        file[position : position + len(data)] = data

    for _ in Reader(objects, Told()).pieces(whole(), entry(LARGE), keep):
        pass
    assert file == LARGE


def begun(head: bytes) -> Range:
    first, *others = every_piece(chunk_list())
    (one,) = coalesce([Piece(first.chunk, first.position, head), *others])
    return one


def test_only_the_rest_of_a_begun_chunk_is_read() -> None:
    told = Told()
    assert read(Reader(place(), told), begun(CHUNKS[0][:15_000])) == CHUNKS
    assert (told.bytes, told.requests) == (len(LARGE) - 15_000, 1)


def test_a_begun_chunk_that_was_something_else_is_read_whole_and_no_damage() -> None:
    told = Told()
    reports: list[str] = []
    objects = place()
    objects.report_bad_copy = reports.append  # type: ignore[assignment, method-assign]
    assert read(Reader(objects, told), begun(b"x" * 15_000)) == CHUNKS
    assert told.requests == 2
    assert reports == []


def test_nothing_is_asked_for_an_empty_range() -> None:
    objects = place()
    assert read(Reader(objects, Told()), replace(whole(), pieces=[])) == []
    assert objects.asked == []


def test_a_wrong_file_names_the_file_and_its_digest() -> None:
    error = WrongFileError(entry(SMALL), "s3://bucket")
    assert "s3://bucket" in error.what
    assert "the/file" in error.why
    assert entry(SMALL).sha256 in error.why
    assert error.exit_code == 9
