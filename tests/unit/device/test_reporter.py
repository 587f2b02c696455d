"""The report is written when what it says changes, and its figures not too often."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forge.device.hardware.watch import HardwareWatch
from forge.device.reporter import StatusReporter
from forge.device.shared.release import Release
from forge.device.state.directory import StateDirectory
from forge.device.telemetry import status
from forge.device.telemetry.fetch_progress import FetchProgress
from forge.device.telemetry.status import AgentActivity, AgentReport, ChannelCheck, ServerStarting
from tests.support.manifests import manifest

RELEASE = Release.of(manifest("1.1.0"))
HARDWARE = HardwareWatch().current()
AT = "2026-11-30T00:00:00Z"


class Device:
    """A reporter by hand: what the agent does, and the clock."""

    def __init__(self, home: StateDirectory) -> None:
        self.home = home
        self.now = 1000.0
        self.activity = AgentActivity()
        self.reporter = StatusReporter(home, self.describe, lambda: self.now)
        self.reporter._activity = lambda: self.activity

    def describe(self, check: ChannelCheck | None) -> AgentReport:
        return AgentReport(pid=os.getpid(), url=None, started=AT, hardware=HARDWARE, look=check)


@pytest.fixture
def device(tmp_path: Path) -> Device:
    home = StateDirectory(tmp_path / "state")
    home.clean()
    return Device(home)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[AgentActivity]:
    """What was written."""
    found: list[AgentActivity] = []
    monkeypatch.setattr(
        "forge.device.reporter.write_agent", lambda _home, report: found.append(report.activity)
    )
    return found


def fetch(done: int) -> AgentActivity:
    progress = FetchProgress(
        release=RELEASE, done_bytes=done, total_bytes=100, bytes_per_s=1.0, left_s=None
    )
    return AgentActivity(serving="a", fetch=progress)


def test_the_status_shows_what_the_agent_does(device: Device) -> None:
    device.activity = fetch(7)
    with device.home.locked():
        device.reporter.refresh()
        found = status.read_agent(device.home)
    assert found is not None
    assert found.activity == fetch(7)


def test_a_check_of_the_channel_is_reported_at_once(
    device: Device, written: list[AgentActivity]
) -> None:
    for _ in range(3):
        device.reporter.checked(ChannelCheck(at=AT))
    assert len(written) == 3


def test_nothing_is_written_while_nothing_changes(
    device: Device, written: list[AgentActivity]
) -> None:
    for _ in range(100):
        device.now += 60
        device.reporter.refresh()
    assert len(written) == 1


def test_progress_is_written_each_five_seconds_and_a_change_at_once(
    device: Device, written: list[AgentActivity]
) -> None:
    for second in range(11):
        device.now = 1000.0 + second
        device.activity = fetch(second)
        device.reporter.refresh()
    assert [one.fetch.done_bytes for one in written if one.fetch] == [0, 1, 6]
    device.activity = AgentActivity(serving="a")
    device.reporter.refresh()
    device.activity = AgentActivity(start=ServerStarting(slot="b", seconds=0, limit_s=60))
    device.reporter.refresh()
    assert len(written) == 5


def test_a_full_disk_ends_nothing(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("forge.device.reporter.write_agent", full)
    device.reporter.checked(None)
    device.reporter.refresh()


def test_the_thread_reports_until_the_body_ends(
    device: Device, written: list[AgentActivity], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forge.device.reporter._EVERY_S", 0.001)
    with device.reporter.running(lambda: fetch(3)):
        while not written:
            device.reporter._stop.wait(0.001)
    assert written == [fetch(3)]
