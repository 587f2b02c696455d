"""What keeps the active slot served: when it starts it again, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

import forge.device.agent.supervisor
from forge.device.agent.cutover import Cutover
from forge.device.agent.repair import Repair
from forge.device.agent.slot_servers import SlotServers
from forge.device.agent.supervisor import Supervisor
from forge.device.hardware.watch import HardwareWatch
from forge.device.shared.release import Release
from forge.device.shared.upstream import Upstream
from forge.device.state.directory import StateDirectory
from forge.device.state.settings import DeviceSettings
from forge.device.state_machine.events import Crashed
from forge.device.state_machine.journal import Journal
from forge.device.update.system_fit import SystemFit
from forge.device.update.updater import Updater
from tests.support.manifests import manifest

JOURNAL = Journal(active="a", slots={"a": Release.of(manifest("1.0.0"))})
UNKNOWN = Journal(active="a")  # what the slot holds is not known: not a crash of a release
NOW = "2026-11-28T00:00:00Z"


@dataclass
class Clock:
    """Monotonic time by hand."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now


@dataclass
class Watched:
    """A supervisor of a device whose slots are empty."""

    supervisor: Supervisor
    upstream: Upstream
    clock: Clock
    posted: list[Crashed] = field(default_factory=list)


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    home, upstream, posted = StateDirectory(tmp_path / "state"), Upstream(), list[Crashed]()
    home.clean()
    settings = DeviceSettings(store_url=str(tmp_path / "gone"), name="llm", channel="stable")
    updater = Updater(home, settings, b"{}", HardwareWatch())
    servers = SlotServers(home, dict)
    repair = Repair(home, updater, lambda _happened: None, lambda: NOW)
    cutover = Cutover(upstream, servers)
    supervisor = Supervisor(home, servers, cutover, repair, posted.append, lambda: NOW)
    clock = Clock()
    monkeypatch.setattr(forge.device.agent.supervisor, "time", clock)
    return Watched(supervisor, upstream, clock, posted)


def test_a_slot_that_does_not_start_is_reported_at_the_next_check(watched: Watched) -> None:
    watched.supervisor.serve("a", JOURNAL)
    assert watched.posted == []
    assert "Slot a is damaged" in watched.upstream.get()[1]
    watched.supervisor.check(JOURNAL, may_restart=True)
    [crash] = watched.posted
    assert "Slot a is damaged" in crash.reason
    assert (crash.at, crash.lived_s) == (NOW, 0.0)
    assert not crash.release_fault  # its files are damaged, and the store is gone


def test_what_was_reported_is_not_reported_again(watched: Watched) -> None:
    watched.supervisor.serve("a", JOURNAL)
    for _ in range(100):
        watched.supervisor.check(JOURNAL, may_restart=True)
    assert len(watched.posted) == 1


def test_nothing_is_restarted_while_another_server_starts(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.supervisor.serve("a", JOURNAL)
    caplog.clear()
    for _ in range(100):
        watched.clock.now += 10
        watched.supervisor.check(JOURNAL, may_restart=False)
    assert (watched.posted, caplog.messages) == ([], [])
    watched.clock.now += 10
    watched.supervisor.check(JOURNAL, may_restart=True)
    assert len(watched.posted) == 1


def test_what_is_no_crash_is_tried_again_without_a_report(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(4):
        watched.clock.now += 100
        watched.supervisor.check(UNKNOWN, may_restart=True)
    assert watched.posted == []
    assert len(caplog.messages) == 1  # the same error is logged once an hour
    assert "slot a does not serve: The journal does not say" in caplog.messages[0]
    watched.clock.now += 3600
    watched.supervisor.check(UNKNOWN, may_restart=True)
    assert "and 4 times before" in caplog.messages[1]


def test_a_device_without_an_active_slot_is_left_alone(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.supervisor.check(Journal(), may_restart=True)
    assert (watched.posted, caplog.messages) == ([], [])


def test_a_server_that_ends_on_a_machine_that_changed_is_not_its_releases_fault(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = ["", "NVIDIA driver 590 → 580"]
    monkeypatch.setattr(Cutover, "handle_exit", lambda _cutover, _slot: "signal 11")
    monkeypatch.setattr(SystemFit, "explain", lambda _fit, _release: told.pop(0))
    for _ in range(2):
        watched.clock.now += 100
        watched.supervisor.check(JOURNAL, may_restart=True)
    assert [(one.reason, one.release_fault) for one in watched.posted] == [
        ("signal 11", True),
        ("signal 11 (not the release's fault: NVIDIA driver 590 → 580)", False),
    ]
