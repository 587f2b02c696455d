"""Damage that the background reading found is repaired while idle, and the server restarted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

import forge.device.agent.weights_repair
from forge.device.agent.background import AgentEvent, SlotRepaired
from forge.device.agent.repair import Repair
from forge.device.agent.supervisor import Supervisor
from forge.device.agent.weights_reader import DamageFound, ReadingSchedule
from forge.device.agent.weights_repair import WeightsRepair
from forge.device.shared.release import Release, SlotName
from forge.device.state.directory import StateDirectory
from forge.device.state.weights_record import (
    SlotReading,
    read_record,
    write_record,
)
from forge.device.state_machine.journal import Journal
from forge.device.telemetry.history import DeviceEvent
from forge.device.update.failure_policy import SlotCondition
from tests.support.manifests import manifest

OLD, NEW = Release.of(manifest("1.0.0")), Release.of(manifest("1.1.0"))
JOURNAL = Journal(active="b", slots={"a": OLD, "b": NEW}, previous=OLD)
NEVER = ReadingSchedule(every_s=0)  # the thread is tested in test_weights_reader


@dataclass
class Clock:
    """Monotonic time by hand."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now


@dataclass
class Device:
    """A device whose store answers as told."""

    home: StateDirectory
    clock: Clock
    condition: SlotCondition = "repaired"
    fetched: list[SlotName] = field(default_factory=list)
    restarted: list[SlotName] = field(default_factory=list)
    posted: list[AgentEvent] = field(default_factory=list)
    told: list[DeviceEvent] = field(default_factory=list)
    begun: list[Callable[[], AgentEvent]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.weights = self.made()

    def made(self) -> WeightsRepair:
        self.weights = WeightsRepair(
            self.home, cast("Repair", self), cast("Supervisor", self), NEVER,
            post=self.posted.append, notify=self.told.append, now=lambda: "2026-11-30T00:00:00Z",
        )  # fmt: skip
        worker: Any = self.weights._worker
        worker.start = self.begun.append  # work is done when the test says so
        return self.weights

    def fetch_damaged(self, slot: SlotName, _release: Release) -> SlotCondition:
        self.fetched.append(slot)
        return self.condition

    def restart(self, slot: SlotName, _journal: Journal) -> None:
        self.restarted.append(slot)

    def damage(self, slot: SlotName, release: Release) -> None:
        reading = SlotReading(release=release, damaged=("weights.bin",))
        write_record(self.home.path, read_record(self.home.path).with_slot(slot, reading))
        self.made()

    def finish(self) -> None:
        """Let the repair under way end, and its event be handled."""
        event = self.begun.pop()()
        assert isinstance(event, SlotRepaired)
        self.weights.handle(event, JOURNAL)


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    home, clock = StateDirectory(tmp_path / "state"), Clock()
    home.clean()
    monkeypatch.setattr(forge.device.agent.weights_repair, "time", clock)
    return Device(home, clock)


def test_the_active_slot_is_repaired_and_its_server_restarted_on_it(device: Device) -> None:
    device.damage("b", NEW)
    device.weights.tick(JOURNAL, quiet=True)
    assert (device.weights.busy, device.weights.repairing) == (True, "b")
    assert device.restarted == []  # it serves until its files are right
    device.finish()
    assert (device.fetched, device.restarted) == (["b"], ["b"])
    assert not device.weights.busy
    assert read_record(device.home.path).slots["b"].damaged == ()
    device.weights.tick(JOURNAL, quiet=True)
    assert device.begun == []


def test_a_full_disk_keeps_no_repaired_slot_from_its_restart(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    device.damage("b", NEW)
    device.weights.tick(JOURNAL, quiet=True)
    monkeypatch.setattr("forge.device.agent.weights_reader.write_record", full)
    device.finish()
    assert device.restarted == ["b"]
    assert device.weights.record.slots["b"].damaged == ()


def test_the_other_slot_is_repaired_and_nothing_is_restarted(device: Device) -> None:
    device.damage("a", OLD)
    device.weights.tick(JOURNAL, quiet=True)
    device.finish()
    assert (device.fetched, device.restarted) == (["a"], [])


def test_nothing_is_repaired_while_something_else_is_under_way(device: Device) -> None:
    device.damage("b", NEW)
    for _ in range(5):
        device.weights.tick(JOURNAL, quiet=False)
    assert device.begun == []


def test_one_repair_is_under_way_at_a_time(device: Device) -> None:
    device.damage("a", OLD)
    device.damage("b", NEW)
    for _ in range(5):
        device.weights.tick(JOURNAL, quiet=True)
    assert len(device.begun) == 1
    device.finish()
    device.weights.tick(JOURNAL, quiet=True)
    device.finish()
    assert sorted(device.fetched) == ["a", "b"]


def test_without_the_store_it_is_tried_again_after_ten_minutes(device: Device) -> None:
    device.damage("b", NEW)
    device.condition = "damaged"
    device.weights.tick(JOURNAL, quiet=True)
    device.finish()
    assert device.restarted == []  # what runs is better than nothing
    device.clock.now += 599
    device.weights.tick(JOURNAL, quiet=True)
    assert device.begun == []
    device.clock.now += 1
    device.condition = "repaired"
    device.weights.tick(JOURNAL, quiet=True)
    device.finish()
    assert (device.fetched, device.restarted) == (["b", "b"], ["b"])


def test_a_restart_of_the_agent_tries_at_once(device: Device) -> None:
    device.damage("b", NEW)
    device.condition = "damaged"
    device.weights.tick(JOURNAL, quiet=True)
    device.finish()
    device.made().tick(JOURNAL, quiet=True)
    assert len(device.begun) == 1


def test_damage_of_a_release_that_was_replaced_is_forgotten(device: Device) -> None:
    device.damage("b", OLD)
    device.weights.tick(JOURNAL, quiet=True)
    assert device.begun == []


def test_a_repair_of_a_slot_that_serves_another_release_by_then_restarts_nothing(
    device: Device,
) -> None:
    device.damage("b", NEW)
    device.weights.handle(SlotRepaired("b", OLD, "repaired"), JOURNAL)
    assert device.restarted == []


def test_what_was_found_is_in_the_history_and_the_log(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    found = DamageFound("b", NEW, "weights.bin has other bytes")
    device.weights.handle(found, JOURNAL)
    [told] = device.told
    assert (told.event, told.slot, told.reason) == ("damaged", "b", "weights.bin has other bytes")
    assert caplog.messages == ["slot b is damaged: weights.bin has other bytes"]


def test_a_complete_reading_is_in_the_history(device: Device) -> None:
    device.weights._ended("b", NEW, 12_300_000)
    [told] = device.told
    assert (told.event, told.slot) == ("verified", "b")
    assert told.reason == "all files are intact, 12.3 MB read"


def test_a_bug_in_a_repair_does_not_leave_the_device_busy(device: Device) -> None:
    device.damage("b", NEW)
    device.weights.tick(JOURNAL, quiet=True)
    device.weights.failed()
    assert not device.weights.busy
    device.weights.tick(JOURNAL, quiet=True)
    assert len(device.begun) == 1  # not at once
