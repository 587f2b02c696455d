"""Small files of /proc and /sys, read without waiting."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.system_files import RootFiles, numbered, read_text
from tests.support.machines import eagain


def test_files_and_names_are_those_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "sys").mkdir()
    (tmp_path / "sys" / "b1").write_bytes(b"\0 text")
    (tmp_path / "sys" / "B2").touch()
    files = RootFiles(tmp_path)
    assert files.read("sys/b1") == b"\0 text"
    assert files.read("sys/b1", 1) == b"\0"
    assert files.names("sys", "b*") == ["b1"]
    assert files.names("sys", "*") == ["B2", "b1"]
    with pytest.raises(FileNotFoundError):
        files.names("none", "*")


def test_text_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(" 38875\n")
    assert read_text(tmp_path / "a") == "38875"
    assert read_text(tmp_path / "none") is None
    with eagain(tmp_path / "gated"):
        assert read_text(tmp_path / "gated") is None


def test_numbered_entries_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        (tmp_path / f"zone{number}").touch()
    (tmp_path / "other").touch()
    assert [path.name for path in numbered(tmp_path, "zone", 9)] == ["zone1", "zone9", "zone10"]
    assert [path.name for path in numbered(tmp_path, "zone", 2)] == ["zone1", "zone9"]
    assert numbered(tmp_path / "none", "zone", 9) == []
