"""The chunk index is a cache: it may fail at any moment and costs nothing but reading again."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import pytest

from forge.store import Entry, Store, open_store
from forge.store.backends.memory import MemoryObjects
from forge.store.formats.chunk_list import ChunkList, ChunkListBuilder
from forge.store.maintenance.check import check_store
from forge.store.upload.chunk_index import ChunkIndex, index_path
from tests.support.memory_stores import Place
from tests.support.stores import fill, noise, snapshot


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"), cache=tmp_path / "cache")


def _grown(store: Store, tmp_path: Path) -> Path:
    """A store whose index has many pages; the path of the index."""
    (tmp_path / "many").mkdir()
    (tmp_path / "many" / "file").write_bytes(noise(40 * 1024 * 1024, 7))
    store.put_tree(tmp_path / "many")
    return index_path(tmp_path / "cache", store.url)


@pytest.mark.parametrize("page", [2, 3, 5])
def test_damaged_page_costs_the_cache_and_nothing_else(
    store: Store, tmp_path: Path, page: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = _grown(store, tmp_path)
    data = bytearray(path.read_bytes())
    for at in range((page - 1) * 4096, len(data)):
        data[at] = 0xA5
    path.write_bytes(data)
    again = open_store(store.url, cache=tmp_path / "cache")
    folder = fill(tmp_path / "in")
    with caplog.at_level(logging.WARNING):
        digest = again.put_tree(folder).digest
    assert "chunk index" in caplog.text
    assert not path.exists()
    again.unpack(digest, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(folder)
    assert check_store(again).ok
    assert open_store(store.url, cache=tmp_path / "cache").put(folder).new_bytes == 0
    assert path.exists()


def test_chunk_list_that_cannot_be_read_is_read_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, reads = f"files/{'b' * 64}", list[str]()
    read = type(store.objects).read

    def count(self: object, name: str, *, max_bytes: int) -> object:
        reads.append(name)
        return read(self, name, max_bytes=max_bytes)  # type: ignore[arg-type]

    monkeypatch.setattr(type(store.objects), "read", count)
    store.objects.write(bad, b"no chunk list")
    for seed in range(3):  # three runs on this machine
        again = open_store(store.url, cache=tmp_path / "cache")
        again.put_tree(fill(tmp_path / f"in-{seed}", seed=seed))
    assert reads.count(bad) == 1
    store.objects.write(bad, b"neither is this one")
    open_store(store.url, cache=tmp_path / "cache").put_tree(tmp_path / "in-0")
    assert reads.count(bad) == 2


PACK, OTHER_PACK = b"p" * 32, b"q" * 32


def chunk(number: int) -> bytes:
    return hashlib.sha256(bytes([number])).digest()


def listed(pack: bytes, *numbers: int) -> ChunkList:
    builder = ChunkListBuilder[bytes]()
    for place, number in enumerate(numbers):
        builder.add(chunk(number), pack, 20_000 * place, 20_000)
    return builder.build((pack,))


def put_list(objects: MemoryObjects, name: str, chunks: ChunkList) -> None:
    objects.write(f"files/{name * 64}", chunks.encode())


def test_a_chunk_is_found_where_it_was_added_and_last_seen() -> None:
    with ChunkIndex(None) as index:
        assert index.find(chunk(1)) is None
        index.add(PACK, [(chunk(1), 0, 10), (chunk(2), 10, 20)])
        index.add(OTHER_PACK, [(chunk(1), 5, 10)])
        assert index.find(chunk(1)) == (OTHER_PACK, 5, 10)
        assert index.find(chunk(2)) == (PACK, 10, 20)


def test_what_was_added_is_there_at_the_next_run_and_in_memory_it_is_not(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "index"
    for _ in range(2):
        with ChunkIndex(path) as index:
            index.add(PACK, [(chunk(1), 0, 10)])
    with ChunkIndex(path) as index, ChunkIndex(None) as memory:
        assert index.find(chunk(1)) == (PACK, 0, 10)
        assert memory.find(chunk(1)) is None


def test_a_forgotten_pack_takes_its_own_chunks_along() -> None:
    with ChunkIndex(None) as index:
        index.add(PACK, [(chunk(1), 0, 10), (chunk(2), 10, 20)])
        index.add(OTHER_PACK, [(chunk(2), 0, 20)])
        index.forget(PACK)
        assert index.find(chunk(1)) is None
        assert index.find(chunk(2)) == (OTHER_PACK, 0, 20)
        index.forget(b"never seen" + bytes(22))
        index.add(PACK, [(chunk(1), 3, 10)])
        assert index.find(chunk(1)) == (PACK, 3, 10)


def test_refresh_reads_each_list_once_and_finds_all_of_its_chunks() -> None:
    objects = Place()
    put_list(objects, "a", listed(PACK, 1, 2))
    put_list(objects, "b", listed(OTHER_PACK, 3))
    objects.write("files/README", b"not of Forge")
    with ChunkIndex(None) as index:
        for _ in range(2):
            index.refresh(objects)
        assert sorted(objects.asked) == [("read", f"files/{name * 64}") for name in "ab"]
        assert index.find(chunk(2)) == (PACK, 20_000, 20_000)
        assert index.find(chunk(3)) == (OTHER_PACK, 0, 20_000)
        assert index.has_size(40_000)
        assert index.has_size(20_000)
        assert not index.has_size(60_000)
        put_list(objects, "c", listed(PACK, 1, 2, 4))
        index.refresh(objects)
        assert len(objects.asked) == 3
        assert index.has_size(60_000)


def test_a_size_is_forgotten_with_the_last_list_of_it() -> None:
    objects = MemoryObjects()
    put_list(objects, "a", listed(PACK, 1))
    put_list(objects, "b", listed(PACK, 2))
    with ChunkIndex(None) as index:
        for name, known in (("", True), ("a", True), ("b", False)):
            if name:
                objects.delete(f"files/{name * 64}")
            index.refresh(objects)
            assert index.has_size(20_000) is known


def test_more_lists_than_one_batch_are_all_read() -> None:
    objects = MemoryObjects()
    for number in range(70):
        digest = hashlib.sha256(bytes([number])).hexdigest()
        objects.write(f"files/{digest}", listed(PACK, number).encode())
    with ChunkIndex(None) as index:
        index.refresh(objects)
        assert all(index.find(chunk(number)) is not None for number in range(70))


def test_a_list_that_is_deleted_after_the_listing_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objects = MemoryObjects()
    gone = Entry(f"files/{'d' * 64}", 100, 0.0)
    monkeypatch.setattr(objects, "entries", lambda _prefix: iter([gone]))
    with ChunkIndex(None) as index:
        index.refresh(objects)
        assert not index.has_size(100)


@pytest.mark.parametrize("kind", ["folder", "file above"])
def test_an_index_that_cannot_be_opened_is_replaced_by_one_in_memory(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "index"
    if kind == "folder":
        path.mkdir()
    else:
        path.touch()
        path = path / "index"
    with caplog.at_level(logging.WARNING), ChunkIndex(path) as index:
        index.add(PACK, [(chunk(1), 0, 10)])
        assert index.find(chunk(1)) == (PACK, 0, 10)
    assert str(path) in caplog.text


def test_a_file_that_is_not_an_index_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "index"
    path.write_bytes(b"not a database" * 1000)
    with ChunkIndex(path) as index:
        index.add(PACK, [(chunk(1), 0, 10)])
    with ChunkIndex(path) as index:
        assert index.find(chunk(1)) == (PACK, 0, 10)


def test_each_store_has_its_own_index(tmp_path: Path) -> None:
    urls = ["s3://a/x", "s3://a/y", "/srv/store"]
    paths = {index_path(tmp_path, url) for url in urls}
    assert len(paths) == 3
    assert {path.parent for path in paths} == {tmp_path}
    assert index_path(tmp_path, urls[0]) in paths
