"""Read the energy counters of processor packages: RAPL of x86, in the kernel's powercap.

Files: Documentation/power/powercap/powercap.rst. Since Linux 5.10 only root may read `energy_uj`
(CVE-2020-8694), and container runtimes hide the folder.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Final

from forge.energy.power_reading import PowerReading, RailPower
from forge.system_files import SystemFiles, text_of

__all__ = ["NO_COUNTER", "RaplPower", "package_j", "rapl_counters", "rapl_j", "rapl_ranges"]

_FOLDER: Final = "sys/class/powercap"
_ZONE: Final = re.compile(r"[a-z]+-rapl:[0-9]{1,3}")  # a zone below a package is part of it
_PACKAGE: Final = re.compile(r"package-[0-9]+(-die-[0-9]+)?")
_MICRO: Final = 1e-6
# More than any package draws. A counter that was reset, or that counted while the clock stood still
# (a suspended machine), would give far more.
_MOST_W: Final = 2000.0
_MAX_FILE_BYTES: Final = 256
NO_COUNTER: Final = "no energy counter of a processor can be read in /sys/class/powercap"


class RaplPower:
    """The mean power of all packages since the reading before.

    Args:
        files: of the machine.
        clock: monotonic, s.
    """

    def __init__(self, files: SystemFiles, clock: Callable[[], float] = time.monotonic) -> None:
        self._files = files
        self._clock = clock
        self._before: tuple[float, Mapping[str, int]] | None = None

    def __call__(self) -> PowerReading:
        """Read the counters once. The first reading knows no power yet."""
        counters, at, before = rapl_counters(self._files), self._clock(), self._before
        self._before = (at, counters)
        scope = " + ".join(counters)
        if not counters:
            return PowerReading(problem=NO_COUNTER)
        if before is None or at <= before[0]:
            return PowerReading(None, "rapl", scope, problem="it was read for the first time")
        used = package_j(before[1], counters, rapl_ranges(self._files), at - before[0])
        if not used:
            why = "a package could not be read, or its counter was reset"
            return PowerReading(None, "rapl", scope, problem=why)
        rails = tuple(RailPower(name, one / (at - before[0])) for name, one in used.items())
        watts = sum(used.values()) / (at - before[0])
        return PowerReading(watts, "rapl", scope, is_mean=True, rails=rails)


def rapl_counters(files: SystemFiles) -> dict[str, int]:
    """Return the counters of all packages in µJ, by name; a `psys` zone would count them twice."""
    return _numbers(files, "energy_uj")


def rapl_ranges(files: SystemFiles) -> dict[str, int]:
    """Return at which µJ each counter begins again."""
    return _numbers(files, "max_energy_range_uj")


def rapl_j(
    before: Mapping[str, int],
    after: Mapping[str, int],
    ranges: Mapping[str, int],
    seconds: float,
) -> float | None:
    """Return the energy of all packages between two readings, as `package_j`; None if unknown."""
    used = package_j(before, after, ranges, seconds)
    return sum(used.values()) if used else None


def package_j(
    before: Mapping[str, int],
    after: Mapping[str, int],
    ranges: Mapping[str, int],
    seconds: float,
) -> dict[str, float]:
    """Return the energy of each package in J; nothing if one of them is not known.

    A counter that begins again at its range has wrapped once: that takes minutes at full power. An
    energy that no package uses in that time is not known.

    Args:
        before: counters in µJ, by package.
        after: the same, later.
        ranges: at which µJ a counter begins again.
        seconds: between the two.
    """
    if before.keys() != after.keys():
        return {}
    found = {}
    for name, was in before.items():
        used = after[name] - was
        if used < 0 and name not in ranges:
            return {}
        found[name] = (used if used >= 0 else used + ranges[name]) * _MICRO
        if not 0 <= found[name] <= _MOST_W * seconds:
            return {}
    return found


def _numbers(files: SystemFiles, name: str) -> dict[str, int]:
    try:
        zones = [zone for zone in files.names(_FOLDER, "*-rapl:*") if _ZONE.fullmatch(zone)]
    except OSError:
        return {}
    found = {}
    for zone in zones:
        package = text_of(files, f"{_FOLDER}/{zone}/name", _MAX_FILE_BYTES) or zone
        value = text_of(files, f"{_FOLDER}/{zone}/{name}", _MAX_FILE_BYTES) or ""
        named = _PACKAGE.fullmatch(package) or package == zone
        if named and re.fullmatch(r"[0-9]{1,20}", value):
            found[package] = int(value)
    return found
