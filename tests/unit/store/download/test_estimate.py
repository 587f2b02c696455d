"""What a download will fetch: the same number as what it then fetches."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forge.errors import CorruptedError
from forge.store import Store
from forge.store.backends.directory import DirectoryObjects
from forge.store.download import downloader, estimate
from forge.store.download.estimate import DownloadEstimate, estimate_download
from tests.support.stores import noise
from tests.support.webserver import web_server

Files = dict[str, bytes]


def write(folder: Path, files: Files) -> Path:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def costs(folder: Path, before: Files, after: Files) -> tuple[DownloadEstimate, tuple[int, int]]:
    """The estimate, and (bytes, requests) of a real download with the first tree as the seed."""
    store = Store(DirectoryObjects(folder / "store"), cache=folder / "cache")
    old = write(folder / "old", before)
    held = store.put_tree(old) if before else None
    new = store.put_tree(write(folder / "new", after))
    expected = estimate_download(
        store.objects, store.tree(new.digest), store.tree(held.digest) if held else None
    )
    moved = store.unpack(new.digest, folder / "device", seeds=[old] if before else [])
    return expected, (moved.fetched_bytes, moved.requests)


def changed(data: bytes, at: int, size: int) -> bytes:
    return data[:at] + noise(size, 99) + data[at + size :]


BIG = noise(3_000_000, 1)
CASES: dict[str, tuple[Files, Files]] = {
    "nothing is held": ({}, {"a.bin": BIG, "b.txt": b"small", "empty": b""}),
    "equal": ({"a.bin": BIG}, {"a.bin": BIG}),
    "renamed": ({"a.bin": BIG}, {"folder/b.bin": BIG}),
    "a part of a file differs": ({"a.bin": BIG}, {"a.bin": changed(BIG, 1_500_000, 1000)}),
    "two parts near each other differ": (
        {"a.bin": BIG},
        {"a.bin": changed(changed(BIG, 1_500_000, 1000), 1_700_000, 1000)},
    ),
    "renamed and changed": ({"a.bin": BIG}, {"b.bin": changed(BIG, 10, 100)}),
    "another suffix": ({"a.bin": BIG}, {"b.dat": changed(BIG, 10, 100)}),
    "the same bytes twice": ({"x": b"1"}, {"a.bin": BIG, "b.bin": BIG, "c": b"22", "d": b"22"}),
    "repeats in a file": ({"x": b"1"}, {"a.bin": BIG[:500_000] * 4}),
    "a small file became large": ({"a.bin": BIG[:9000]}, {"a.bin": BIG[:9000] + b"\0" * 90_000}),
    "nearest of several": (
        {f"{n}.bin": noise(100_000 * n, n) for n in range(1, 6)},
        {"x.bin": changed(noise(300_000, 3), 0, 500)},
    ),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_estimate_is_what_a_download_fetches(tmp_path: Path, case: str) -> None:
    expected, fetched = costs(tmp_path, *CASES[case])
    assert (expected.bytes, expected.requests) == fetched


def test_equal_tree_costs_nothing_and_a_change_costs_its_chunks(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    expected, _ = costs(tmp_path / "a", {"a.bin": BIG}, {"a.bin": BIG})
    assert expected == DownloadEstimate(size=len(BIG))
    (tmp_path / "b").mkdir()
    expected, _ = costs(tmp_path / "b", *CASES["a part of a file differs"])
    assert expected.files == 1
    assert 1 <= expected.chunks <= 3
    assert expected.bytes < 3 * 256 * 1024 + 10_000


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_estimate_of_any_two_trees_is_what_a_download_fetches(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    chance = random.Random(seed)  # noqa: S311
    before = {f"{n}.bin": chance.randbytes(chance.choice((10, 20_000, 400_000))) for n in range(3)}
    after = {}
    for path, data in before.items():
        at = chance.randrange(len(data))
        name = path if chance.random() < 0.5 else f"other-{path}"
        after[name] = chance.choice((data, data[:at] + b"x" * 50 + data[at:], data[at:] or b"y"))
    expected, fetched = costs(tmp_path_factory.mktemp("any"), before, after)
    assert (expected.bytes, expected.requests) == fetched


def test_windows_are_those_of_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (downloader, estimate):
        monkeypatch.setattr(module, "WINDOW", 3)
    expected, fetched = costs(tmp_path, {}, {"a.bin": BIG[:400_000] * 3})
    assert (expected.bytes, expected.requests) == fetched


def test_a_real_web_server_sends_as_many_bytes(tmp_path: Path) -> None:
    store = Store(DirectoryObjects(tmp_path / "store"), cache=tmp_path / "cache")
    old = write(tmp_path / "old", {"a.bin": BIG, "b.txt": b"b"})
    held = store.put_tree(old)
    new = store.put_tree(write(tmp_path / "new", {"a.bin": changed(BIG, 2_000_000, 9), "c": b"c"}))
    tree = store.tree(new.digest)
    expected = estimate_download(store.objects, tree, store.tree(held.digest))
    with web_server(tmp_path / "store", tmp_path / "web") as server:
        from forge.store import open_store

        client = open_store(server.url, cache=tmp_path / "other-cache")
        client.unpack(new.digest, tmp_path / "device", seeds=[old])
        assert server.sent() == expected.bytes + len(tree.encode())


def test_a_chunk_list_that_is_missing_is_named(tmp_path: Path) -> None:
    store = Store(DirectoryObjects(tmp_path / "store"), cache=tmp_path / "cache")
    new = store.put_tree(write(tmp_path / "new", {"a.bin": BIG}))
    for file in (tmp_path / "store" / "files").rglob("*"):
        file.unlink()
    with pytest.raises(CorruptedError, match="incomplete"):
        estimate_download(store.objects, store.tree(new.digest))
