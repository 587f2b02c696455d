"""An OSError becomes an error that says what failed, where, why and what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from forge.errors import StoreError
from forge.store.disk_errors import WRONG_FILE, DiskError, disk_error, disk_errors, sweep_folder


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "forge store gc"),
        (errno.EDQUOT, "forge store gc"),
        (errno.EROFS, "writable"),
        (errno.EACCES, "owner or mode"),
        (errno.EPERM, "owner or mode"),
        (errno.EIO, "kernel"),
        (errno.ESTALE, "mount it again"),
        (errno.EXDEV, "check that folder"),
    ],
)
def test_each_cause_has_its_hint(number: int, hint: str) -> None:
    error = disk_error("The thing failed", "/mnt/x", OSError(number, os.strerror(number)))
    assert error.what == "The thing failed"
    assert os.strerror(number) in error.why
    assert "/mnt/x" in error.why
    assert hint in error.hint
    assert error.exit_code == 9


def test_an_error_without_a_number_is_described_by_its_text() -> None:
    error = disk_error("It failed", "/mnt/x", OSError("odd"))
    assert "odd" in error.why
    assert error.hint


def test_the_file_of_the_error_is_named_rather_than_the_folder(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(DiskError) as caught, disk_errors("It failed", "the folder"):
        missing.read_bytes()
    assert str(missing) in caught.value.why
    assert "the folder" not in caught.value.why
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_the_place_is_named_where_the_error_has_no_file() -> None:
    with pytest.raises(DiskError, match="the folder"), disk_errors("It failed", Path("the folder")):
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("error", [KeyError("x"), StoreError("x"), KeyboardInterrupt()])
def test_other_errors_pass_as_they_are(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, disk_errors("It failed", "x"):
        raise error
    assert caught.value is error


def test_a_full_disk_is_not_a_wrong_file() -> None:
    assert errno.ENOENT in WRONG_FILE
    assert not {errno.ENOSPC, errno.EIO, errno.EROFS} & WRONG_FILE


def test_sweep_deletes_the_files_written_before_a_time_and_counts_them(tmp_path: Path) -> None:
    for name, modified in (("old", 99), ("older", 5), ("at", 100), ("young", 101)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000, modified))  # read lately: that does not count
    assert sweep_folder(tmp_path, 100) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["at", "young"]


def test_sweep_of_a_missing_folder_deletes_nothing(tmp_path: Path) -> None:
    assert sweep_folder(tmp_path / "none", 1e12) == 0


def test_sweep_goes_on_after_a_file_that_disappears(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(tmp_path / "nothing")  # `stat` finds no file
    (tmp_path / "c").touch()
    assert sweep_folder(tmp_path, 1e12) == 1
    assert not (tmp_path / "c").exists()
