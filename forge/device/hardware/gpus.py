"""Parse the GPUs that nvidia-smi lists: what kind each is, and what is known of it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from forge import nvidia_smi

__all__ = ["SOC_BY_GPU", "Gpu", "GpuKind", "bare_name", "kind_of", "named", "parse_gpus"]

GpuKind: TypeAlias = Literal["discrete", "integrated", "mig", "vgpu"]

# The names that nvidia-smi prints for the GPUs of NVIDIA's systems on a chip.
SOC_BY_GPU: Final = {"NVIDIA Thor": "nvidia,tegra264", "Orin (nvgpu)": "nvidia,tegra234"}

_VGPU: Final = re.compile(r"-[0-9]{1,3}[QCBA]$")  # NVIDIA RTX PRO 6000 Blackwell DC-24Q
_COMPUTE: Final = re.compile(r"[0-9]{1,2}\.[0-9]")
_UUID: Final = re.compile(r"(GPU|MIG)-[0-9A-Za-z/-]{1,64}")
_LISTED_GPU: Final = re.compile(r"GPU\s+(\d{1,4}):.*\(UUID:\s*(GPU-[0-9A-Za-z-]{1,64})\)")
_LISTED_SLICE: Final = re.compile(
    r"\s+MIG\s+(\S+)\s+Device\s+(\d{1,4}):\s+\(UUID:\s*(MIG-[0-9A-Za-z/-]{1,80})\)"
)
# GPU, GI, CI and MIG device of the plain table, then memory: used / total.
_SLICE_MEMORY: Final = re.compile(
    r"(?m)^\|\s+(\d{1,4})\s+\d+\s+\d+\s+(\d{1,4})\s+\|\s+\d+MiB\s*/\s*(\d{1,9})MiB"
)


class Gpu(BaseModel):
    """One GPU as nvidia-smi reports it; None for what is not known now.

    Attributes:
        memory_mib: of its own; None also for an integrated GPU, which has none.
        kind: `mig` is a slice of a GPU, `vgpu` one that a hypervisor made.
        uuid: by which CUDA and nvidia-smi select it; the only name that both orders share.
        index: in nvidia-smi's order, by bus.
        board: UUID of the GPU that has the sensors and the power limit: of a slice its parent.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str | None
    memory_mib: int | None
    compute_capability: str | None
    kind: GpuKind = "discrete"
    uuid: str | None = None
    index: int | None = None
    board: str | None = None

    def __str__(self) -> str:
        return self.name or "a GPU of unknown name"


@dataclass(frozen=True, slots=True)
class _Slice:
    profile: str
    device: str
    uuid: str


def parse_gpus(rows: str, listed: str = "", header: str = "") -> tuple[tuple[Gpu, ...], str | None]:
    """Return the GPUs in nvidia-smi's order, and the driver's version.

    Args:
        rows: CSV: name, memory.total, driver_version, and compute_cap, uuid, mig.mode.current as
            far as the driver knows them; the last three are told by their form.
        listed: `nvidia-smi -L`, which alone names the slices of a GPU in MIG mode.
        header: plain `nvidia-smi`, which alone has their memory.
    """
    answer = nvidia_smi.read_rows(rows, "", 0, "", nvidia_smi.is_gpu_row)
    found: list[Gpu] = []
    driver: str | None = None
    slices = _slices(listed)
    for index, row in enumerate(answer.rows):
        gpu = _gpu(index, row)
        driver = driver or nvidia_smi.known(row[2])
        own = slices.get(index, []) if "Enabled" in row else []
        found += [_slice_of(gpu, one, header) for one in own] or [gpu]
    return tuple(found), driver


def bare_name(gpu: Gpu) -> str | None:
    """Return the name of the whole GPU, without what a slice or a hypervisor adds to it."""
    if gpu.name is None:
        return None
    return _VGPU.sub("", gpu.name.partition(" MIG ")[0])


def named(gpu: Gpu, wanted: str | None) -> bool:
    """Whether a GPU is the one that a person names: by UUID, its beginning, or the bus order."""
    if wanted is None:
        return True
    if wanted.isdecimal():
        return gpu.index == int(wanted)
    return gpu.uuid is not None and gpu.uuid.startswith(wanted)


def kind_of(name: str | None, memory: str) -> GpuKind:
    """Return the kind of a GPU that is not a slice, by its name and the cell of its memory.

    "Has no such property" is the sign of a GPU without memory of its own: all of them have it.
    "Not readable now" is none.
    """
    if nvidia_smi.is_unsupported(memory):
        return "integrated"
    if name is not None and (name.startswith("GRID ") or _VGPU.search(name)):
        return "vgpu"
    return "discrete"


def _gpu(index: int, row: nvidia_smi.Row) -> Gpu:
    name, memory = nvidia_smi.known(row[0]), row[1]
    rest = row[3:]
    uuid = next((cell for cell in rest if _UUID.fullmatch(cell)), None)
    return Gpu(
        name=name,
        memory_mib=int(memory) if memory.isdecimal() and int(memory) else None,
        compute_capability=next((cell for cell in rest if _COMPUTE.fullmatch(cell)), None),
        kind=kind_of(name, memory),
        uuid=uuid,
        index=index,
        board=uuid,
    )


def _slices(listed: str) -> dict[int, list[_Slice]]:
    found: dict[int, list[_Slice]] = {}
    index = -1
    for line in listed.splitlines():
        if gpu := _LISTED_GPU.match(line):
            index = int(gpu[1])
        elif one := _LISTED_SLICE.match(line):
            found.setdefault(index, []).append(_Slice(*one.groups()))
    return found


def _slice_of(gpu: Gpu, one: _Slice, header: str) -> Gpu:
    known = {(match[1], match[2]): int(match[3]) for match in _SLICE_MEMORY.finditer(header)}
    changes = {
        "name": f"{gpu.name or 'GPU'} MIG {one.profile}",
        "memory_mib": known.get((str(gpu.index), one.device)),
        "kind": "mig",
        "uuid": one.uuid,
    }
    return gpu.model_copy(update=changes)
