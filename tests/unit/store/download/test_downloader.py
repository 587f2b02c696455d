"""A tree out of the store: exact copies, or an error and no folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from forge.errors import ConfigurationError, CorruptedError, StoreError
from forge.store import Store
from forge.store.backends.mirrors import Mirrors
from forge.store.disk_errors import DiskError
from forge.store.download.downloader import Downloader
from forge.store.formats.names import files_name, pack_name
from forge.store.formats.tree import Tree, TreeEntry
from tests.support.memory_stores import Place
from tests.support.stores import fill, noise, snapshot


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "in", large=400_000)


@pytest.fixture
def tree(place: Place, folder: Path, tmp_path: Path) -> Tree:
    store = Store(place, cache=tmp_path / "cache")
    tree = store.tree(store.put_tree(folder).digest)
    place.asked.clear()
    return tree


def entry(tree: Tree, path: str) -> TreeEntry:
    return next(one for one in tree.entries if one.path == path)


def copy_of(place: Place, url: str) -> Place:
    other = Place(url)
    for one in place.entries(""):
        other.write(one.name, place.read(one.name, max_bytes=one.size).data)
    return other


def left(tmp_path: Path) -> set[str]:
    return {path.name for path in tmp_path.iterdir()} - {"in", "cache"}


def test_the_copy_is_exact_and_costs_are_counted(
    place: Place, tree: Tree, folder: Path, tmp_path: Path
) -> None:
    transfer = Downloader(place, tree, None).run(tmp_path / "out", [])
    assert snapshot(tmp_path / "out") == snapshot(folder)
    lists = sum(one.size for one in place.entries("files/"))
    assert (transfer.fetched_bytes, transfer.reused_bytes) == (tree.size + lists, 0)
    assert transfer.requests == len(place.asked) == 6  # 2 small files, 2 lists, 2 ranges
    assert left(tmp_path) == {"out"}


@pytest.mark.parametrize("path", ["run.sh", "empty", "engine/1/model.bin"])
def test_one_file_in_memory_is_the_file(place: Place, tree: Tree, folder: Path, path: str) -> None:
    assert Downloader(place, tree, None).read(entry(tree, path)) == (folder / path).read_bytes()


def test_an_equal_seed_is_linked_and_nothing_is_read(
    place: Place, tree: Tree, folder: Path, tmp_path: Path
) -> None:
    transfer = Downloader(place, tree, None).run(tmp_path / "out", [folder])
    assert [name for _, name in place.asked] == []
    assert (transfer.fetched_bytes, transfer.reused_bytes, transfer.requests) == (0, tree.size, 0)
    assert (tmp_path / "out" / "run.sh").samefile(folder / "run.sh")
    assert snapshot(tmp_path / "out") == snapshot(folder)


def test_a_seed_of_another_mode_is_copied_and_stays_as_it_is(
    place: Place, tree: Tree, folder: Path, tmp_path: Path
) -> None:
    expected = snapshot(folder)
    (folder / "run.sh").chmod(0o600)
    Downloader(place, tree, None).run(tmp_path / "out", [folder])
    assert snapshot(tmp_path / "out") == expected
    assert (folder / "run.sh").stat().st_mode & 0o777 == 0o600


def test_only_chunks_that_a_seed_lacks_are_fetched(
    place: Place, tree: Tree, folder: Path, tmp_path: Path
) -> None:
    expected = snapshot(folder)
    model = folder / "engine" / "1" / "model.bin"
    model.write_bytes(model.read_bytes()[:-1])
    transfer = Downloader(place, tree, None).run(tmp_path / "out", [folder])
    assert 0 < transfer.fetched_bytes < 280_000
    assert transfer.reused_bytes > tree.size - 280_000
    assert snapshot(tmp_path / "out") == expected


def test_equal_files_and_equal_chunks_are_fetched_once(tmp_path: Path) -> None:
    place, folder = Place(), tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_bytes(noise(100_000))
        (folder / f"small-{name}").write_bytes(b"small")
        (folder / f"zeros-{name}").write_bytes(bytes(1_500_000))
    (folder / "b").chmod(0o755)
    store = Store(place, cache=tmp_path / "cache")
    tree = store.tree(store.put_tree(folder).digest)
    transfer = Downloader(place, tree, None).run(tmp_path / "out", [])
    assert transfer.fetched_bytes < 100_000 + 5 + 2 * 262_144 + 2000
    assert snapshot(tmp_path / "out") == snapshot(folder)


def test_a_run_goes_on_with_what_a_failed_one_left(
    place: Place, tree: Tree, folder: Path, tmp_path: Path
) -> None:
    place.block = 10_000
    place.breaks_after = [300_000, 300_000]
    with pytest.raises(StoreError, match="connection broke"):
        Downloader(place, tree, None).run(tmp_path / "out", [])
    assert not (tmp_path / "out").exists()
    place.breaks_after = []
    transfer = Downloader(place, tree, None).run(tmp_path / "out", [])
    assert transfer.reused_bytes >= 290_000
    assert transfer.fetched_bytes < tree.size - 290_000 + 10_000
    assert snapshot(tmp_path / "out") == snapshot(folder)
    assert left(tmp_path) == {"out"}


@pytest.mark.parametrize("path", ["run.sh", "engine/1/model.bin"])
def test_damage_leaves_no_folder(place: Place, tree: Tree, tmp_path: Path, path: str) -> None:
    one = entry(tree, path)
    name = pack_name(one.sha256)
    if path != "run.sh":
        name = max(place.entries("packs/"), key=lambda found: found.size).name
    data = bytearray(place.read(name, max_bytes=500_000).data)
    data[2] ^= 1
    place.write(name, bytes(data))
    with pytest.raises(CorruptedError, match=name):
        Downloader(place, tree, None).run(tmp_path / "out", [])
    assert not (tmp_path / "out").exists()


def swapped(place: Place, tree: Tree) -> str:
    """Make the list of one file that of another of equal size; its name."""
    first, second = entry(tree, "one"), entry(tree, "two")
    other = place.read(files_name(second.sha256), max_bytes=9999).data
    place.write(files_name(first.sha256), other)
    return first.sha256


@pytest.fixture
def two(tmp_path: Path) -> tuple[Place, Tree, Path]:
    place, folder = Place(), tmp_path / "in"
    folder.mkdir()
    (folder / "one").write_bytes(noise(50_000, 1))
    (folder / "two").write_bytes(noise(50_000, 2))
    store = Store(place, cache=tmp_path / "cache")
    return place, store.tree(store.put_tree(folder).digest), folder


def test_a_list_of_another_file_is_found_by_the_digest_of_the_whole(
    two: tuple[Place, Tree, Path], tmp_path: Path
) -> None:
    place, tree, _ = two
    digest = swapped(place, tree)
    with pytest.raises(CorruptedError, match=digest):
        Downloader(place, tree, None).run(tmp_path / "out", [])
    assert not (tmp_path / "out").exists()
    with pytest.raises(CorruptedError, match=digest):
        Downloader(place, tree, None).read(entry(tree, "one"))


def test_the_list_of_another_mirror_is_used_where_one_is_wrong(
    two: tuple[Place, Tree, Path], tmp_path: Path
) -> None:
    place, tree, folder = two
    good = copy_of(place, "memory:good")
    swapped(place, tree)
    objects = Mirrors([place, good], clock=lambda: 0.0)
    Downloader(objects, tree, None).run(tmp_path / "out", [])
    assert snapshot(tmp_path / "out") == snapshot(folder)
    objects = Mirrors([place, good], clock=lambda: 0.0)
    assert Downloader(objects, tree, None).read(entry(tree, "one")) == noise(50_000, 1)


@pytest.mark.parametrize("kind", ["file", "folder with a file"])
def test_what_is_there_is_not_replaced(place: Place, tree: Tree, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "mine").touch()
    with pytest.raises(ConfigurationError, match="not empty") as caught:
        Downloader(place, tree, None).run(out, [])
    assert str(out) in caught.value.what
    assert place.asked == []
    assert out.is_file() or (out / "mine").exists()


def test_an_empty_folder_is_filled(place: Place, tree: Tree, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    Downloader(place, tree, None).run(tmp_path / "out", [])
    assert snapshot(tmp_path / "out") == snapshot(folder)


def test_without_space_nothing_is_fetched_and_nothing_stays(
    place: Place, tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = os.statvfs(tmp_path)
    full = os.statvfs_result((status.f_bsize, status.f_frsize, *status[2:4], 0, *status[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _path: full)
    with pytest.raises(DiskError, match="MiB"):
        Downloader(place, tree, None).run(tmp_path / "out", [])
    assert left(tmp_path) == set()
    assert place.asked == []


def test_the_digests_of_the_tree_are_of_the_files(tree: Tree, folder: Path) -> None:
    assert {one.path: one.sha256 for one in tree.entries} == {
        path: hashlib.sha256(data).hexdigest() for path, (data, _) in snapshot(folder).items()
    }
