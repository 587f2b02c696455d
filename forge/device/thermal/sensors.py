"""Read the temperatures of what serves: the kernel's thermal zones, or nvidia-smi for a GPU.

With each its own limits, and whether heat lowers the clocks. A zone that cannot be read is
skipped, for any errno of the kernel: Thor's gpu-thermal and Orin's cv0 to cv2 fail with EAGAIN
while they are power-gated. Impossible values are dropped.

The power of what serves is read in the same look, with the same call of nvidia-smi.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from forge import nvidia_smi
from forge.device.hardware.compute_target import ComputeTarget
from forge.device.hardware.facts import Run, ask_smi, run_command
from forge.device.thermal.hardware_limits import NONE, HardwareLimits, read_gpu, read_zone
from forge.energy.gpu_power import POWER_FIELD, gpu_power
from forge.energy.host_power import HostPower
from forge.energy.power_reading import NO_READING, PowerReading
from forge.system_files import RootFiles, numbered, read_text
from forge.throttling import UNKNOWN, Throttling, of_reasons, read_cooling, since

__all__ = ["Sensor", "SensorReader", "Temperatures", "parse_zone", "read", "zones"]

_LOWEST_C: Final = -55.0
_HIGHEST_C: Final = 150.0
_MAX_ZONES: Final = 256
_MAX_FILE_BYTES: Final = 256
_SMI_S: Final = 5.0
# Drivers before 535 have clocks_throttle_reasons, old ones neither.
_TEMPERATURE: Final = "--query-gpu=index,temperature.gpu,uuid"
_QUERIES: Final = (
    f"{_TEMPERATURE},clocks_event_reasons.active,clocks.sm,clocks.max.sm,{POWER_FIELD}",
    f"{_TEMPERATURE},clocks_throttle_reasons.active,clocks.sm,clocks.max.sm,{POWER_FIELD}",
    f"{_TEMPERATURE},{POWER_FIELD}",
    _TEMPERATURE,
)
_NO_FIELD: Final = "not a valid field"
_LEAST_CELLS: Final = 2
_REASON_CELLS: Final = 6
_WITH_POWER: Final = (4, 7)  # then it is the last cell
_CLOCKS_KEPT: Final = 5
_LIMITS_EVERY: Final = 300  # readings: a driver that is loaded again may state other ones


class Sensor(BaseModel):
    """One sensor, its temperature, and its hardware's own limits, °C; None: it states none."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    celsius: float
    throttle_c: float | None = None
    critical_c: float | None = None

    @classmethod
    def of(cls, name: str, celsius: float, limits: HardwareLimits) -> Sensor:
        """Return a sensor with these limits."""
        throttle, critical = limits.throttle_c, limits.critical_c
        return cls(name=name, celsius=celsius, throttle_c=throttle, critical_c=critical)


@dataclass(frozen=True, slots=True)
class Temperatures:
    """One reading of every sensor.

    Attributes:
        decisive: sensors of the chip that serves.
        others: the rest, shown only.
        silent: zones that could not be read this time.
        problem: why the GPU's temperature is not known; empty if it is, or is not needed.
        throttling: whether heat lowers the clocks of what serves.
        power: of what serves.
    """

    decisive: tuple[Sensor, ...] = ()
    others: tuple[Sensor, ...] = ()
    silent: tuple[str, ...] = ()
    problem: str = ""
    throttling: Throttling = UNKNOWN
    power: PowerReading = NO_READING

    @property
    def hottest_c(self) -> float | None:
        """Return the highest decisive temperature; None if there is none."""
        return max((sensor.celsius for sensor in self.decisive), default=None)


def read(target: ComputeTarget, root: Path = Path("/"), run: Run | None = None) -> Temperatures:
    """Read every sensor once, as `SensorReader` does."""
    return SensorReader(root, run)(target)


