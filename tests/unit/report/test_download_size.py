"""Bytes to fetch, held against those that the downloader really fetches."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from forge.errors import NotInStoreError
from forge.report.download_size import DownloadSizes
from forge.store import Store
from tests.support.memory_stores import memory_store

Files = Mapping[str, bytes]


def noise(seed: object, size: int) -> bytes:
    return random.Random(str(seed)).randbytes(size)  # noqa: S311


LARGE = noise("large", 900_000)
PARTS = [LARGE[at : at + 150_000] for at in range(0, 900_000, 150_000)]
BASE: Files = {"engine.bin": LARGE, "small.txt": b"x" * 300, "empty": b"", "b/more.bin": LARGE}
CASES: Mapping[str, tuple[Files, Files]] = {
    "nothing": ({}, BASE),
    "the same": (BASE, BASE),
    "an edit in the middle": (
        {"engine.bin": LARGE},
        {"engine.bin": LARGE[:400_000] + b"edit" + LARGE[400_000:]},
    ),
    "several edits": ({"engine.bin": LARGE}, {"engine.bin": b"!".join(PARTS)}),
    "a renamed file": ({"old.bin": LARGE}, {"new.bin": LARGE}),
    "a renamed and edited file": ({"old.bin": LARGE}, {"new.bin": LARGE[100:]}),
    "a similar file with another suffix": ({"engine.bin": LARGE}, {"engine.onnx": LARGE[100:]}),
    "the same path and other bytes": ({"engine.bin": noise(1, 300_000), "other.bin": LARGE},
                                      {"engine.bin": LARGE[100:]}),
    "the nearest of many": (
        {f"{n}.bin": noise(n, 200_000 + 1000 * n) for n in range(9)} | {"x.bin": LARGE},
        {"engine.bin": LARGE[100:]},
    ),
    "repeated chunks": ({}, {"zeros.bin": bytes(3_000_000), "twice.bin": LARGE + LARGE}),
    "small files": ({"a": b"1", "b": b"2"}, {"a": b"1", "b": b"3", "c": b"3", "d": b"2"}),
    "a tail that is a small file": ({"tail.bin": LARGE[-3000:]}, {"engine.bin": LARGE}),
}  # fmt: skip


def put(store: Store, folder: Path, files: Files) -> str:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return store.put_tree(folder).digest


@pytest.mark.parametrize("case", CASES)
def test_as_many_bytes_as_a_device_fetches(tmp_path: Path, case: str) -> None:
    store = memory_store(tmp_path / "cache")
    before, after = CASES[case]
    seeds = [put(store, tmp_path / "before", before)] if before else []
    digest = put(store, tmp_path / "after", after)
    have = [tmp_path / "device" / one for one in seeds]
    for one, place in zip(seeds, have, strict=True):
        store.unpack(one, place)
    fetched = store.unpack(digest, tmp_path / "device" / "new", seeds=have).fetched_bytes
    assert DownloadSizes(store).content(digest, seeds) == fetched
    assert (fetched == 0) == (case in {"the same", "a renamed file"})


def test_one_object_answers_for_many_trees(tmp_path: Path) -> None:
    """What it keeps in memory of one tree is not taken for another's."""
    store = memory_store(tmp_path / "cache")
    files = [{"engine.bin": LARGE[: 300_000 + 50_000 * n] + noise(n, 9_000)} for n in range(5)]
    trees = [put(store, tmp_path / str(n), one) for n, one in enumerate(files)]
    together = DownloadSizes(store)
    for new in trees:
        for old in trees:
            assert together.content(new, [old]) == DownloadSizes(store).content(new, [old])


def test_a_tree_document_has_the_size_of_its_object(tmp_path: Path) -> None:
    store = memory_store(tmp_path / "cache")
    digest = put(store, tmp_path / "tree", BASE)
    stored = store.objects.read(f"trees/{digest}.json", max_bytes=10**6).data
    assert DownloadSizes(store).document(digest) == len(stored)


def test_a_tree_that_is_not_stored_is_named(tmp_path: Path) -> None:
    store = memory_store(tmp_path / "cache")
    digest = put(store, tmp_path / "tree", BASE)
    with pytest.raises(NotInStoreError, match="0000"):
        DownloadSizes(store).content(digest, ["0" * 64])
