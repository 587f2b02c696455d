"""What an update needs beside what the device holds already."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.bundle import Manifest
from forge.device.hardware.watch import HardwareWatch
from forge.device.shared.release import SlotName
from forge.device.state.directory import StateDirectory
from forge.device.state.settings import DeviceSettings
from forge.device.update.updater import Updater
from tests.support.manifests import manifest


@pytest.fixture
def home(tmp_path: Path) -> StateDirectory:
    made = StateDirectory(tmp_path / "state")
    made.clean()
    return made


def updater(home: StateDirectory) -> Updater:
    device = DeviceSettings(store_url=str(home.path / "store"), name="llm", channel="stable")
    return Updater(home, device, b"{}", HardwareWatch())


def needing(version: str, memory_mib: int) -> Manifest:
    plain = manifest(version)
    return plain.model_copy(
        update={
            "fit": plain.fit.model_copy(update={"memory_mib": memory_mib}),
            "serving": plain.serving.model_copy(update={"activation": "blue-green"}),
        }
    )


def hold(home: StateDirectory, slot: SlotName, held: Manifest) -> None:
    home.slots.set_aside(slot)
    home.slots.mark_complete(slot, held)


def test_memory_beside_is_that_of_what_serves_and_not_of_the_slot_that_is_replaced(
    home: StateDirectory,
) -> None:
    hold(home, "a", needing("1.0.0", 4000))
    hold(home, "b", needing("0.9.0", 12_000))
    home.switch("a")
    assert updater(home)._serving_mib(needing("1.1.0", 4000)) == 4000
    home.switch("b")
    assert updater(home)._serving_mib(needing("1.1.0", 4000)) == 12_000


def test_memory_beside_is_its_own_again_where_nothing_serves(home: StateDirectory) -> None:
    assert updater(home)._serving_mib(needing("1.0.0", 4000)) == 4000
