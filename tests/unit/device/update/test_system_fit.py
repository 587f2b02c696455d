"""Whether what is installed fits the machine as it is now, and what has changed since it served."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forge.bundle import Manifest
from forge.device.hardware.inventory import Hardware
from forge.device.hardware.watch import HardwareWatch
from forge.device.shared.release import Release
from forge.device.state.directory import StateDirectory
from forge.device.state.slots import Slots
from forge.device.update.system_fit import SystemFit, Unfit, because
from tests.support.manifests import manifest

CARD: dict[str, Any] = {"compute_capability": "12.0", "driver_min": "590.44.01"}


class Machine:
    """A machine that changes by hand."""

    def __init__(self, hardware: Hardware) -> None:
        self.hardware = hardware
        self.asked = 0

    def read(self) -> Hardware:
        self.asked += 1
        return self.hardware

    def change(self, **changes: Any) -> None:
        self.hardware = self.hardware.model_copy(update=changes)


def needing(version: str, **fit: Any) -> Manifest:
    plain = manifest(version)
    return plain.model_copy(update={"fit": plain.fit.model_copy(update=fit)})


@pytest.fixture
def card(machine: Callable[[str], Hardware]) -> Machine:
    return Machine(machine("rtx-pro-4000"))


@pytest.fixture
def home(tmp_path: Path) -> StateDirectory:
    made = StateDirectory(tmp_path / "state")
    made.clean()
    made.slots.set_aside("a")
    made.slots.mark_complete("a", needing("1.0.0", **CARD))
    return made


RELEASE = Release.of(needing("1.0.0", **CARD))


def test_what_fits_and_has_not_changed_explains_no_failure(
    home: StateDirectory, card: Machine
) -> None:
    system = SystemFit(home, HardwareWatch(card.read))
    assert system.explain(RELEASE) == ""
    system.serves(RELEASE)
    assert system.explain(RELEASE) == ""
    assert system.explain(None) == ""
    assert str(Unfit()) == because("") == ""


def test_an_older_driver_is_told_with_what_it_was(home: StateDirectory, card: Machine) -> None:
    system, old = SystemFit(home, HardwareWatch(card.read)), card.hardware.driver
    system.serves(RELEASE)
    card.change(driver="580.65.06")
    told = (
        "it needs NVIDIA driver 590.44.01 or newer, this is 580.65.06;"
        f" changed since it served: NVIDIA driver {old} → 580.65.06"
    )
    assert system.explain(RELEASE) == told
    unfit = system.check(RELEASE, card.hardware)
    assert (unfit.certain, unfit.told) == (True, told)
    system.serves(RELEASE)  # it serves all the same: the change is still told
    assert system.explain(RELEASE) == told
    card.change(driver=old)
    assert system.explain(RELEASE) == ""


def test_a_newer_driver_explains_a_failure_until_it_has_served_on_it(
    home: StateDirectory, card: Machine
) -> None:
    system = SystemFit(home, HardwareWatch(card.read))
    system.serves(RELEASE)
    card.change(driver="999.1")
    assert "→ 999.1" in system.explain(RELEASE)  # no requirement says so
    assert not system.check(RELEASE, card.hardware).certain
    system.serves(RELEASE)
    assert SystemFit(home, HardwareWatch(card.read)).explain(RELEASE) == ""


def test_a_release_that_never_served_here_has_no_change_to_hide_behind(
    home: StateDirectory, card: Machine
) -> None:
    system = SystemFit(home, HardwareWatch(card.read))
    system.serves(RELEASE)
    card.change(driver="999.1")
    other = Release.of(manifest("2.0.0"))
    home.slots.set_aside("b")
    home.slots.mark_complete("b", manifest("2.0.0"))
    assert system.explain(other) == ""


def test_a_driver_that_does_not_answer_explains_a_failure_and_is_not_certain(
    home: StateDirectory, card: Machine
) -> None:
    system = SystemFit(home, HardwareWatch(card.read))
    system.serves(RELEASE)
    card.change(driver=None, gpus=(), nvidia="unknown")
    unfit = system.check(RELEASE, card.hardware)
    assert "not known now" in str(unfit)
    assert (unfit.certain, unfit.changes, unfit.told) == (False, (), "")
    assert system.explain(RELEASE) == str(unfit)


def test_the_machine_is_asked_again_for_each_failure(home: StateDirectory, card: Machine) -> None:
    system = SystemFit(home, HardwareWatch(card.read))
    for _ in range(3):
        system.explain(RELEASE)
    assert card.asked == 3


def test_a_disk_that_fails_explains_nothing_and_ends_nothing(
    home: StateDirectory, card: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_slots: Slots, _slot: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Slots, "manifest", fail)
    assert SystemFit(home, HardwareWatch(card.read)).explain(RELEASE) == ""
