"""Chunks go into packs of a bounded size, each stored under its digest, and no local file stays."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.errors import StoreError
from forge.store.backends.memory import MemoryObjects
from forge.store.disk_errors import DiskError
from forge.store.formats.names import pack_name
from forge.store.upload import pack_writer
from forge.store.upload.pack_writer import OpenPack, PackWriter
from tests.support.stores import noise

MOST = 100


class Refusing(MemoryObjects):
    """A store that takes no files."""

    def write_file(self, name: str, path: Path, *, take: bool = False) -> None:  # noqa: ARG002
        raise StoreError(f"{name} was refused")


@pytest.fixture(scope="module", autouse=True)
def _small_packs() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack_writer, "MAX_PACK_BYTES", MOST)
        yield


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def write(writer: PackWriter, chunks: list[bytes]) -> list[tuple[OpenPack, int]]:
    return [writer.add(hashlib.sha256(one).digest(), memoryview(one)) for one in chunks]


def stored(objects: MemoryObjects) -> dict[str, bytes]:
    found = {}
    for entry in objects.entries(""):
        found[entry.name] = objects.read(entry.name, max_bytes=MOST).data
    return found


@given(sizes=st.lists(st.integers(1, MOST), min_size=1, max_size=15))
def test_every_chunk_is_in_the_pack_and_at_the_offset_that_add_returned(
    pool: ThreadPoolExecutor, sizes: list[int]
) -> None:
    objects = MemoryObjects()
    chunks = [noise(size, seed) for seed, size in enumerate(sizes)]
    with PackWriter(objects, pool) as writer:
        places = write(writer, chunks)
        packs = list(writer.finish())
    found = stored(objects)
    for name, data in found.items():
        assert name == pack_name(hashlib.sha256(data).hexdigest())
        assert len(data) <= MOST
    rows = {}
    for chunk, (pack, offset) in zip(chunks, places, strict=True):
        data = found[pack_name(pack.digest.hex())]
        assert data[offset : offset + len(chunk)] == chunk
        rows[pack.digest, offset] = (hashlib.sha256(chunk).digest(), offset, len(chunk))
    assert len(packs) == len(found) == len({pack.digest for pack in packs})
    assert [row for pack in packs for row in pack.rows] == list(rows.values())
    for before, after in itertools.pairwise(packs):  # none could have taken the next chunk
        assert before.size + after.rows[0][2] > MOST
    assert list(objects.scratch().iterdir()) == []


def test_a_pack_may_be_full_to_the_last_byte(pool: ThreadPoolExecutor) -> None:
    objects = MemoryObjects()
    with PackWriter(objects, pool) as writer:
        first, second, third = write(writer, [noise(50, 1), noise(50, 2), noise(1, 3)])
        assert first[0] is second[0]
        assert third[0] is not first[0]
        assert (second[1], third[1]) == (50, 0)
        list(writer.finish())
    assert sorted(len(data) for data in stored(objects).values()) == [1, 100]


def test_without_chunks_nothing_is_stored(pool: ThreadPoolExecutor) -> None:
    objects = MemoryObjects()
    with PackWriter(objects, pool) as writer:
        assert list(writer.settled()) == []
        assert list(writer.finish()) == []
    assert stored(objects) == {}


def test_each_stored_pack_is_handed_over_once(pool: ThreadPoolExecutor) -> None:
    with PackWriter(MemoryObjects(), pool) as writer:
        (first, _), _ = write(writer, [noise(MOST, 1), noise(MOST, 2)])
        assert first.digest == hashlib.sha256(noise(MOST, 1)).digest()  # waits for it
        assert list(writer.settled()) == [first]
        assert list(writer.settled()) == []
        assert first not in list(writer.finish())
        assert list(writer.finish()) == []


def test_a_pack_that_the_store_has_is_made_young_and_not_written(pool: ThreadPoolExecutor) -> None:
    now = 1000.0
    objects = Refusing(clock=lambda: now)
    data = noise(30)
    name = pack_name(hashlib.sha256(data).hexdigest())
    objects.write(name, data)
    now = 2000.0
    with PackWriter(objects, pool) as writer:
        write(writer, [data])
        list(writer.finish())
    entry = objects.entry(name)
    assert entry is not None
    assert entry.modified == 2000.0


def test_a_pack_of_another_size_is_replaced(pool: ThreadPoolExecutor) -> None:
    objects, data = MemoryObjects(), noise(30)
    name = pack_name(hashlib.sha256(data).hexdigest())
    objects.write(name, data[:-1])
    with PackWriter(objects, pool) as writer:
        write(writer, [data])
        list(writer.finish())
    assert stored(objects) == {name: data}


def test_a_pack_that_was_not_stored_is_an_error_and_leaves_no_file(
    pool: ThreadPoolExecutor,
) -> None:
    objects = Refusing()
    with PackWriter(objects, pool) as writer:
        (pack, _), _ = write(writer, [noise(MOST, 1), noise(MOST, 2)])
        with pytest.raises(StoreError, match="was refused"):
            _ = pack.digest
        with pytest.raises(StoreError, match="was refused"):
            list(writer.finish())
    assert list(objects.scratch().iterdir()) == []


def test_an_error_of_the_body_passes_and_leaves_no_file(pool: ThreadPoolExecutor) -> None:
    objects = MemoryObjects()

    def fail() -> None:
        with PackWriter(objects, pool) as writer:
            write(writer, [noise(60, 1), noise(60, 2)])
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(objects.scratch().iterdir()) == []


def test_a_folder_that_takes_no_pack_is_named(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="pack cannot be written") as caught:
        OpenPack(tmp_path / "none")
    assert str(tmp_path / "none") in caught.value.why
