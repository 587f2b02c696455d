"""A board's rails, or the counters of its processor packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.energy.host_power import HostPower
from forge.system_files import RootFiles
from tests.support.machines import eagain
from tests.support.rails import AGX_ORIN, ORIN_NX, monitor, put, rapl


def test_a_board_with_rails_is_asked_for_them(tmp_path: Path) -> None:
    put(tmp_path, AGX_ORIN)
    rapl(tmp_path, "intel-rapl:0", "package-0", 5)
    assert HostPower(RootFiles(tmp_path))().source == "hwmon"


def test_a_board_whose_total_fails_now_is_not_taken_for_another_machine(tmp_path: Path) -> None:
    [folder] = put(tmp_path, ORIN_NX)
    rapl(tmp_path, "intel-rapl:0", "package-0", 5)
    read = HostPower(RootFiles(tmp_path))
    with eagain(folder / "curr1_input"):
        found = read()
    assert (found.watts, found.source) == (None, "hwmon")


def test_another_machine_is_asked_for_its_packages(tmp_path: Path) -> None:
    times = iter((0.0, 2.0))
    read = HostPower(RootFiles(tmp_path), lambda: next(times))
    rapl(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    read()
    rapl(tmp_path, "intel-rapl:0", "package-0", 31_000_000)
    assert read().watts == pytest.approx(15)


def test_a_machine_that_says_nothing_says_why(tmp_path: Path) -> None:
    problem = HostPower(RootFiles(tmp_path))().problem
    assert "no power monitor" in problem
    assert "no energy counter" in problem
    monitor(tmp_path / "sys/class/hwmon/hwmon0", "ina219", {"x": (12000, 100)})
    assert "is the total" in HostPower(RootFiles(tmp_path))().problem
