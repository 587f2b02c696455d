"""What is special of a store in a folder; its contract is tests/e2e/test_store_objects.py."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from forge.errors import ConflictError, CorruptedError, NotInStoreError, StoreError
from forge.store.backends.directory import DirectoryObjects
from forge.store.backends.throttle import RateLimit

READS: dict[str, Callable[[DirectoryObjects], object]] = {
    "read": lambda objects: objects.read("x", max_bytes=1),
    "read_range": lambda objects: objects.read_range("x", 0, 1),
    "touch": lambda objects: objects.touch("x"),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "store"


@pytest.fixture
def objects(root: Path) -> DirectoryObjects:
    return DirectoryObjects(root)


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_an_object_is_a_file_that_everyone_may_read(objects: DirectoryObjects, root: Path) -> None:
    etag = objects.write("packs/ab/x", b"bytes")
    assert (root / "packs" / "ab" / "x").read_bytes() == b"bytes"
    assert (root / "packs" / "ab" / "x").stat().st_mode & 0o777 == 0o644
    assert etag == hashlib.sha256(b"bytes").hexdigest()
    objects.write_new("packs/ab/y", b"bytes")
    assert (root / "packs" / "ab" / "y").stat().st_mode & 0o777 == 0o644
    assert files(root) == {"packs/ab/x", "packs/ab/y", ".lock"}  # no temporary file


@pytest.mark.parametrize("use", READS)
def test_reading_makes_no_folder(objects: DirectoryObjects, root: Path, use: str) -> None:
    with pytest.raises(NotInStoreError, match="store at") as caught:
        READS[use](objects)
    assert str(root) in caught.value.what
    assert objects.entry("x") is None
    assert objects.size("x") is None
    assert list(objects.entries("")) == []
    assert objects.sweep(1e12) == 0
    objects.delete("x")
    assert not root.parent.exists()


@pytest.mark.parametrize("made_by", ["write", "found"])
def test_a_folder_that_disappears_is_an_error_and_is_not_made_again(
    objects: DirectoryObjects, root: Path, made_by: str
) -> None:
    objects.write("x", b"1")
    if made_by == "found":
        objects = DirectoryObjects(root)
    shutil.rmtree(root)
    uses: list[Callable[[DirectoryObjects], object]] = [
        *READS.values(),
        lambda objects: objects.write("x", b"1"),
        lambda objects: objects.write_new("x", b"1"),
        lambda objects: objects.scratch(),
        lambda objects: objects.entry("x"),
        lambda objects: list(objects.entries("")),
    ]
    for use in uses:
        with pytest.raises(StoreError, match=str(root)) as caught:
            use(objects)
        assert not isinstance(caught.value, NotInStoreError)
        assert "mount" in caught.value.hint
        assert not root.exists()


def test_a_failing_write_leaves_the_old_bytes_and_no_file(
    objects: DirectoryObjects, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.write("x", b"old")

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    uses: list[Callable[[], object]] = [
        lambda: objects.write("x", b"new"),
        lambda: objects.write_new("y", b"new"),
        lambda: objects.write_if("x", b"new", hashlib.sha256(b"old").hexdigest()),
    ]
    for use in uses:
        with pytest.raises(StoreError, match="No space left") as caught:
            use()
        assert "forge store gc" in caught.value.hint
    assert (root / "x").read_bytes() == b"old"
    assert files(root) == {"x", ".lock"}


def test_a_replaced_object_is_a_new_file(objects: DirectoryObjects, root: Path) -> None:
    objects.write("x", b"old")
    with (root / "x").open("rb") as reader:
        objects.write("x", b"new and longer")
        assert reader.read() == b"old"  # a reader sees one or the other


def test_conditional_writes_name_the_object(objects: DirectoryObjects, root: Path) -> None:
    etag = objects.write_new("x", b"1")
    uses: list[Callable[[], object]] = [
        lambda: objects.write_new("x", b"2"),
        lambda: objects.write_if("x", b"2", "no"),
    ]
    for use in uses:
        with pytest.raises(ConflictError, match="x") as caught:
            use()
        assert str(root) in caught.value.what
    objects.write_if("x", b"2", etag)
    assert (root / "x").read_bytes() == b"2"
    assert list((root / ".tmp").iterdir()) == []


@pytest.mark.parametrize("take", [True, False])
def test_a_file_is_moved_only_where_it_was_given_away(
    objects: DirectoryObjects, root: Path, *, take: bool
) -> None:
    path = objects.scratch() / "pack"
    path.write_bytes(b"bytes")
    path.chmod(0o600)
    inode = path.stat().st_ino
    objects.write_file("packs/x", path, take=take)
    stored = root / "packs" / "x"
    assert stored.read_bytes() == b"bytes"
    assert stored.stat().st_mode & 0o777 == 0o644
    assert (stored.stat().st_ino == inode) is take
    assert path.exists() is not take


def test_scratch_is_in_the_store_and_not_listed(objects: DirectoryObjects, root: Path) -> None:
    objects.write("x", b"1")
    (objects.scratch() / "pack").touch()
    (root / ".hidden").touch()
    (root / "trees").mkdir()
    (root / "trees" / ".partial").touch()
    assert objects.scratch().is_relative_to(root)
    assert [entry.name for entry in objects.entries("")] == ["x"]


def test_only_the_folder_of_the_prefix_is_walked(
    objects: DirectoryObjects, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("packs/aa/1", "packs/ab/2", "packs/b", "files/1"):
        objects.write(name, b"1")
    walked: list[str] = []
    scandir = os.scandir

    def record(folder: Path) -> object:
        walked.append(Path(folder).relative_to(root).as_posix())
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", record)
    assert sorted(entry.name for entry in objects.entries("packs/a")) == [
        "packs/aa/1",
        "packs/ab/2",
    ]
    assert sorted(walked) == ["packs", "packs/aa", "packs/ab"]
    assert [entry.name for entry in objects.entries("packs/b")] == ["packs/b"]
    assert list(objects.entries("packs/b/")) == []


def test_a_folder_is_not_an_object(objects: DirectoryObjects) -> None:
    objects.write("a/b", b"1")
    with pytest.raises(NotInStoreError, match="a is not in the store") as caught:
        objects.read("a", max_bytes=1)
    assert "folder" in caught.value.why
    with pytest.raises(NotInStoreError, match="a/b/c"):
        objects.read("a/b/c", max_bytes=1)


def test_sizes_are_checked(objects: DirectoryObjects) -> None:
    objects.write("x", b"12345")
    with pytest.raises(CorruptedError, match="larger than 4 bytes"):
        objects.read("x", max_bytes=4)
    with pytest.raises(CorruptedError, match="before byte 6"):
        objects.read_range("x", 3, 3)
    assert b"".join(objects.stream("x", 1, 4)) == b"2345"
    assert not objects.report_bad_copy("x")


def test_sweep_deletes_old_files_of_the_scratch_folder_only(
    objects: DirectoryObjects, root: Path
) -> None:
    objects.write("x", b"1")
    for path in (root / "x", objects.scratch() / "old", objects.scratch() / "young"):
        path.touch()
        os.utime(path, (0, 0 if path.name != "young" else 1000))
    assert objects.sweep(500) == 1
    assert files(root) == {"x", ".lock", ".tmp/young"}


def test_the_rate_of_a_folder_is_limited_too_and_its_bytes_are_the_same(root: Path) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    limit = RateLimit(8192, clock=lambda: now[0], sleep=sleep)
    objects = DirectoryObjects(root, limit)
    data = bytes(range(256)) * 128
    objects.write("x", data)
    blocks = list(objects.stream("x", 100, 30_000))
    assert b"".join(blocks) == data[100:30_100]
    assert max(map(len, blocks)) == limit.block
    assert now[0] == pytest.approx(30_000 / 8192, abs=0.3)
