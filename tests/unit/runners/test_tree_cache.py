"""Unpacked trees that are kept, and what makes one of them be unpacked again."""

import fcntl
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from forge.errors import NotInStoreError
from forge.runners.base import Cancelled
from forge.runners.tree_cache import TreeCache, file_states
from forge.store import Store
from forge.store.backends.memory import MemoryObjects

FILES = {"a.bin": b"weights", "sub/b.txt": b"text"}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(MemoryObjects(), cache=tmp_path / "cache")


@pytest.fixture
def digest(store: Store, tmp_path: Path) -> str:
    return store.put_tree(write(tmp_path / "source", FILES)).digest


@pytest.fixture
def trees(store: Store, tmp_path: Path) -> TreeCache:
    return TreeCache(tmp_path / "trees", store)


def test_tree_is_unpacked_once_and_kept(trees: TreeCache, digest: str) -> None:
    folder = trees.get(digest)
    assert folder == trees.folder / digest
    assert contents(folder) == FILES
    before = file_states(folder)
    assert trees.get(digest) == folder
    assert file_states(folder) == before


def test_steps_that_need_one_tree_at_once_wait_for_each_other(
    trees: TreeCache, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = threading.Barrier(4)
    unpack, unpacked = Store.unpack, []

    def slow(*arguments: Any, **options: Any) -> Any:
        unpacked.append(arguments[1])
        time.sleep(0.2)
        return unpack(*arguments, **options)

    def get(_number: int) -> Path:
        started.wait(30)
        return trees.get(digest)

    monkeypatch.setattr(Store, "unpack", slow)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(get, range(4))) == {trees.folder / digest}
    assert unpacked == [digest]
    assert contents(trees.folder / digest) == FILES


def test_waiting_for_another_run_can_be_cancelled(trees: TreeCache, digest: str) -> None:
    trees.folder.mkdir()
    with (trees.folder / f".{digest}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Cancelled):
            trees.get(digest, cancel)


def cancel(done: int, _total: int) -> None:
    assert done == 0
    raise Cancelled


def overwrite(folder: Path) -> None:
    (folder / "a.bin").chmod(0o644)
    (folder / "a.bin").write_bytes(b"WEIGHTS")


def shorten(folder: Path) -> None:
    (folder / "a.bin").chmod(0o644)
    (folder / "a.bin").write_bytes(b"")


def remove(folder: Path) -> None:
    (folder / "a.bin").unlink()


def add(folder: Path) -> None:
    (folder / "new").write_bytes(b"x")


def replace_with_folder(folder: Path) -> None:
    (folder / "a.bin").unlink()
    (folder / "a.bin").mkdir()


@pytest.mark.parametrize("change", [overwrite, shorten, remove, add, replace_with_folder])
def test_changed_tree_is_unpacked_again(
    trees: TreeCache, digest: str, change: Callable[[Path], None]
) -> None:
    change(trees.get(digest))
    assert contents(trees.get(digest)) == FILES
    assert [one.name for one in trees.folder.glob(".*") if one.suffix != ".lock"] == []


def test_change_that_keeps_size_and_time_is_found(trees: TreeCache, digest: str) -> None:
    file = trees.get(digest) / "a.bin"
    before = file.stat()
    overwrite(trees.folder / digest)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert contents(trees.get(digest)) == FILES


def test_touched_file_with_the_same_bytes_is_kept(trees: TreeCache, digest: str) -> None:
    file = trees.get(digest) / "a.bin"
    os.utime(file, (1, 1))
    inode = file.stat().st_ino
    assert trees.get(digest).joinpath("a.bin").stat().st_ino == inode
    assert file_states(trees.folder / digest)["a.bin"][0] == inode


@pytest.mark.parametrize("note", [b"", b"[]", b"{", b'{"a.bin": 1}', None])
def test_lost_or_damaged_note_costs_a_hash_and_not_the_tree(
    trees: TreeCache, digest: str, note: bytes | None
) -> None:
    inode = (trees.get(digest) / "a.bin").stat().st_ino
    path = trees.folder / f"{digest}.seen.json"
    if note is None:
        path.unlink()
    else:
        path.write_bytes(note)
    assert (trees.get(digest) / "a.bin").stat().st_ino == inode
    assert path.stat().st_size > 2


def test_tree_that_the_store_lacks_is_an_error(trees: TreeCache) -> None:
    with pytest.raises(NotInStoreError):
        trees.get("0" * 64)
    assert not (trees.folder / ("0" * 64)).exists()


def test_check_may_end_an_unpacking_which_leaves_nothing(trees: TreeCache, digest: str) -> None:
    def check(_done: int, _total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        trees.get(digest, check)
    assert not (trees.folder / digest).exists()
    assert contents(trees.get(digest)) == FILES


def test_stored_folder_is_adopted_without_reading_it_again(
    trees: TreeCache, store: Store, tmp_path: Path
) -> None:
    source = write(tmp_path / "source", FILES)
    looks = file_states(source)
    digest = store.put_tree(source).digest
    trees.adopt(digest, source, looks)
    assert not source.exists()
    assert contents(trees.get(digest)) == FILES


def test_file_changed_while_it_was_stored_is_not_taken_for_the_tree(
    trees: TreeCache, store: Store, tmp_path: Path
) -> None:
    source = write(tmp_path / "source", FILES)
    looks = file_states(source)
    digest = store.put_tree(source).digest
    (source / "a.bin").write_bytes(b"WEIGHTS")
    trees.adopt(digest, source, looks)
    assert contents(trees.get(digest)) == FILES


def test_second_folder_of_the_same_tree_is_not_adopted(
    trees: TreeCache, digest: str, tmp_path: Path
) -> None:
    inode = (trees.get(digest) / "a.bin").stat().st_ino
    source = tmp_path / "source"
    trees.adopt(digest, source, file_states(source))
    assert source.exists()
    assert (trees.get(digest) / "a.bin").stat().st_ino == inode


def test_use_of_a_tree_counts_as_of_now(trees: TreeCache, digest: str) -> None:
    folder = trees.get(digest)
    os.utime(folder, (1, 1))
    trees.get(digest)
    assert folder.stat().st_mtime > 1
