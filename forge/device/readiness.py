"""Say whether the GPU of a machine is ready for a benchmark: idle, cool, and not throttled.

What the machine does not say is listed and refuses nothing: a Jetson's nvidia-smi lists no
processes, and some drivers state no limit of the temperature.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge import nvidia_smi
from forge.device.hardware.compute_target import ComputeTarget
from forge.device.hardware.facts import Run, ask_smi, run_command
from forge.device.thermal.sensors import Temperatures, read

__all__ = ["Occupancy", "Readiness", "check_readiness", "judge_readiness", "read_occupancy"]

_SMI_S: Final = 5.0
_PROCESSES: Final = "--query-compute-apps=gpu_uuid,pid,process_name"
_UTILISATION: Final = "--query-gpu=index,uuid,utilization.gpu"
_CELLS: Final = 3
# The driver averages utilization.gpu over 1/6 to 1 s, by product (nvidia-smi's manual): several
# readings, so that a gap between two kernels of a busy GPU is not taken for idleness.
_READINGS: Final = 3
_BETWEEN_S: Final = 1.0
# Chosen, not measured: a desktop takes a few percent, a benchmark or a training far more.
_BUSY_PERCENT: Final = 10
# Chosen, not measured: a GPU that has just ended a long load is nearer to its limit than this.
_COOL_BELOW_LIMIT_C: Final = 20


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What else computes on a GPU.

    Attributes:
        processes: `PID NAME` of each; None: the driver does not list them.
        utilisation: highest of several readings, percent; None: the driver does not state it.
    """

    processes: tuple[str, ...] | None = None
    utilisation: int | None = None


@dataclass(frozen=True, slots=True)
class Readiness:
    """What speaks against a benchmark now, and what is not known; a phrase each."""

    refusals: tuple[str, ...]
    unknown: tuple[str, ...]


def check_readiness(
    target: ComputeTarget,
    throttle_c: float | None = None,
    root: Path = Path("/"),
    run: Run | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Readiness:
    """Read the GPU that computes and judge it; a target without a GPU is always ready.

    Takes some seconds. Never raises: what cannot be read is not known.

    Args:
        target: what computes.
        throttle_c: of the profile, °C: counts where the hardware states no limit.
        root: where /sys is.
        run: runs nvidia-smi with a timeout; default: as a child process.
        sleep: waits between readings.
    """
    if target.on == "cpu":
        return Readiness((), ())
    temperatures = read(target, root, run)
    return judge_readiness(read_occupancy(target, run, sleep), temperatures, throttle_c)


def read_occupancy(
    target: ComputeTarget,
    run: Run | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Occupancy:
    """Ask nvidia-smi what computes on a GPU."""
    run = run or run_command
    readings = [_utilisation(target, run)]
    while len(readings) < _READINGS and readings[-1] is not None:
        sleep(_BETWEEN_S)
        readings.append(_utilisation(target, run))
    known = [one for one in readings if one is not None]
    return Occupancy(_processes(target, run), max(known, default=None))


def judge_readiness(
    occupancy: Occupancy, temperatures: Temperatures, throttle_c: float | None = None
) -> Readiness:
    """Judge what was read, with the profile's temperature where the hardware has no limit. Pure."""
    return Readiness(
        refusals=(*_busy(occupancy), *_hot(temperatures, throttle_c)),
        unknown=tuple(_unknown(occupancy, temperatures, throttle_c)),
    )


def _busy(occupancy: Occupancy) -> Iterator[str]:
    if occupancy.processes:
        yield f"other processes compute on the GPU: {', '.join(occupancy.processes)}"
    if occupancy.utilisation is not None and occupancy.utilisation >= _BUSY_PERCENT:
        yield f"the GPU is busy: {occupancy.utilisation} % of the time"


def _hot(temperatures: Temperatures, throttle_c: float | None) -> Iterator[str]:
    for sensor in temperatures.decisive:
        limit = throttle_c if sensor.throttle_c is None else sensor.throttle_c
        if limit is not None and sensor.celsius > limit - _COOL_BELOW_LIMIT_C:
            yield (
                f"{sensor.name} has {sensor.celsius:.0f} °C, and its clocks are lowered at "
                f"{limit:.0f} °C: {_COOL_BELOW_LIMIT_C} °C less is cool"
            )
    throttling = temperatures.throttling
    if throttling.share:
        yield f"heat lowers the clocks now: {', '.join(throttling.reasons) or 'cause not stated'}"


def _unknown(
    occupancy: Occupancy, temperatures: Temperatures, throttle_c: float | None
) -> Iterator[str]:
    if occupancy.processes is None:
        yield "which processes compute on the GPU"
    if occupancy.utilisation is None:
        yield "how busy the GPU is"
    if not temperatures.decisive:
        yield f"how hot the GPU is{_because(temperatures.problem)}"
    elif throttle_c is None and all(one.throttle_c is None for one in temperatures.decisive):
        yield "at which temperature the clocks are lowered"
    if temperatures.throttling.share is None:
        yield "whether heat lowers the clocks"


def _because(problem: str) -> str:
    return f": {problem}" if problem else ""


def _processes(target: ComputeTarget, run: Run) -> tuple[str, ...] | None:
    """Return the processes on a GPU; None if nvidia-smi does not say.

    Rows count next to a warning; that there is none is known from an answer that says nothing else.
    """
    answer = run((nvidia_smi.NAME, _PROCESSES, "--format=csv,noheader,nounits"), _SMI_S)
    if answer.code not in (0, *nvidia_smi.ROWS_ARE_GOOD) or (answer.problem and not answer.code):
        return None
    found = nvidia_smi.read_rows(answer.output, "", 0, "", _is_process)
    rows = [row for row in found.rows if _may_be_on(target, nvidia_smi.known(row[0]))]
    if not rows and found.note:
        return None
    return tuple(f"{row[1]} {Path(row[2]).name}" for row in rows)


def _may_be_on(target: ComputeTarget, uuid: str | None) -> bool:
    """Whether a process may be on this GPU, or on the board that it is a part of."""
    gpu = target.gpu
    known = (gpu.board or gpu.uuid) if gpu else None
    return uuid is None or known is None or uuid == known


def _is_process(cells: nvidia_smi.Row) -> bool:
    return len(cells) >= _CELLS and cells[1].isdecimal()


def _utilisation(target: ComputeTarget, run: Run) -> int | None:
    answer = ask_smi(run, (_UTILISATION,), _SMI_S, _is_utilisation)
    rows = [row for row in answer.rows if target.is_of(nvidia_smi.known(row[1]), int(row[0]))]
    said = [int(row[2]) for row in rows if row[2].isdecimal()]
    return max(said, default=None)


def _is_utilisation(cells: nvidia_smi.Row) -> bool:
    return len(cells) >= _CELLS and re.fullmatch(r"[0-9]{1,4}", cells[0]) is not None
