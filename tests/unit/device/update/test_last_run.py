"""How the last run of the agent ended: by the boot id, the kernel's counter and a marker."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from forge.device.shared.signals import StopAskedError
from forge.device.update.last_run import AgentRun, cause_of_end, recorded
from forge.errors import StoreError

NOW = AgentRun(boot="7d5c", oom_kills=4)
POWER = "the machine lost power, or restarted without a shutdown"
OOM = "the agent was killed, and the kernel has killed processes for lack of memory"


def machine(folder: Path, boot: str = "7d5c", kills: int = 4) -> Path:
    """A /proc."""
    proc = folder / "proc"
    (proc / "sys/kernel/random").mkdir(parents=True, exist_ok=True)
    (proc / "sys/kernel/random/boot_id").write_text(f"{boot}\n")
    (proc / "vmstat").write_text(f"nr_free_pages 12\noom_kill {kills}\nzone_reclaim_failed 0\n")
    return proc


@pytest.mark.parametrize(
    ("boot", "kills", "ended", "expected"),
    [
        ("7d5c", 4, "stopped", "the agent was stopped"),
        ("7d5c", 9, "stopped", "the agent was stopped"),
        ("7d5c", 4, "failed", "the agent ended by an error"),
        ("7d5c", 4, None, "the agent was killed"),
        ("7d5c", 3, None, OOM),
        ("7d5c", 9, None, "the agent was killed"),  # fewer now: another counter
        ("0e11", 4, None, POWER),
        ("0e11", 0, None, POWER),  # the counter begins again with each boot
        ("0e11", 4, "stopped", "the machine was restarted"),
        ("0e11", 4, "failed", "the machine was restarted"),
    ],
)
def test_the_cause_is_told_by_boot_marker_and_counter(
    boot: str, kills: int, ended: Literal["stopped", "failed"] | None, expected: str
) -> None:
    assert cause_of_end(AgentRun(boot=boot, oom_kills=kills, ended=ended), NOW) == expected


def test_a_device_without_a_record_says_nothing() -> None:
    assert cause_of_end(None, NOW) == ""


def test_a_run_that_ends_leaves_its_marker_and_one_that_is_killed_does_not(tmp_path: Path) -> None:
    proc = machine(tmp_path)
    with recorded(tmp_path, proc) as cause:
        assert cause == ""
        killed = (tmp_path / "run.json").read_bytes()
    with recorded(tmp_path, proc) as cause:
        assert cause == "the agent was stopped"
    (tmp_path / "run.json").write_bytes(killed)
    machine(tmp_path, kills=5)
    with recorded(tmp_path, proc) as cause:
        assert cause == OOM
    (tmp_path / "run.json").write_bytes(killed)
    machine(tmp_path, boot="0e11", kills=0)
    with recorded(tmp_path, proc) as cause:
        assert cause == POWER


def test_a_run_that_fails_is_told_apart_from_one_that_was_told_to_end(tmp_path: Path) -> None:
    proc = machine(tmp_path)
    with pytest.raises(StoreError), recorded(tmp_path, proc):
        raise StoreError("no")
    with recorded(tmp_path, proc) as cause:
        assert cause == "the agent ended by an error"
    with pytest.raises(StopAskedError), recorded(tmp_path, proc):
        raise StopAskedError
    with recorded(tmp_path, proc) as cause:
        assert cause == "the agent was stopped"


@pytest.mark.parametrize("text", ["", "[]", '{"ended": "perhaps"}', '{"oom_kills": "many"}'])
def test_a_record_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with recorded(tmp_path, machine(tmp_path)) as cause:
        assert cause == ""


def test_a_disk_that_cannot_be_written_ends_nothing_and_leaves_no_old_marker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: Path, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    proc = machine(tmp_path)
    with recorded(tmp_path, proc):
        pass
    monkeypatch.setattr("forge.device.update.last_run.write_durably", full)
    with recorded(tmp_path, proc) as cause:
        assert cause == "the agent was stopped"
    with recorded(tmp_path, proc) as cause:  # a marker of the first run would be wrong now
        assert cause == ""


def test_a_kernel_that_says_neither_boot_nor_kills(tmp_path: Path) -> None:
    assert AgentRun.begun(tmp_path) == AgentRun(boot="", oom_kills=0, ended=None)
    assert AgentRun.begun(machine(tmp_path)) == NOW
