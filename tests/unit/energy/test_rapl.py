"""RAPL: packages, wraps, what may not be read."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from forge.energy.rapl import RaplPower, rapl_counters, rapl_j
from forge.system_files import RootFiles
from tests.support.rails import rapl


def test_counters_wrap() -> None:
    ranges = {"package-0": 1_000_000}
    used = functools.partial(rapl_j, seconds=1.0)
    assert used({"package-0": 100}, {"package-0": 2_000_100}, ranges) == pytest.approx(2)
    assert used({"package-0": 900_000}, {"package-0": 400_000}, ranges) == pytest.approx(0.5)
    assert used({"package-0": 900_000}, {"package-0": 400_000}, {}) is None
    assert used({}, {}, {}) is None
    assert used({"package-0": 1}, {}, ranges) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (100_000_000_000, 20_000),  # reset: after a resume, or the module was loaded again
        (0, 57_600_000_000),  # the machine slept while the clock stood
        (0, 4_000_000_001),
    ],
)
def test_an_energy_that_no_package_uses_is_not_known(before: int, after: int) -> None:
    ranges = {"package-0": 262_143_328_850}
    assert rapl_j({"package-0": before}, {"package-0": after}, ranges, 2.0) is None
    assert rapl_j({"package-0": 0}, {"package-0": 4_000_000_000}, ranges, 2.0) == 4000


def test_a_package_of_several_dies_counts_each(tmp_path: Path) -> None:
    rapl(tmp_path, "intel-rapl:0", "package-0-die-0", 5)
    rapl(tmp_path, "intel-rapl:1", "package-0-die-1", 7)
    assert rapl_counters(RootFiles(tmp_path)) == {"package-0-die-0": 5, "package-0-die-1": 7}


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
    assert read().problem == "a package could not be read, or its counter was reset"


def test_a_counter_that_only_root_may_read_is_not_known(tmp_path: Path) -> None:
    read = RaplPower(RootFiles(tmp_path))
    assert read().problem.startswith("no energy counter of a processor can be read")
    rapl(tmp_path, "intel-rapl:0", "package-0", 5)
    counter = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"
    counter.unlink()
    counter.mkdir()  # opens, and fails to be read, as root's file does for others
    assert read().source is None
