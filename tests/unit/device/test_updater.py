"""What an update needs beside what the device holds already."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.bundle import Manifest
from forge.device.facts import collect
from forge.device.hardware import parse
from forge.device.journal import SlotName
from forge.device.slots import Home, Provisioned
from forge.device.updater import Updater
from tests.unit.device.test_slots import manifest


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "state")
    made.clean()
    return made


def updater(home: Home) -> Updater:
    device = Provisioned(store_url=str(home.path / "store"), name="llm", channel="stable")
    return Updater(home, device, b"{}", parse(collect()))


def needing(version: str, memory_mib: int) -> Manifest:
    plain = manifest(version)
    return plain.model_copy(
        update={
            "fit": plain.fit.model_copy(update={"memory_mib": memory_mib}),
            "serving": plain.serving.model_copy(update={"activation": "blue-green"}),
        }
    )


def hold(home: Home, slot: SlotName, held: Manifest) -> None:
    home.empty(slot)
    home.seal(slot, held)


def test_memory_beside_is_that_of_what_serves_and_not_of_the_slot_that_is_replaced(
    home: Home,
) -> None:
    hold(home, "a", needing("1.0.0", 4000))
    hold(home, "b", needing("0.9.0", 12_000))
    home.switch("a")
    assert updater(home)._beside_mib(needing("1.1.0", 4000)) == 4000
    home.switch("b")
    assert updater(home)._beside_mib(needing("1.1.0", 4000)) == 12_000


def test_memory_beside_is_its_own_again_where_nothing_serves(home: Home) -> None:
    assert updater(home)._beside_mib(needing("1.0.0", 4000)) == 4000
