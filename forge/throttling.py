"""Read whether heat or power lowers the clocks now, and by how much heat does.

Of a system on a chip and of a CPU: the kernel's cooling devices of clocks, NVIDIA's alerts among
them (/sys/class/thermal/cooling_device*), and counters of events (soctherm's over-current
throttling on a Jetson, x86's thermal throttling). Of a GPU: `clocks_event_reasons` of nvidia-smi.
Nothing here raises for a file that fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from forge.system_files import numbered, read_text

__all__ = ["SLOWDOWN_UNSAID", "UNKNOWN", "Throttling", "of_reasons", "read_cooling", "since"]

# The share that is assumed where the hardware says that it throttles and not by how much.
SLOWDOWN_UNSAID: Final = 0.3

# nvml.h, nvmlClocksEventReasons. "HW thermal slowdown" lowers the clocks by a factor of 2 or more.
# The "power brake" (0x80) and a "HW slowdown" (0x08) without either are about power: a governor of
# heat cannot end them. The power cap (0x4) is no throttling: it is the limit that was asked for.
_SW_THERMAL: Final = 0x20
_HW_THERMAL: Final = 0x40
_HW_SLOWDOWN: Final = 0x08  # heat, brake or a peak of power
_POWER_BRAKE: Final = 0x80

# Fans and hot-surface-alert, which lowers no clock, do not match.
_CLOCKS: Final = re.compile(r"(thermal-)?(cpufreq|devfreq)-.+|Processor")
_ALERT: Final = re.compile(r"(?!hot-surface).+-throttle-alert")
_COUNTERS: Final = (
    "class/hwmon/hwmon*/oc*_event_cnt",
    "devices/system/cpu/cpu*/thermal_throttle/package_throttle_count",
)
_MAX_DEVICES: Final = 256
_MAX_FILE_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Throttling:
    """What the hardware says about its clocks at one time.

    Attributes:
        share: of the range of the clocks, 0 to 1, that heat takes away now; None: it does not say.
            1 is the lowest state of a cooling device, and half of a GPU's clock or less.
        reasons: what throttles because of heat, by the hardware's names.
        counters: events since the machine was started, by file.
        power_reasons: what throttles because of power, by the hardware's names.
    """

    share: float | None = None
    reasons: tuple[str, ...] = ()
    counters: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    power_reasons: tuple[str, ...] = ()

    @property
    def in_force(self) -> bool | None:
        """Whether heat or power lowers the clocks; None: the hardware does not say."""
        if self.share is None and not self.power_reasons:
            return None
        return bool(self.share or self.power_reasons)


UNKNOWN: Final = Throttling()


def read_cooling(root: Path) -> Throttling:
    """Read the kernel's cooling devices and counters.

    The device that is cooled most decides. An alert says only that its unit throttles.
    """
    states = list(_states(root / "sys/class/thermal"))
    shares = [share for _, share in states]
    return Throttling(
        share=max(shares, default=None),
        reasons=tuple(name for name, share in states if share > 0),
        counters=dict(_counters(root / "sys")),
    )


def since(before: Throttling, now: Throttling) -> Throttling:
    """Return what throttled between two readings: a counter that rose is a reason too."""
    risen = tuple(
        name
        for name, count in now.counters.items()
        if name in before.counters and count > before.counters[name]
    )
    known = now.share is not None or bool(now.counters)
    if not known:
        return now
    share = max(now.share or 0.0, SLOWDOWN_UNSAID if risen else 0.0)
    return replace(now, share=share, reasons=(*now.reasons, *risen))


def of_reasons(cell: str, clock_mhz: float | None, unthrottled_mhz: float | None) -> Throttling:
    """Return what `clocks_event_reasons.active` of a GPU means.

    Args:
        cell: such as 0x0000000000000020; any other text is not known.
        clock_mhz: the GPU's clock now.
        unthrottled_mhz: its clock without that reason.
    """
    if not re.fullmatch(r"0x[0-9a-fA-F]{1,16}", cell):
        return UNKNOWN
    bits, share, reasons = int(cell, 16), 0.0, []
    if bits & _SW_THERMAL:
        reasons.append("SW thermal slowdown")
        share = SLOWDOWN_UNSAID
        if clock_mhz is not None and unthrottled_mhz:
            share = min(1.0, max(0.0, 2 * (1 - clock_mhz / unthrottled_mhz)))
    if bits & _HW_THERMAL:
        reasons.append("HW thermal slowdown")
        share = 1.0
    by_power = ["HW power brake slowdown"] if bits & _POWER_BRAKE else []
    if bits & _HW_SLOWDOWN and not bits & (_HW_THERMAL | _POWER_BRAKE):
        by_power.append("HW slowdown")
    return Throttling(share, tuple(reasons), power_reasons=tuple(by_power))


def _states(folder: Path) -> Iterator[tuple[str, float]]:
    """Yield each cooling device of clocks with the share of its states that is in force."""
    for device in numbered(folder, "cooling_device", _MAX_DEVICES):
        name = read_text(device / "type", _MAX_FILE_BYTES) or ""
        state, most = _number(device / "cur_state"), _number(device / "max_state")
        if state is None or not most:
            continue
        if _CLOCKS.fullmatch(name):
            yield name, min(1.0, state / most)
        elif _ALERT.fullmatch(name):
            yield name, SLOWDOWN_UNSAID if state else 0.0


def _counters(sysfs: Path) -> Iterator[tuple[str, int]]:
    for pattern in _COUNTERS:
        for path in sorted(sysfs.glob(pattern))[:_MAX_DEVICES]:
            count = _number(path)
            if count is not None:
                yield str(path.relative_to(sysfs)), count


def _number(path: Path) -> int | None:
    text = read_text(path, _MAX_FILE_BYTES) or ""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None
