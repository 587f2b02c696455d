"""What the machine lacks after some work, by the files of /proc and by its disks."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from forge.device.update.resource_pressure import ResourceSnapshot

# As Linux 6.1 writes them.
VMSTAT = "nr_free_pages 4025139\noom_kill {kills}\nnuma_hit 61537446\n"
MEMINFO = "MemTotal:       24684004 kB\nMemFree:          12000 kB\nMemAvailable:   {kib} kB\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    folder = tmp_path / "proc"
    folder.mkdir()
    write(folder)
    return folder


def write(proc: Path, *, kills: int = 2, kib: int = 8_000_000) -> None:
    (proc / "vmstat").write_text(VMSTAT.format(kills=kills))
    (proc / "meminfo").write_text(MEMINFO.format(kib=kib))


def test_a_machine_with_room_lacks_nothing(proc: Path, tmp_path: Path) -> None:
    assert ResourceSnapshot.now(tmp_path, proc).lack() == ""


def test_this_machine_says_how_much_memory_it_has(tmp_path: Path) -> None:
    assert ResourceSnapshot.now(tmp_path).lack() == ""
    assert "oom_kill " in Path("/proc/vmstat").read_text()


def test_a_process_killed_for_lack_of_memory_is_seen_when_there_is_memory_again(
    proc: Path, tmp_path: Path
) -> None:
    room = ResourceSnapshot.now(tmp_path, proc)
    write(proc, kills=3)
    assert room.lack() == "the kernel killed a process for lack of memory"
    assert ResourceSnapshot.now(tmp_path, proc).lack() == ""  # one of long ago explains nothing


def test_too_little_memory_is_said_in_mib(proc: Path, tmp_path: Path) -> None:
    write(proc, kib=63 * 1024)
    assert ResourceSnapshot.now(tmp_path, proc).lack() == "63 MiB of memory are available"


@pytest.mark.parametrize("full", ["state", "/dev/shm", "/tmp"])  # noqa: S108
def test_a_full_disk_is_named(
    proc: Path, tmp_path: Path, full: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/tmp")  # noqa: S108
    state = tmp_path / "state"
    state.mkdir()
    folder = state if full == "state" else Path(full)
    real = shutil.disk_usage

    def usage(path: Path) -> object:
        found = real(path)
        return found._replace(free=3 * 2**20) if path == folder else found

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert ResourceSnapshot.now(state, proc).lack() == f"3 MiB are free in {folder}"


def test_files_that_are_not_there_blame_nobody_for_nothing(tmp_path: Path) -> None:
    assert ResourceSnapshot.now(tmp_path, tmp_path / "no-proc").lack() == ""
