"""What is found in a slot's files, and what is fetched for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from forge import canonical
from forge.device.agent.repair import Repair
from forge.device.shared.release import Release, SlotName
from forge.device.state.directory import StateDirectory
from forge.device.telemetry.history import DeviceEvent
from forge.device.update.updater import Updater
from forge.errors import BundleError, StoreError, TrustError
from forge.store.download.downloader import Transfer
from forge.store.formats.tree import Tree, TreeEntry
from tests.support.manifests import manifest

DATA = bytes(1000)
AT = "2026-11-28T00:00:00Z"


@dataclass
class Store:
    """Repairs a slot as the updater does, or fails to."""

    home: StateDirectory
    error: Exception | None = None
    repaired: list[tuple[SlotName, Release]] = field(default_factory=list)

    def repair(self, slot: SlotName, release: Release) -> Transfer:
        if self.error:
            raise self.error
        self.repaired.append((slot, release))
        (self.home.slots.tree(slot) / "weights.bin").write_bytes(DATA)
        return Transfer(fetched_bytes=7, reused_bytes=993, requests=1)


@dataclass
class Device:
    """A device with one file in slot a."""

    home: StateDirectory
    store: Store
    release: Release
    events: list[DeviceEvent] = field(default_factory=list)

    @property
    def repair(self) -> Repair:
        updater = cast("Updater", self.store)
        return Repair(self.home, updater, self.events.append, lambda: AT)

    @property
    def weights(self) -> Path:
        return self.home.slots.tree("a") / "weights.bin"


@pytest.fixture
def device(tmp_path: Path) -> Device:
    home = StateDirectory(tmp_path / "state")
    home.clean()
    home.slots.set_aside("a")
    home.slots.tree("a").mkdir()
    digest = canonical.sha256(DATA)
    tree = Tree(entries=(TreeEntry(path="weights.bin", mode=0o644, size=1000, sha256=digest),))
    sealed = manifest("1.0.0").model_copy(update={"tree": tree.reference()})
    made = Device(home, Store(home), Release.of(sealed))
    made.weights.write_bytes(DATA)
    home.slots.mark_complete("a", sealed, tree.encode())
    return made


def test_a_whole_slot_is_intact_and_nothing_is_fetched(device: Device) -> None:
    device.repair.check_before_start("a", device.release)
    assert device.repair.check_and_repair("a", device.release) == "intact"
    assert (device.store.repaired, device.events) == ([], [])


def test_a_file_of_another_size_is_found_before_a_start(device: Device) -> None:
    device.weights.write_bytes(DATA[:-1])
    with pytest.raises(BundleError, match="Slot a is damaged") as caught:
        device.repair.check_before_start("a", device.release)
    assert "weights.bin" in caught.value.why
    assert device.store.repaired == []  # a start does not wait for a store


def test_other_bytes_of_the_same_size_are_found_by_reading_and_repaired(device: Device) -> None:
    device.weights.write_bytes(b"x" + DATA[1:])
    with pytest.raises(BundleError, match="Slot a is damaged"):
        device.repair.check_before_start("a", device.release)
    assert device.repair.check_and_repair("a", device.release) == "repaired"
    assert device.store.repaired == [("a", device.release)]
    assert device.repair.check_and_repair("a", device.release) == "intact"


def test_a_slot_is_made_whole_before_its_start_or_not_started(device: Device) -> None:
    device.repair.make_whole("a", device.release)
    assert device.store.repaired == []
    device.weights.write_bytes(b"x" + DATA[1:])
    device.store.error = StoreError("the store is gone")
    with pytest.raises(BundleError, match="Slot a is damaged"):
        device.repair.make_whole("a", device.release)
    device.store.error = None
    device.repair.make_whole("a", device.release)
    assert device.store.repaired == [("a", device.release)]
    assert device.weights.read_bytes() == DATA


def test_a_repair_is_an_event_with_its_bytes(device: Device) -> None:
    device.repair.repair("a", device.release)
    assert device.events == [
        DeviceEvent(
            at=AT,
            event="repaired",
            release=device.release,
            slot="a",
            fetched_bytes=7,
            reused_bytes=993,
        )
    ]


@pytest.mark.parametrize(
    "error", [StoreError("the store is gone"), TrustError("expired"), OSError(28, "full")]
)
def test_a_slot_that_cannot_be_repaired_is_damaged_and_the_agent_goes_on(
    device: Device, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    device.store.error = error
    device.weights.unlink()
    assert device.repair.check_and_repair("a", device.release) == "damaged"
    assert device.events == []
    assert str(error) in caplog.text


def test_a_slot_that_holds_another_release_is_damaged_and_not_intact(device: Device) -> None:
    """Its own files are right, but they are not those of the release that is to serve."""
    other = Release.of(manifest("1.1.0"))
    with pytest.raises(BundleError):
        device.repair.check_before_start("a", other)
    device.store.error = StoreError("the store is gone")
    assert device.repair.check_and_repair("a", other) == "damaged"


def test_a_mistake_is_not_taken_for_damage(device: Device) -> None:
    device.store.error = KeyError("a bug")
    device.weights.unlink()
    with pytest.raises(KeyError):
        device.repair.check_and_repair("a", device.release)
