"""What stays next to a folder while it is made, and what a full disk means."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from forge.canonical import sha256
from forge.errors import ConflictError, StoreError
from forge.store.disk_errors import DiskError
from forge.store.download.out_of_order_file import OutOfOrderFile
from forge.store.download.ranges import Piece
from forge.store.download.resume import (
    Partial,
    check_space,
    full_disk,
    resume_chunks,
    staging,
)
from forge.store.formats.chunk_list import Chunk
from forge.store.formats.tree import TreeEntry

MIB = 2**20
A, B = "a" * 64, "b" * 64


def entry(size: int, sha256: str = A, path: str = "sub/file") -> TreeEntry:
    return TreeEntry(path=path, mode=0o644, size=size, sha256=sha256)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "target"


@pytest.fixture
def where(target: Path) -> Iterator[Partial]:
    with staging(target) as found:
        yield found


def beside(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def leave(target: Path, error: BaseException) -> None:
    """A run that ends by `error` with a file in its folder and a part."""
    with staging(target) as where:
        (where.folder / "whole").write_text("whole")
        where.parts.mkdir(exist_ok=True)
        (where.parts / A).mkdir(exist_ok=True)
        raise error


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A disk of 4 KiB blocks whose free space the test sets."""
    found = SimpleNamespace(f_frsize=4096, f_bavail=0, f_files=100, f_favail=100)
    monkeypatch.setattr(os, "statvfs", lambda _path: found)
    return found


def test_success_leaves_nothing_beside_the_folder(target: Path) -> None:
    with staging(target) as where:
        assert where.folder.is_dir()
        assert where.folder.parent == target.parent
        assert not where.leftover.exists()
        where.parts.mkdir()
        (where.parts / "x").touch()
        where.folder.rename(target)
    assert beside(target) == ["target"]


@pytest.mark.parametrize("error", [StoreError("x"), KeyboardInterrupt(), KeyError("x")])
def test_the_next_run_has_what_a_failed_one_left(target: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        leave(target, error)
    with staging(target) as where:
        assert list(where.folder.iterdir()) == []
        assert (where.leftover / "whole").read_text() == "whole"
        assert (where.parts / A).is_dir()
    assert ".target.leftover" not in beside(target)


def test_of_two_failed_runs_the_later_one_is_kept(target: Path) -> None:
    for _ in range(2):
        with pytest.raises(StoreError):
            leave(target, StoreError("x"))
    (target.parent / ".target.partial" / "whole").write_text("later")
    with staging(target) as where:
        assert (where.leftover / "whole").read_text() == "later"
        assert not (where.leftover / ".target.leftover").exists()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), DiskError("x")])
def test_an_error_of_the_disk_leaves_nothing(target: Path, error: Exception) -> None:
    with pytest.raises(StoreError):
        leave(target, StoreError("x"))
    with pytest.raises(type(error)):
        leave(target, error)
    assert beside(target) == []


