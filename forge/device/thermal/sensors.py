"""Read the temperatures of what serves: the kernel's thermal zones, or nvidia-smi for a GPU.

A zone that cannot be read is skipped, for any errno of the kernel: Thor's gpu-thermal and Orin's
cv0 to cv2 fail with EAGAIN while they are power-gated. Impossible values are dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from forge import nvidia_smi
from forge.device.hardware.compute_target import ComputeTarget
from forge.device.hardware.facts import Run, ask_smi, read_bytes, run_command

__all__ = ["Sensor", "Temperatures", "parse_gpus", "parse_zone", "read", "zones"]

_LOWEST_C: Final = -55.0
_HIGHEST_C: Final = 150.0
_MAX_ZONES: Final = 256
_MAX_FILE_BYTES: Final = 256
_SMI_S: Final = 5.0
_QUERY: Final = ("--query-gpu=index,temperature.gpu,uuid",)
_LEAST_CELLS: Final = 2


class Sensor(BaseModel):
    """One sensor and its temperature, °C."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    celsius: float


@dataclass(frozen=True, slots=True)
class Temperatures:
    """One reading of every sensor.

    Attributes:
        decisive: sensors of the chip that serves.
        others: the rest, shown only.
        silent: zones that could not be read this time.
        problem: why the GPU's temperature is not known; empty if it is, or is not needed.
    """

    decisive: tuple[Sensor, ...] = ()
    others: tuple[Sensor, ...] = ()
    silent: tuple[str, ...] = ()
    problem: str = ""

    @property
    def hottest_c(self) -> float | None:
        """Return the highest decisive temperature; None if there is none."""
        return max((sensor.celsius for sensor in self.decisive), default=None)


def read(target: ComputeTarget, root: Path = Path("/"), run: Run | None = None) -> Temperatures:
    """Read every sensor once. Never raises.

    The sensors of what serves decide: of a GPU with memory of its own that GPU's, because the
    profile's temperatures are its own and a CPU may safely be hotter; else the hottest zone, and
    nvidia-smi's value of a GPU in the same chip.

    Args:
        target: what serves.
        root: where /sys is.
        run: runs nvidia-smi with a timeout; default: as a child process.
    """
    found, silent = zones(root)
    if not target.asks_smi:
        return Temperatures(decisive=found, silent=silent)
    answer = ask_smi(run or run_command, _QUERY, _SMI_S, _is_row)
    gpus = parse_gpus(answer.rows, target)
    if target.zones_decide:
        return Temperatures(decisive=(*found, *gpus), silent=silent)
    problem = "" if gpus else answer.note or "no GPU reports its temperature"
    return Temperatures(
        decisive=gpus,
        others=found,
        silent=silent,
        problem=f"nvidia-smi: {problem}" if problem else "",
    )


def zones(root: Path) -> tuple[tuple[Sensor, ...], tuple[str, ...]]:
    """Return the sensors of /sys/class/thermal and the names of zones that could not be read."""
    found: list[Sensor] = []
    silent: list[str] = []
    for folder in _folders(root / "sys/class/thermal"):
        name = (_text(folder / "type") or "").strip() or folder.name
        celsius = parse_zone(_text(folder / "temp"))
        if celsius is None:
            silent.append(name)
        else:
            found.append(Sensor(name=name, celsius=celsius))
    return tuple(found), tuple(silent)


def parse_zone(text: str | None) -> float | None:
    """Convert the kernel's millidegrees to °C; None for an invalid or impossible value."""
    if text is None or not re.fullmatch(r"\s*-?[0-9]{1,9}\s*", text):
        return None
    return _possible(int(text) / 1000)


def parse_gpus(rows: Iterable[nvidia_smi.Row], target: ComputeTarget) -> tuple[Sensor, ...]:
    """Parse index, temperature.gpu and uuid, if it is there; of the target's GPU if that is known.

    A GPU that does not say its temperature now is left out.
    """
    found = []
    for row in rows:
        index, celsius = int(row[0]), _celsius(row[1])
        uuid = nvidia_smi.known(row[2]) if len(row) > _LEAST_CELLS else None
        if celsius is not None and target.is_of(uuid, index):
            found.append(Sensor(name=f"gpu{index}", celsius=celsius))
    return tuple(found)


def _is_row(cells: nvidia_smi.Row) -> bool:
    return len(cells) >= _LEAST_CELLS and re.fullmatch(r"[0-9]{1,4}", cells[0]) is not None


def _celsius(cell: str) -> float | None:
    return _possible(float(cell)) if re.fullmatch(r"-?[0-9]{1,4}", cell) else None


def _possible(celsius: float) -> float | None:
    return celsius if _LOWEST_C <= celsius <= _HIGHEST_C else None


def _folders(parent: Path) -> Iterable[Path]:
    try:
        found = [path for path in parent.iterdir() if path.name.startswith("thermal_zone")]
    except OSError:
        return ()
    return sorted(found, key=lambda path: (len(path.name), path.name))[:_MAX_ZONES]


def _text(path: Path) -> str | None:
    try:
        return read_bytes(path, _MAX_FILE_BYTES).decode(errors="replace")
    except OSError:
        return None
