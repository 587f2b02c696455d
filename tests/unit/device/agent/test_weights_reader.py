"""When the slots' files are read, what interrupts it, and from where it continues."""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import forge.device.agent.weights_reader
from forge import canonical
from forge.device.agent.background_read import sha256_slowly
from forge.device.agent.weights_reader import DamageFound, ReadingSchedule, WeightsReader
from forge.device.shared.release import SLOTS, Release, SlotName
from forge.device.state.directory import StateDirectory
from forge.device.state.weights_record import SlotReading, read_record
from forge.device.state_machine.journal import Journal
from forge.store.formats.tree import Tree, TreeEntry
from tests.support.manifests import manifest

NOW, FAST = "2026-11-30T00:00:00Z", 10**12
FILES = {"a.bin": bytes(3000), "b.bin": bytes(5000), "c.bin": bytes(7000)}


@dataclass
class Device:
    """A device with a release in each slot; the reader is made anew by a restart."""

    home: StateDirectory
    journal: Journal
    boot: str = "first"
    now: str = NOW
    found: list[DamageFound] = field(default_factory=list)
    ended: list[tuple[SlotName, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reader = self.restarted()

    def restarted(self, schedule: ReadingSchedule | None = None) -> WeightsReader:
        self.reader = WeightsReader(
            self.home,
            schedule or ReadingSchedule(FAST),
            self.found.append,
            lambda slot, _release, size: self.ended.append((slot, size)),
            lambda: self.now,
            self.boot,
        )
        self.reader.allow(self.journal)
        return self.reader

    def read_all(self) -> int:
        count = 0
        while self.reader.read_due():
            count += 1
        return count

    def path(self, slot: SlotName, name: str) -> Path:
        return self.home.slots.tree(slot) / name

    def damage(self, slot: SlotName, name: str) -> None:
        data = bytearray(self.path(slot, name).read_bytes())
        data[-1] ^= 1
        self.path(slot, name).write_bytes(data)


@pytest.fixture
def device(tmp_path: Path) -> Device:
    home = StateDirectory(tmp_path / "state")
    home.clean()
    slots: dict[SlotName, Release] = {}
    for slot, version in zip(SLOTS, ("1.0.0", "1.1.0"), strict=True):
        home.slots.set_aside(slot)
        home.slots.tree(slot).mkdir()
        for name, data in FILES.items():
            (home.slots.tree(slot) / name).write_bytes(data)
        entries = tuple(
            TreeEntry(path=name, mode=0o644, size=len(data), sha256=canonical.sha256(data))
            for name, data in FILES.items()
        )
        tree = Tree(entries=entries)
        sealed = manifest(version).model_copy(update={"tree": tree.reference()})
        home.slots.mark_complete(slot, sealed, tree.encode())
        slots[slot] = Release.of(sealed)
    return Device(home, Journal(active="b", slots=slots, previous=slots["a"]))


def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are hashed from now on, in their order."""
    names: list[str] = []
    real = sha256_slowly

    def noted(path: Path, *arguments: object) -> str:
        names.append(path.name)
        return real(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(forge.device.agent.weights_reader, "sha256_slowly", noted)
    return names


def test_both_slots_are_read_once_the_active_one_first(device: Device) -> None:
    assert device.read_all() == 2
    assert device.ended == [("b", 15_000), ("a", 15_000)]
    assert device.found == []
    assert device.read_all() == 0
    device.restarted()  # of the agent, and not of the machine
    assert device.read_all() == 0


def test_they_are_read_again_after_each_boot_and_each_week(device: Device) -> None:
    device.read_all()
    device.boot = "second"
    device.restarted()
    assert device.read_all() == 2
    device.now = "2026-12-06T23:59:59Z"
    assert device.read_all() == 0
    device.now = "2026-12-07T00:00:00Z"
    assert device.read_all() == 2


@pytest.mark.parametrize(
    ("changes", "due"),
    [
        ({}, True),
        ({"finished": NOW, "boot": "b"}, False),
        ({"finished": NOW, "boot": "another"}, True),
        ({"finished": NOW, "boot": "b", "began": NOW}, True),
        ({"finished": "2026-11-29T23:00:00Z", "boot": "b"}, True),
        ({"damaged": ("w",)}, False),
    ],
)
def test_when_a_slot_is_due(changes: dict[str, object], *, due: bool) -> None:
    release = Release.of(manifest("1.0.0"))
    reading = SlotReading(release=release).model_copy(update=changes)
    assert ReadingSchedule(every_s=3600).due(reading, "b", NOW) is due
    assert not ReadingSchedule(every_s=0).due(reading, "b", NOW)


def test_a_reading_continues_after_a_restart_with_the_first_file_it_did_not_finish(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forge.device.agent.weights_reader, "_WRITE_BYTES", 1)
    names = opened(monkeypatch)
    real = WeightsReader._note

    def killed(reader: WeightsReader, *arguments: object, **options: object) -> None:
        real(reader, *arguments, **options)  # type: ignore[arg-type]
        if len(names) == 2:
            raise SystemExit

    monkeypatch.setattr(WeightsReader, "_note", killed)
    with pytest.raises(SystemExit):
        device.reader.read_due()
    kept = read_record(device.home.path).slots["b"]
    assert (kept.after, kept.read_bytes, kept.total_bytes) == ("b.bin", 8000, 15_000)
    monkeypatch.setattr(WeightsReader, "_note", real)
    device.boot = "second"  # a power cut
    device.restarted()
    assert device.reader.read_due()
    assert names == ["a.bin", "b.bin", "c.bin"]
    assert device.ended == [("b", 15_000)]


def test_a_bit_that_changed_is_found_and_the_slot_is_not_read_before_it_is_repaired(
    device: Device,
) -> None:
    device.damage("a", "b.bin")
    assert device.read_all() == 2
    [found] = device.found
    assert (found.slot, found.what) == ("a", "b.bin has other bytes")
    assert device.ended == [("b", 15_000)]
    assert read_record(device.home.path).slots["a"].damaged == ("b.bin",)
    device.boot = "second"
    device.restarted()
    device.read_all()
    assert len(device.found) == 1
    device.reader.repaired("a", device.journal.slots["a"])
    assert read_record(device.home.path).slots["a"].damaged == ()
    assert device.read_all() == 0


@pytest.mark.parametrize("name", ["tree.json", "manifest.json"])
def test_a_slot_whose_documents_are_lost_is_damaged(device: Device, name: str) -> None:
    (device.home.slots.folder("b") / name).unlink()
    device.reader.read_due()
    assert [one.slot for one in device.found] == ["b"]


def test_a_file_that_is_missing_is_damage(device: Device) -> None:
    device.path("b", "c.bin").unlink()
    device.reader.read_due()
    assert [one.what for one in device.found] == ["c.bin is missing"]


def test_a_file_on_a_bad_sector_is_damage(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(path: Path, *arguments: object) -> str:
        if path.name == "b.bin":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return sha256_slowly(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(forge.device.agent.weights_reader, "sha256_slowly", fails)
    assert device.read_all() == 2
    assert [(one.slot, one.what) for one in device.found] == [
        ("b", "b.bin cannot be read"), ("a", "b.bin cannot be read"),
    ]  # fmt: skip
    assert read_record(device.home.path).slots["b"].damaged == ("b.bin",)


def test_another_error_of_the_disk_is_no_damage_and_is_logged_once(
    device: Device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = threading.Semaphore(0)

    def fails(*_arguments: object) -> str:
        tried.release()
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(forge.device.agent.weights_reader, "sha256_slowly", fails)
    monkeypatch.setattr(forge.device.agent.weights_reader, "_LOOK_S", 0.001)
    reader = device.restarted(ReadingSchedule(FAST, after_s=0))
    reader.start()
    for _ in range(5):
        assert tried.acquire(timeout=60)
    reader.stop()
    assert device.found == []
    assert [one for one in caplog.messages if "Too many open files" in one] == [
        "the slots cannot be read in the background: [Errno 24] Too many open files"
    ]


def test_a_record_that_cannot_be_written_hides_no_damage_and_no_repair(
    device: Device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(forge.device.agent.weights_reader, "write_record", full)
    device.damage("b", "a.bin")
    assert device.read_all() == 2
    assert [one.what for one in device.found] == ["a.bin has other bytes"]
    assert device.ended == [("a", 15_000)]
    device.reader.repaired("b", device.journal.slots["b"])
    assert device.reader.record.slots["b"].damaged == ()
    assert len([one for one in caplog.messages if "No space left" in one]) == 1


def test_an_update_that_replaces_the_slot_ends_its_reading_without_a_finding(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the files are another release's by then: that is not damage."""

    def replaced(path: Path, _limit: object, check: object) -> str:
        device.reader.allow(None)
        device.journal = device.journal.model_copy(
            update={"slots": {"b": device.journal.slots["b"]}}
        )
        path.write_bytes(b"another release")
        device.reader.allow(device.journal)
        assert callable(check)
        check()
        raise AssertionError

    device.read_all()
    device.boot = "second"
    device.restarted()
    device.reader.read_due()  # slot b
    monkeypatch.setattr(forge.device.agent.weights_reader, "sha256_slowly", replaced)
    with pytest.raises(forge.device.agent.weights_reader._StoppedError):
        device.reader.read_due()
    assert device.found == []
    assert not device.reader.read_due()


def test_a_file_that_differs_while_an_action_is_under_way_is_no_finding(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def paused(*_arguments: object) -> str:
        device.reader.allow(None)
        return "0" * 64

    monkeypatch.setattr(forge.device.agent.weights_reader, "sha256_slowly", paused)
    with pytest.raises(forge.device.agent.weights_reader._StoppedError):
        device.reader.read_due()
    assert device.found == []


def test_the_thread_reads_and_ends_when_it_is_stopped(device: Device) -> None:
    reader = device.restarted(ReadingSchedule(FAST, after_s=0))
    reader.start()
    for _ in range(1000):
        if len(device.ended) == 2:
            break
        reader._stop.wait(0.01)
    reader.stop()
    assert device.ended == [("b", 15_000), ("a", 15_000)]
    assert reader._thread is not None
    assert not reader._thread.is_alive()


def test_never_means_no_thread(device: Device) -> None:
    reader = device.restarted(ReadingSchedule(every_s=0))
    reader.start()
    assert reader._thread is None
    reader.stop()