class SensorReader:
    """Reads the sensors of one machine, again and again.

    It keeps which query the driver of a GPU accepts, the limits that it states, and its last clocks
    without throttling.

    Args:
        root: where /sys is.
        run: runs nvidia-smi with a timeout; default: as a child process.
    """

    def __init__(self, root: Path = Path("/"), run: Run | None = None) -> None:
        self._root = root
        self._run = run or run_command
        self._query = 0
        self._limits = NONE
        self._limits_of: ComputeTarget | None = None
        self._limits_due = 0
        self._clocks: deque[float] = deque(maxlen=_CLOCKS_KEPT)
        self._before = UNKNOWN
        self._host_power = HostPower(RootFiles(root))

    def __call__(self, target: ComputeTarget) -> Temperatures:
        """Read every sensor once. Never raises.

        The sensors of what serves decide: of a GPU with memory of its own that GPU's, because a CPU
        may safely be hotter; else all zones, and nvidia-smi's value of a GPU in the same chip.
        """
        found, silent = zones(self._root)
        cooling = read_cooling(self._root) if target.zones_decide else UNKNOWN
        throttling, self._before = since(self._before, cooling), cooling
        if not target.asks_smi:
            power = self._host_power()
            return Temperatures(found, silent=silent, throttling=throttling, power=power)
        answer = self._ask()
        rows = [row for row in answer.rows if target.is_of(_uuid(row), int(row[0]))]
        gpus = tuple(self._sensors(rows, target))
        throttling = _stronger(throttling, self._throttling(rows))
        power = _power(rows, target)
        if target.zones_decide:
            decisive = (*found, *gpus)
            return Temperatures(decisive, silent=silent, throttling=throttling, power=power)
        problem = "" if gpus else answer.note or "no GPU reports its temperature"
        return Temperatures(
            decisive=gpus,
            others=found,
            silent=silent,
            problem=f"nvidia-smi: {problem}" if problem else "",
            throttling=throttling,
            power=power,
        )

    def _ask(self) -> nvidia_smi.SmiAnswer:
        """Ask for all that the driver knows; an older one refuses names that it does not know."""
        while True:
            answer = ask_smi(self._run, (_QUERIES[self._query],), _SMI_S, _is_row)
            refused = not answer.rows and _NO_FIELD in answer.note
            if not refused or self._query == len(_QUERIES) - 1:
                return answer
            self._query += 1

    def _sensors(self, rows: list[nvidia_smi.Row], target: ComputeTarget) -> Iterator[Sensor]:
        """Yield the GPUs that say their temperature now, with the limits of the one that serves."""
        said = [(row, celsius) for row in rows if (celsius := _celsius(row[1])) is not None]
        limits = self._limits_now(target) if len(said) == 1 else NONE
        for row, celsius in said:
            yield Sensor.of(f"gpu{int(row[0])}", celsius, limits)

    def _limits_now(self, target: ComputeTarget) -> HardwareLimits:
        if self._limits_due <= 0 or target != self._limits_of:
            self._limits, self._limits_of = read_gpu(target, self._run, _SMI_S), target
            self._limits_due = _LIMITS_EVERY if self._limits != NONE else _LIMITS_EVERY // 10
        self._limits_due -= 1
        return self._limits

    def _throttling(self, rows: list[nvidia_smi.Row]) -> Throttling:
        if len(rows) != 1 or len(rows[0]) < _REASON_CELLS:
            return UNKNOWN
        cell, clock, most = rows[0][3], _mhz(rows[0][4]), _mhz(rows[0][5])
        found = of_reasons(cell, clock, max(self._clocks, default=most))
        if not found.reasons and clock is not None:
            self._clocks.append(clock)
        return found


def zones(root: Path) -> tuple[tuple[Sensor, ...], tuple[str, ...]]:
    """Return the sensors of /sys/class/thermal and the names of zones that could not be read."""
    found: list[Sensor] = []
    silent: list[str] = []
    for folder in numbered(root / "sys/class/thermal", "thermal_zone", _MAX_ZONES):
        name = read_text(folder / "type", _MAX_FILE_BYTES) or folder.name
        celsius = parse_zone(read_text(folder / "temp", _MAX_FILE_BYTES))
        if celsius is None:
            silent.append(name)
        else:
            found.append(Sensor.of(name, celsius, read_zone(folder)))
    return tuple(found), tuple(silent)


def parse_zone(text: str | None) -> float | None:
    """Convert the kernel's millidegrees to °C; None for an invalid or impossible value."""
    if text is None or not re.fullmatch(r"\s*-?[0-9]{1,9}\s*", text):
        return None
    return _possible(int(text) / 1000)


def _is_row(cells: nvidia_smi.Row) -> bool:
    return len(cells) >= _LEAST_CELLS and re.fullmatch(r"[0-9]{1,4}", cells[0]) is not None


def _uuid(row: nvidia_smi.Row) -> str | None:
    return nvidia_smi.known(row[2]) if len(row) > _LEAST_CELLS else None


def _power(rows: list[nvidia_smi.Row], target: ComputeTarget) -> PowerReading:
    """Return the power of the GPU that serves; of several rows it is not known which is meant."""
    gpu = target.gpu
    name, is_slice = str(gpu) if gpu else "the GPU", gpu is not None and gpu.kind == "mig"
    if len(rows) > 1:
        return PowerReading(problem=f"it is not known which of {len(rows)} GPUs serves")
    cell = rows[0][-1] if rows and len(rows[0]) in _WITH_POWER else None
    return gpu_power(cell, name, is_slice=is_slice)


def _mhz(cell: str) -> float | None:
    return float(cell) if re.fullmatch(r"[0-9]{1,5}", cell) else None


def _stronger(zones: Throttling, gpu: Throttling) -> Throttling:
    """Combine what the kernel and nvidia-smi say of one chip."""
    known = [one.share for one in (zones, gpu) if one.share is not None]
    reasons = (*zones.reasons, *gpu.reasons)
    return Throttling(max(known, default=None), reasons, zones.counters, gpu.power_reasons)


def _celsius(cell: str) -> float | None:
    return _possible(float(cell)) if re.fullmatch(r"-?[0-9]{1,4}", cell) else None


def _possible(celsius: float) -> float | None:
    return celsius if _LOWEST_C <= celsius <= _HIGHEST_C else None
