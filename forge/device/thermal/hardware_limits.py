"""Read the temperatures at which the hardware itself throttles and stops.

Of a thermal zone: its trip points (/sys/class/thermal/thermal_zoneN/trip_point_M_{type,temp}). Of a
GPU: `nvidia-smi -q -d TEMPERATURE`. Nothing here raises for a file or a program that fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge.device.hardware.compute_target import ComputeTarget
from forge.device.hardware.facts import Run
from forge.system_files import read_text

__all__ = ["NONE", "HardwareLimits", "parse_gpu", "read_gpu", "read_zone"]

# Below, a trip point is a fan's or not set (x86_pkg_temp: 0); above, it is none of silicon.
_LOWEST_C: Final = 50.0
_HIGHEST_C: Final = 140.0
_MAX_TRIPS: Final = 16
_MAX_FILE_BYTES: Final = 256
_LINE: Final = re.compile(r"^\s*([A-Za-z.][A-Za-z. ]*[A-Za-z])\s*:\s*(-?[0-9]{1,3})\s*C\s*$")
_BLOCK: Final = re.compile(r"^GPU [0-9A-Fa-f]+:", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class HardwareLimits:
    """Temperatures of one sensor, °C; None where the hardware does not say.

    Attributes:
        throttle_c: from here on clocks are lowered: the highest passive trip point, or the lower
            one of a GPU's target and maximum operating temperature.
        critical_c: from here on the machine is stopped, or a GPU's clocks are halved at least: the
            lowest hot or critical trip point, or the GPU's slowdown temperature.
    """

    throttle_c: float | None = None
    critical_c: float | None = None


NONE: Final = HardwareLimits()


def read_zone(zone: Path) -> HardwareLimits:
    """Read the trip points of a thermal zone; one that cannot be read is skipped.

    Of several passive ones the highest counts, as for the kernel's power_allocator: Orin has one at
    70 °C, which sets an alert for a hot surface and lowers no clock, and one at 99 °C.
    """
    trips = list(_trips(zone))
    critical = min((celsius for kind, celsius in trips if kind != "passive"), default=None)
    passive = [
        celsius
        for kind, celsius in trips
        if kind == "passive" and (critical is None or celsius < critical)
    ]
    return HardwareLimits(max(passive, default=None), critical)


def read_gpu(target: ComputeTarget, run: Run, timeout_s: float) -> HardwareLimits:
    """Ask nvidia-smi for the limits of the GPU that serves; of a slice, for those of its board."""
    name = target.gpu and (target.gpu.board or target.gpu.uuid)
    chosen = ("-i", name) if name else ()
    return parse_gpu(run(("nvidia-smi", *chosen, "-q", "-d", "TEMPERATURE"), timeout_s).output)


def parse_gpu(text: str) -> HardwareLimits:
    """Parse `nvidia-smi -q -d TEMPERATURE` of one GPU; of several it is not known which is meant.

    GPUs since Ada state distances (T.Limit) from the maximum operating temperature instead of
    temperatures: 42 now and -2 for the slowdown at 45 °C mean that it slows down at 89 °C.
    """
    if len(_BLOCK.findall(text)) > 1:
        return NONE
    said = {found[1]: float(found[2]) for line in text.splitlines() if (found := _LINE.match(line))}
    now, distance = said.get("GPU Current Temp"), said.get("GPU T.Limit Temp")

    def limit(name: str) -> float | None:
        celsius = said.get(f"GPU {name} Temp")
        from_limit = said.get(f"GPU {name} T.Limit Temp")
        if celsius is None and None not in (now, distance, from_limit):
            celsius = (now or 0) + (distance or 0) - (from_limit or 0)
        return _possible(celsius)

    softer = (_possible(said.get("GPU Target Temperature")), limit("Max Operating"))
    throttle = min((one for one in softer if one is not None), default=None)
    critical = limit("Slowdown")
    if throttle is not None and critical is not None and throttle >= critical:
        throttle = None
    return HardwareLimits(throttle, critical)


def _trips(zone: Path) -> Iterator[tuple[str, float]]:
    for number in range(_MAX_TRIPS):
        kind = read_text(zone / f"trip_point_{number}_type", _MAX_FILE_BYTES)
        if kind is None:
            continue
        text = read_text(zone / f"trip_point_{number}_temp", _MAX_FILE_BYTES) or ""
        if kind in {"passive", "hot", "critical"} and re.fullmatch(r"-?[0-9]{1,9}", text):
            celsius = _possible(int(text) / 1000)
            if celsius is not None:
                yield kind, celsius


def _possible(celsius: float | None) -> float | None:
    return celsius if celsius is not None and _LOWEST_C <= celsius <= _HIGHEST_C else None
