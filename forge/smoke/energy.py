"""Energy and throttling during the benchmark, as far as the machine tells.

Energy in joules: nvidia-smi's `power.draw` integrated over time (a sample each half second), or the
kernel's RAPL counters (`/sys/class/powercap/*-rapl:N/energy_uj`, which only root may read). Whether
the clocks were slowed by heat or power: nvidia-smi's `clocks_event_reasons.active`, or the kernel's
counter of thermal throttling on x86.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from forge.smoke.result import Conditions

__all__ = ["EnergyMeter", "PowerSample", "integrate_j", "parse_sample", "rapl_j", "slowdowns"]

_PERIOD_S: Final = 0.5
_QUERY: Final = (
    "nvidia-smi",
    "--query-gpu=power.draw,clocks_event_reasons.active",
    "--format=csv,noheader,nounits",
)
# nvml.h, nvmlClocksEventReasons: those that lower the clocks below what was set. The power cap
# (0x4) is not one of them: it is the limit that power.limit_w asks for.
_SLOWDOWNS: Final = {
    0x08: "HW slowdown",
    0x20: "SW thermal slowdown",
    0x40: "HW thermal slowdown",
    0x80: "HW power brake slowdown",
}
_MICRO: Final = 1e-6


@dataclass(frozen=True, slots=True)
class PowerSample:
    """One answer of nvidia-smi.

    Attributes:
        at: time of a monotonic clock, s.
        watts: power of all GPUs; None: not supported.
        reasons: bits of `clocks_event_reasons.active` of all GPUs; None: not supported.
    """

    at: float
    watts: float | None
    reasons: int | None


def parse_sample(text: str, at: float) -> PowerSample | None:
    """Parse `power.draw, clocks_event_reasons.active` of every GPU; None if there is no line."""
    lines = [line.split(",") for line in text.strip().splitlines() if "," in line]
    if not lines:
        return None
    watts = [_number(line[0]) for line in lines]
    bits = [_bits(line[1]) for line in lines]
    known = [one for one in bits if one is not None]
    every = 0
    for one in known:
        every |= one
    total = None if None in watts else sum(one for one in watts if one is not None)
    return PowerSample(at, total, every if known else None)


def integrate_j(samples: Sequence[PowerSample], begin: float, end: float) -> float | None:
    """Return the energy between two times by the trapezoidal rule; None if it is not known.

    Before the first and after the last sample the power is taken to be theirs.
    """
    known = [(one.at, one.watts) for one in samples if one.watts is not None]
    if not known or end <= begin:
        return None
    inside = [(at, watts) for at, watts in known if begin < at < end]
    line = [(begin, _at(known, begin)), *inside, (end, _at(known, end))]
    return sum((t1 - t0) * (w0 + w1) / 2 for (t0, w0), (t1, w1) in pairwise(line))


def slowdowns(reasons: int) -> tuple[str, ...]:
    """Return the names of the reasons that mean throttling, in the order of their bits."""
    return tuple(name for bit, name in _SLOWDOWNS.items() if reasons & bit)


def rapl_j(before: dict[str, int], after: dict[str, int], ranges: dict[str, int]) -> float | None:
    """Return the energy between two readings of RAPL's counters, which wrap; None without one."""
    if not before or before.keys() != after.keys():
        return None
    total = 0
    for name, was in before.items():
        used = after[name] - was
        total += used if used >= 0 else used + ranges.get(name, 0)
    return total * _MICRO


@dataclass
class EnergyMeter:
    """Samples power and throttling in a thread, from entering the context to leaving it.

    Attributes:
        run: runs a program and returns its output, empty if it is missing or fails.
        sysfs: root of sysfs.
    """

    run: Callable[..., str]
    sysfs: Path = Path("/sys")
    _samples: list[PowerSample] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _throttles: int | None = None

    def __enter__(self) -> Self:
        """Start sampling; without nvidia-smi no thread is started."""
        self._throttles = self._throttle_count()
        if self._sample():
            self._thread = threading.Thread(target=self._loop, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop sampling."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def reading(self) -> EnergyReading:
        """Return a reading, to take the difference of two."""
        if self._thread is not None:
            self._sample()
        return EnergyReading(time.monotonic(), self._rapl("energy_uj"))

    def joules(self, before: EnergyReading, after: EnergyReading) -> float | None:
        """Return the energy between two readings; None if it is not known."""
        if self._thread is not None:
            return integrate_j(tuple(self._samples), before.at, after.at)
        return rapl_j(before.rapl_uj, after.rapl_uj, self._rapl("max_energy_range_uj"))

    def conditions(self) -> Conditions:
        """Return what held since the context was entered."""
        return Conditions(
            throttled=self._throttled(),
            throttle_reasons=self._reasons(),
            energy_source=self._source(),
        )

    def _throttled(self) -> bool | None:
        if any(one.reasons is not None for one in self._samples):
            return bool(self._reasons())
        now = self._throttle_count()
        return None if now is None or self._throttles is None else now > self._throttles

    def _reasons(self) -> tuple[str, ...]:
        every = 0
        for one in tuple(self._samples):
            every |= one.reasons or 0
        now = self._throttle_count() or 0
        kernel = ("CPU thermal throttling",) if now > (self._throttles or 0) else ()
        return (*slowdowns(every), *kernel)

    def _source(self) -> Literal["nvidia-smi", "rapl"] | None:
        if any(one.watts is not None for one in self._samples):
            return "nvidia-smi"
        return "rapl" if self._rapl("energy_uj") else None

    def _loop(self) -> None:
        while not self._stop.wait(_PERIOD_S):
            self._sample()

    def _sample(self) -> bool:
        sample = parse_sample(self.run(*_QUERY), time.monotonic())
        if sample is not None:
            self._samples.append(sample)
        return sample is not None

    def _rapl(self, name: str) -> dict[str, int]:
        """Return a number of each package; a zone below a package is part of its number."""
        found = {}
        for zone in self.sysfs.glob("class/powercap/*-rapl:*"):
            value = _integer(zone / name) if zone.name.count(":") == 1 else None
            if value is not None:
                found[zone.name] = value
        return found

    def _throttle_count(self) -> int | None:
        pattern = "devices/system/cpu/cpu*/thermal_throttle/package_throttle_count"
        counts = [_integer(path) for path in self.sysfs.glob(pattern)]
        known = [count for count in counts if count is not None]
        return max(known) if known else None


@dataclass(frozen=True, slots=True)
class EnergyReading:
    """A time, and RAPL's counters at that time in µJ by zone."""

    at: float
    rapl_uj: dict[str, int]


def _at(known: Sequence[tuple[float, float]], at: float) -> float:
    """Return the power at a time, by linear interpolation between two samples."""
    before = [one for one in known if one[0] <= at]
    after = [one for one in known if one[0] >= at]
    if not before or not after:
        return (before[-1] if before else after[0])[1]
    (t0, w0), (t1, w1) = before[-1], after[0]
    return w0 if t1 == t0 else w0 + (w1 - w0) * (at - t0) / (t1 - t0)


def _number(text: str) -> float | None:
    match = re.fullmatch(r"\s*(\d{1,5}(?:\.\d{1,3})?)\s*", text)
    return float(match.group(1)) if match else None


def _bits(text: str) -> int | None:
    match = re.fullmatch(r"\s*0x([0-9a-fA-F]{1,16})\s*", text)
    return int(match.group(1), 16) if match else None


def _integer(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