def test_two_processes_do_not_fill_the_same_folder(target: Path) -> None:
    with pytest.raises(StoreError):
        leave(target, StoreError("x"))
    descriptor = os.open(target.parent / ".target.partial", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(ConflictError, match=r"filling .*\.target\.partial"), staging(target):
        pass
    os.close(descriptor)
    assert (target.parent / ".target.partial" / "whole").exists()
    with staging(target):
        pass


def test_a_folder_is_locked_while_it_is_filled(target: Path, where: Partial) -> None:
    with pytest.raises(ConflictError), staging(target):
        pass
    assert where.folder.is_dir()


def test_each_file_has_its_own_part(where: Partial) -> None:
    assert where.part(entry(1)) == where.parts / A / "sub/file"
    assert len({where.part(entry(1, digest, path)) for digest in (A, B) for path in "xy"}) == 4


def test_parts_of_another_tree_are_found(where: Partial) -> None:
    assert where.other_partials([entry(1)]) == []
    for digest in (A, B):
        (where.parts / digest).mkdir(parents=True)
    assert where.other_partials([entry(1, A)]) == [where.parts / B]
    assert where.other_partials([entry(1, A), entry(1, B)]) == []


@pytest.mark.parametrize("sizes", [[1], [4096, 1], [10 * MIB + 1, 0, 4097]])
def test_files_take_whole_blocks_and_4_mib_stay_free(
    where: Partial, disk: SimpleNamespace, sizes: list[int]
) -> None:
    files = [entry(size, f"{number:064x}") for number, size in enumerate(sizes)]
    needed = 1024 + sum(-(-size // 4096) for size in sizes)
    disk.f_bavail = needed
    check_space(where, files)
    disk.f_bavail = needed - 1
    with pytest.raises(DiskError, match="MiB") as caught:
        check_space(where, files)
    assert str(where.folder.parent) in caught.value.what
    assert "free" in caught.value.hint


def test_the_message_has_the_sizes(where: Partial, disk: SimpleNamespace) -> None:
    disk.f_bavail = 2 * MIB // 4096
    with pytest.raises(DiskError) as caught:
        check_space(where, [entry(10 * MIB)])
    for said in ("14 MiB", "2 MiB", "12 MiB are missing"):
        assert said in caught.value.why


def test_what_is_there_of_a_file_needs_no_space_again(
    where: Partial, disk: SimpleNamespace
) -> None:
    part = where.part(entry(10 * 4096))
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 10 * 4096)
    os.sync()
    allocated = part.stat().st_blocks * 512
    assert allocated
    disk.f_bavail = 1024 + 10 - allocated // 4096
    check_space(where, [entry(10 * 4096)])
    disk.f_bavail -= 1
    with pytest.raises(DiskError):
        check_space(where, [entry(10 * 4096)])


def test_what_another_tree_left_is_deleted_only_where_space_is_short(
    where: Partial, disk: SimpleNamespace
) -> None:
    where.leftover.mkdir()
    for digest in (A, B):
        (where.parts / digest).mkdir(parents=True)
    disk.f_bavail = 1025
    check_space(where, [entry(1, A)])
    assert where.leftover.is_dir()
    assert (where.parts / B).is_dir()
    disk.f_bavail = 1024
    with pytest.raises(DiskError):
        check_space(where, [entry(1, A)])
    assert not where.leftover.exists()
    assert not (where.parts / B).exists()
    assert (where.parts / A).is_dir()  # of this tree: it saves space


@pytest.mark.parametrize(("total", "fits"), [(100, False), (0, True)])
def test_a_file_system_may_run_out_of_files(
    where: Partial, disk: SimpleNamespace, total: int, *, fits: bool
) -> None:
    disk.f_bavail, disk.f_files, disk.f_favail = 10_000, total, 1  # 0: it has no limit
    files = [entry(1, f"{number:064x}") for number in range(2)]
    check_space(where, files[:1])
    if fits:
        check_space(where, files)
        return
    with pytest.raises(DiskError) as caught:
        check_space(where, files)
    assert {"2", "1"} <= set(caught.value.why.split())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_filled_up_is_described_with_sizes(
    tmp_path: Path, disk: SimpleNamespace, number: int
) -> None:
    disk.f_bavail = 3 * MIB // 4096
    error = full_disk(tmp_path / "x", 20 * MIB + 1, OSError(number, "It is full"))
    assert error is not None
    assert str(tmp_path / "x") in error.what
    for said in ("It is full", "25 MiB", "3 MiB", "22 MiB"):
        assert said in error.why


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.ENOENT])
def test_another_error_is_not_a_full_disk(tmp_path: Path, number: int) -> None:
    assert full_disk(tmp_path / "x", 1, OSError(number, "x")) is None


def test_complete_chunks_are_kept_and_the_first_bytes_of_others_are_returned(
    tmp_path: Path,
) -> None:
    chunks = [bytes([number]) * 1000 for number in (1, 2, 3)]
    path = tmp_path / "file"
    path.write_bytes(chunks[0] + chunks[1][:400])  # as a killed run left it
    whole = TreeEntry(path="file", mode=0o644, size=3000, sha256=sha256(b"".join(chunks)))
    pieces = [
        Piece(Chunk(bytes.fromhex(sha256(data)), b"p" * 32, 0, len(data)), number * 1000)
        for number, data in enumerate(chunks)
    ]
    wanted = {piece.chunk.digest: piece.position for piece in pieces}
    lengths: list[int] = []
    file = OutOfOrderFile(path, whole)
    try:
        heads = resume_chunks(file, iter(pieces), wanted, lengths.append)
    finally:
        file.close()
    assert lengths == [1000]
    assert sorted(wanted.values()) == [1000, 2000]
    assert heads == {pieces[1].chunk.digest: chunks[1][:400]}
