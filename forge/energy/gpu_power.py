"""Parse a GPU's power as nvidia-smi reports it. Pure.

`power.draw` is asked for, and neither `power.draw.average` nor `power.draw.instant`: every driver
knows it. NVML's reference (nvmlDeviceGetPowerUsage) says what it is: the mean over 1 s on Ampere
(except GA100) and newer GPUs, the power of the moment on GA100 and older ones. The mean is what an
integral over samples needs; an instant misses what happens between two samples. nvidia-smi has no
field for NVML's energy counter (nvmlDeviceGetTotalEnergyConsumption, Volta and newer).
"""

from __future__ import annotations

import re
from typing import Final

from forge import nvidia_smi
from forge.energy.power_reading import PowerReading, RailPower

__all__ = ["POWER_FIELD", "RAIL", "gpu_power", "parse_watts"]

POWER_FIELD: Final = "power.draw"
RAIL: Final = "gpu"
_MOST_W: Final = 5000.0
_OF_A_SLICE: Final = (
    "a MIG slice has no power reading of its own; that of its GPU includes the other slices"
)


def gpu_power(
    cell: str | None, name: str, *, is_slice: bool = False, note: str = ""
) -> PowerReading:
    """Return what the cell of the GPU that serves says.

    Args:
        cell: of `power.draw` in W, without the unit; None: nvidia-smi lists no such GPU.
        name: of the GPU, for users.
        is_slice: whether what serves is a MIG slice of that GPU.
        note: what else nvidia-smi said: why there is no cell.
    """
    watts = None if cell is None else parse_watts(cell)
    rails = () if cell is None else (RailPower(RAIL, watts),)
    if is_slice:
        return PowerReading(None, "nvidia-smi", name, rails=rails, problem=_OF_A_SLICE)
    if watts is not None:
        return PowerReading(watts, "nvidia-smi", name, rails=rails)
    if cell is None:
        why = f"nvidia-smi says nothing about the power of {name}{f': {note}' if note else ''}"
    elif nvidia_smi.is_unsupported(cell):
        why = f"{name} does not report its power"
    else:
        why = f"nvidia-smi does not know the power of {name} now: {cell.strip()[:40] or 'no text'}"
    return PowerReading(None, "nvidia-smi", name, rails=rails, problem=why)


def parse_watts(cell: str) -> float | None:
    """Return W; None for `[N/A]`, `[Unknown Error]`, `ERR!` and what no GPU draws."""
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", cell.strip()):
        return None
    watts = float(cell)
    return watts if watts <= _MOST_W else None
