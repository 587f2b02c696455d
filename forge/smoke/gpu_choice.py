"""Choose the GPU that the benchmark runs on, of those that nvidia-smi lists. Pure.

What serves on a device is chosen by forge.device.hardware.compute_target; this is its rule for one
machine that builds. In this order:

1. A profile without a compute capability is served by the CPU.
2. `CUDA_VISIBLE_DEVICES` names the GPU, if it is set: by UUID; or by number, which is nvidia-smi's
   only with CUDA_DEVICE_ORDER=PCI_BUS_ID or where there is one GPU, since CUDA counts by speed.
3. Of the GPUs with the profile's compute capability and, where one matches, the profile's name, the
   one with most memory, then the first by bus. The server is told so by UUID.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final, Literal

from forge import nvidia_smi

__all__ = ["GPU_QUERIES", "ChosenGpu", "GpuRow", "GpuWanted", "choose", "is_choice_row", "parse"]

_FIELDS: Final = "index,uuid,name,driver_version,memory.total"
GPU_QUERIES: Final = (
    f"--query-gpu={_FIELDS},compute_cap,mig.mode.current",
    f"--query-gpu={_FIELDS}",  # old drivers know neither of the others
)
_CELLS: Final = (5, 7)
_UUID: Final = re.compile(r"GPU-[0-9A-Za-z-]{1,64}")


@dataclass(frozen=True, slots=True)
class GpuRow:
    """One GPU as nvidia-smi lists it; None for what is not known."""

    index: int
    uuid: str | None
    name: str | None
    driver: str | None
    memory_mib: int | None
    is_integrated: bool
    compute_capability: str | None
    has_slices: bool


@dataclass(frozen=True, slots=True)
class GpuWanted:
    """What a profile says about the GPU.

    Attributes:
        compute_capability: None: the CPU serves.
        gpu_name: glob on nvidia-smi's name; None: any.
        is_known: False: the profile's hardware was not given, so that any GPU may serve.
    """

    compute_capability: str | None = None
    gpu_name: str | None = None
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class ChosenGpu:
    """What serves.

    Attributes:
        on: `card` is a GPU with memory of its own, `soc` one in the machine's chip; `unknown`: a
            GPU, and it is not known which.
        gpu: which; None on the CPU, and where it is not known.
        is_slice: whether a MIG slice of it serves.
        environment: variables for the server; empty where it inherits the choice.
        problem: why the GPU is not known.
    """

    on: Literal["cpu", "soc", "card", "unknown"]
    gpu: GpuRow | None = None
    is_slice: bool = False
    environment: Mapping[str, str] | None = None
    problem: str = ""

    def is_of(self, index: str, uuid: str) -> bool:
        """Whether a row of nvidia-smi with these cells is about this GPU."""
        if self.gpu is None:
            return False
        return uuid == self.gpu.uuid if self.gpu.uuid else index == str(self.gpu.index)

    @property
    def name(self) -> str:
        """For users."""
        return (self.gpu.name if self.gpu else None) or "the GPU"


def is_choice_row(cells: nvidia_smi.Row) -> bool:
    """Whether cells are a row of GPU_QUERIES."""
    return len(cells) in _CELLS and re.fullmatch(r"[0-9]{1,4}", cells[0]) is not None


def parse(rows: Sequence[nvidia_smi.Row]) -> tuple[GpuRow, ...]:
    """Parse rows as `is_choice_row` says."""
    return tuple(_row(cells) for cells in rows)


def choose(
    wanted: GpuWanted, gpus: Sequence[GpuRow], environment: Mapping[str, str], *, tegra: bool
) -> ChosenGpu:
    """Return what serves.

    Args:
        wanted: by the profile.
        gpus: of this machine, by bus.
        environment: of this process, which the server inherits.
        tegra: whether this is a Jetson, whose nvidia-smi may list no GPU.
    """
    if wanted.is_known and wanted.compute_capability is None:
        return ChosenGpu("cpu")
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if not gpus:
        return _without_rows(wanted, tegra=tegra)
    if visible is not None:
        return _visible(visible.split(",")[0].strip(), gpus, environment)
    able = [gpu for gpu in gpus if gpu.compute_capability == wanted.compute_capability]
    able = able or [gpu for gpu in gpus if not wanted.is_known or gpu.compute_capability is None]
    named = [gpu for gpu in able if fnmatchcase(gpu.name or "", wanted.gpu_name or "*")]
    found = max(named or able, key=lambda gpu: gpu.memory_mib or 0, default=None)
    if found is None:
        problem = f"no GPU here has compute capability {wanted.compute_capability}"
        return ChosenGpu("unknown", problem=problem)
    chosen = _of(found)
    if chosen.on == "card" and found.uuid and not found.has_slices:
        return replace(chosen, environment={"CUDA_VISIBLE_DEVICES": found.uuid})
    return chosen


def _without_rows(wanted: GpuWanted, *, tegra: bool) -> ChosenGpu:
    if tegra:
        return ChosenGpu("soc")
    if not wanted.is_known:
        return ChosenGpu("cpu")
    return ChosenGpu("unknown", problem="nvidia-smi lists no GPU")


def _visible(first: str, gpus: Sequence[GpuRow], environment: Mapping[str, str]) -> ChosenGpu:
    """Return the GPU that the first entry of CUDA_VISIBLE_DEVICES names."""
    if first.startswith("MIG"):
        sliced = [gpu for gpu in gpus if gpu.has_slices]
        only = sliced[0] if len(sliced) == 1 else None
        return ChosenGpu("card", only, is_slice=True, problem="" if only else _whose(first))
    if first.isdecimal():
        by_bus = environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len(gpus) == 1
        found = [gpu for gpu in gpus if gpu.index == int(first)] if by_bus else []
        if not by_bus:
            why = f"CUDA_VISIBLE_DEVICES={first} counts by speed; name the GPU by its UUID"
            return ChosenGpu("unknown", problem=why)
    else:
        found = [gpu for gpu in gpus if first and (gpu.uuid or "").startswith(first)]
    return _of(found[0]) if len(found) == 1 else ChosenGpu("unknown", problem=_whose(first))


def _whose(first: str) -> str:
    return f"CUDA_VISIBLE_DEVICES={first} names none of the GPUs that nvidia-smi lists"


def _of(gpu: GpuRow) -> ChosenGpu:
    # Without a choice CUDA takes the first slice of a GPU in MIG mode.
    return ChosenGpu("soc" if gpu.is_integrated else "card", gpu, is_slice=gpu.has_slices)


def _row(cells: nvidia_smi.Row) -> GpuRow:
    uuid = nvidia_smi.known(cells[1])
    memory = cells[4]
    rest = cells[5:]
    return GpuRow(
        index=int(cells[0]),
        uuid=uuid if uuid and _UUID.fullmatch(uuid) else None,
        name=nvidia_smi.known(cells[2]),
        driver=nvidia_smi.known(cells[3]),
        memory_mib=int(memory) if memory.isdecimal() else None,
        is_integrated=nvidia_smi.is_unsupported(memory),
        compute_capability=nvidia_smi.known(rest[0]) if rest else None,
        has_slices=len(rest) > 1 and rest[1] == "Enabled",
    )
