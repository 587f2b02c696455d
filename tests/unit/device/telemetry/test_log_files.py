"""The agent's log is kept in files of limited size, and read back: the last lines, and new ones."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from forge.device.telemetry import log_files
from forge.device.telemetry.log_files import Follower, agent_files, kept, tail

LOG = logging.getLogger("forge.device.test")


@pytest.fixture(autouse=True)
def everything_is_logged() -> None:
    LOG.setLevel("INFO")


def test_what_is_logged_meanwhile_is_in_the_file_and_nothing_afterwards(tmp_path: Path) -> None:
    handlers = logging.getLogger().handlers[:]
    with kept(tmp_path):
        LOG.info("slot %s serves", "a")
        LOG.error("two\nlines")
    LOG.info("later")
    assert logging.getLogger().handlers == handlers
    lines = tail(agent_files(tmp_path), 10)
    assert [line.split(" ", 1)[1] for line in lines] == [
        "INFO slot a serves", "ERROR two", "ERROR lines",
    ]  # fmt: skip


def test_the_files_stay_small_and_the_newest_lines_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "_MAX_BYTES", 2000)
    with kept(tmp_path):
        for number in range(500):
            LOG.info("line %d", number)
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["agent.log", "agent.log.1"]
    assert sum(path.stat().st_size for path in files) <= 4000
    lines = tail(agent_files(tmp_path), 60)  # more than one file holds
    assert [int(line.rsplit(" ", 1)[1]) for line in lines] == list(range(440, 500))


def test_a_folder_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    with kept(tmp_path / "gone"):
        LOG.info("on standard error only")


def test_a_disk_that_fails_loses_lines_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with kept(tmp_path):
        LOG.info("kept")
        monkeypatch.setattr(log_files._LogFile, "flush", full)
        LOG.info("lost")
    assert "Logging error" not in capsys.readouterr().err


def test_the_last_lines_of_a_huge_or_binary_file_are_read(tmp_path: Path) -> None:
    path = tmp_path / "triton.log"
    path.write_bytes(b"x" * 5_000_000 + b"\nlast \xff\n")
    assert tail((path,), 1) == ["last \N{REPLACEMENT CHARACTER}"]
    assert len(tail((path,), 10)[0]) < 4 * 1024 * 1024
    assert tail((path,), 0) == []
    assert tail((tmp_path / "gone", path), 1) == ["last \N{REPLACEMENT CHARACTER}"]
    assert tail((tmp_path / "gone",), 5) == []


def test_new_lines_are_followed_over_a_rotation_a_cut_and_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    follower = Follower(path)
    assert follower.lines() == []  # there is none yet
    path.write_text("one\ntw")
    assert follower.lines() == ["one"]
    with path.open("a") as file:
        file.write("o\nthree\n")
    assert follower.lines() == ["two", "three"]
    with path.open("a") as file:
        file.write("four\n")
    path.rename(tmp_path / "agent.log.1")
    path.write_text("five\n")
    assert follower.lines() == ["four", "five"]
    path.write_text("6\n")  # the supervisor cuts Triton's log
    assert follower.lines() == ["6"]


def test_what_is_followed_continues_behind_the_last_lines_that_were_shown(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    (tmp_path / "agent.log.1").write_text("zero\n")
    path.write_text("one\ntwo\nthr")
    follower = Follower(path)
    assert follower.tail(agent_files(tmp_path), 3) == ["zero", "one", "two"]
    with path.open("a") as file:
        file.write("ee\nfour\n")
    assert follower.lines() == ["three", "four"]
    assert follower.lines() == []
    assert Follower(path).tail(agent_files(tmp_path), 0) == []


def test_a_line_written_while_the_last_ones_are_read_is_shown_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the file is rotated at that moment."""
    path = tmp_path / "agent.log"
    path.write_text("one\n")
    real = os.fstat

    def written_meanwhile(descriptor: int) -> os.stat_result:
        monkeypatch.setattr(os, "fstat", real)
        found = real(descriptor)
        with path.open("a") as file:
            file.write("two\n")
        path.rename(tmp_path / "agent.log.1")
        path.write_text("three\n")
        return found

    monkeypatch.setattr(os, "fstat", written_meanwhile)
    follower = Follower(path)
    shown = follower.tail(agent_files(tmp_path), 10)
    shown += follower.lines()
    assert shown == ["one", "two", "three"]


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    follower = Follower(path)
    assert follower.tail((path,), 5) == []
    line = "a\x0cb\N{LINE SEPARATOR}c\rd"
    path.write_bytes(f"{line}\nlast".encode())
    assert follower.lines() == [line]
    assert tail((path,), 5) == [line, "last"]
    assert Follower(path).tail((path,), 5) == [line]
