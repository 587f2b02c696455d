"""Read temperatures: the kernel's thermal zones, and nvidia-smi for discrete GPUs.

A zone that cannot be read is skipped: Thor's gpu-thermal fails while the GPU is power-gated.
Impossible values are dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from forge.device.hardware.facts import Run, run_command
from forge.device.hardware.inventory import PlatformKind

__all__ = ["Sensor", "Temperatures", "parse_gpus", "parse_zone", "read", "zones"]

_LOWEST_C: Final = -55.0
_HIGHEST_C: Final = 150.0
_MAX_ZONES: Final = 256
_MAX_FILE_BYTES: Final = 256
_SMI_S: Final = 5.0
_QUERY: Final = (
    "nvidia-smi",
    "--query-gpu=index,temperature.gpu",
    "--format=csv,noheader,nounits",
)


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
        problem: why nvidia-smi failed; empty if it did not or was not run.
    """

    decisive: tuple[Sensor, ...] = ()
    others: tuple[Sensor, ...] = ()
    silent: tuple[str, ...] = ()
    problem: str = ""

    @property
    def hottest_c(self) -> float | None:
        """Return the highest decisive temperature; None if there is none."""
        return max((sensor.celsius for sensor in self.decisive), default=None)


def read(kind: PlatformKind, root: Path = Path("/"), run: Run | None = None) -> Temperatures:
    """Read every sensor once. Never raises.

    For a discrete GPU its own sensor decides: the profile's temperatures are the GPU's, and a CPU
    may safely be hotter. Elsewhere the hottest zone decides.

    Args:
        kind: of the machine.
        root: where /sys is.
        run: runs nvidia-smi with a timeout; default: as a child process.
    """
    found, silent = zones(root)
    if kind != "discrete":
        return Temperatures(decisive=found, silent=silent)
    answer = (run or run_command)(_QUERY, _SMI_S)
    gpus = parse_gpus(answer.output) if not answer.problem else ()
    problem = answer.problem or ("" if gpus else "no GPU reports its temperature")
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


def parse_gpus(text: str) -> tuple[Sensor, ...]:
    """Parse CSV: index, temperature.gpu. A GPU with `[N/A]` is left out."""
    lines = re.findall(r"(?m)^\s*([0-9]{1,4})\s*,\s*(-?[0-9]{1,4})\s*$", text)
    sensors = ((f"gpu{index}", _possible(float(value))) for index, value in lines)
    return tuple(
        Sensor(name=name, celsius=celsius) for name, celsius in sensors if celsius is not None
    )


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
        with path.open("rb") as file:
            return file.read(_MAX_FILE_BYTES).decode(errors="replace")
    except OSError:
        return None
