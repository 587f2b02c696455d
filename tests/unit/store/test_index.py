"""The chunk index is a cache: it may fail at any moment and costs nothing but reading again."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from forge.store import Store, open_store
from forge.store.index import index_path
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
    assert again.verify().ok
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
