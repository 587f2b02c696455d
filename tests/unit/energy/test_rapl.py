"""RAPL: packages, wraps, what may not be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.energy.rapl import RaplPower, rapl_counters, rapl_j
from forge.system_files import RootFiles
from tests.support.rails import rapl


def test_counters_wrap() -> None:
    ranges = {"package-0": 1_000_000}
    assert rapl_j({"package-0": 100}, {"package-0": 2_000_100}, ranges) == pytest.approx(2)
    assert rapl_j({"package-0": 900_000}, {"package-0": 400_000}, ranges) == pytest.approx(0.5)
    assert rapl_j({"package-0": 900_000}, {"package-0": 400_000}, {}) is None
    assert rapl_j({}, {}, {}) is None
    assert rapl_j({"package-0": 1}, {}, ranges) is None


def test_only_whole_packages_count(tmp_path: Path) -> None:
    rapl(tmp_path, "intel-rapl:0", "package-0", 5)
    rapl(tmp_path, "intel-rapl:0:0", "core", 3)  # part of it
    rapl(tmp_path, "intel-rapl:1", "psys", 9)  # the platform: package-0 is part of it
    rapl(tmp_path, "intel-rapl-mmio:0", "package-0", 5)  # the same by another way
    rapl(tmp_path, "intel-rapl:2", "package-1", 7)
    assert rapl_counters(RootFiles(tmp_path)) == {"package-0": 5, "package-1": 7}


def test_the_power_is_the_mean_since_the_reading_before(tmp_path: Path) -> None:
    times = iter((100.0, 104.0, 105.0))
    read = RaplPower(RootFiles(tmp_path), lambda: next(times))
    for number, package in enumerate(("package-0", "package-1")):
        rapl(tmp_path, f"intel-rapl:{number}", package, 1_000_000)
    first = read()
    assert (first.watts, first.source) == (None, "rapl")
    rapl(tmp_path, "intel-rapl:0", "package-0", 101_000_000)
    rapl(tmp_path, "intel-rapl:1", "package-1", 41_000_000)
    found = read()
    assert found.watts == pytest.approx((100 + 40) / 4)
    assert (found.is_mean, found.scope) == (True, "package-0 + package-1")
    assert {rail.name: rail.watts for rail in found.rails} == pytest.approx(
        {"package-0": 25, "package-1": 10}
    )
    (tmp_path / "sys/class/powercap/intel-rapl:1/energy_uj").unlink()
    assert read().problem == "a package could not be read"


def test_a_counter_that_only_root_may_read_is_not_known(tmp_path: Path) -> None:
    read = RaplPower(RootFiles(tmp_path))
    assert read().problem.startswith("no energy counter of a processor can be read")
    rapl(tmp_path, "intel-rapl:0", "package-0", 5)
    counter = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"
    counter.unlink()
    counter.mkdir()  # opens, and fails to be read, as root's file does for others
    assert read().source is None
