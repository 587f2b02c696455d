"""What every caller of a Progress may rely on: it grows, and it reaches the whole."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from forge.store import Store
from forge.store.maintenance.check import check_store
from forge.store.progress import Progress
from tests.support.memory_stores import memory_store
from tests.support.stores import fill

SIZE = 200_000 + 40_000 + 13 + 10  # of `fill`


def _put(store: Store, folder: Path, progress: Progress) -> int:
    store.put(folder, progress=progress)
    return SIZE


def _unpack(store: Store, folder: Path, progress: Progress) -> int:
    digest = store.put_tree(folder).digest
    store.unpack(digest, folder.with_name("out"), progress=progress)
    return SIZE


def _check(store: Store, folder: Path, progress: Progress) -> int:
    store.put_tree(folder)
    check_store(store, progress=progress)
    return sum(
        entry.size
        for kind in ("packs/", "files/", "trees/")
        for entry in store.objects.entries(kind)
    )


@pytest.mark.parametrize("work", [_put, _unpack, _check])
def test_progress_grows_and_reaches_the_whole(
    tmp_path: Path, work: Callable[[Store, Path, Progress], int]
) -> None:
    calls: list[tuple[int, int]] = []
    folder = fill(tmp_path / "in", large=200_000)
    size = work(memory_store(tmp_path / "cache"), folder, lambda *call: calls.append(call))
    assert len(calls) > 3
    assert {whole for _, whole in calls} == {size}
    assert all(before[0] <= after[0] for before, after in itertools.pairwise(calls))
    assert calls[-1] == (size, size)


def test_what_a_seed_has_is_done_and_not_downloaded(tmp_path: Path) -> None:
    folder, store = fill(tmp_path / "in", large=200_000), memory_store(tmp_path / "cache")
    digest = store.put_tree(folder).digest
    moved: list[int] = []
    store.unpack(digest, tmp_path / "whole", moved=moved.append)
    assert moved == sorted(moved)
    assert moved[-1] == SIZE
    seed = tmp_path / "seed"
    shutil.copytree(folder, seed)
    gone = min(
        (path for path in seed.rglob("*") if path.is_file()), key=lambda one: one.stat().st_size
    )
    size = gone.stat().st_size
    gone.unlink()
    moved.clear()
    store.unpack(digest, tmp_path / "again", seeds=[seed], moved=moved.append)
    assert (moved[0], moved[-1]) == (0, size)
