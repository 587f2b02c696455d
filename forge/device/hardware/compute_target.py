"""What a bundle computes on: one GPU, chosen by its profile's match, or the CPU. Pure.

Memory, sensors, power, the server's environment and the fit check each ask this, and not what the
machine has in addition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from forge.device.hardware.gpus import Gpu, named
from forge.device.hardware.inventory import Hardware
from forge.device.hardware.match_rules import best, judge, rules
from forge.profiles import MatchSection

__all__ = ["CPU", "ComputeTarget", "idle_target", "target_of"]


@dataclass(frozen=True, slots=True)
class ComputeTarget:
    """What serves.

    Attributes:
        on: `card` is a GPU with memory and sensors of its own; `soc` one in the machine's chip.
        gpu: which; None on the CPU, and while the GPU is not known.
        tegra: the machine has NVIDIA's board tools: nvpmodel and jetson_clocks.
        alone: no other GPU is there.
    """

    on: Literal["cpu", "soc", "card"]
    gpu: Gpu | None = None
    tegra: bool = False
    alone: bool = True

    @property
    def zones_decide(self) -> bool:
        """Whether the machine's thermal zones are those of what serves."""
        return self.on != "card"

    @property
    def asks_smi(self) -> bool:
        """Whether nvidia-smi has its temperature and power: not that of a Jetson's own GPU."""
        return self.on == "card" or (self.on == "soc" and not self.tegra)

    def is_of(self, uuid: str | None, index: int | None) -> bool:
        """Whether a row of nvidia-smi is about this GPU; of its board, if it is a part of one."""
        if self.gpu is None:
            return True
        if self.gpu.board is not None and uuid is not None:
            return uuid == self.gpu.board
        return self.gpu.index is None or index is None or index == self.gpu.index

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which a server sees this GPU and no other.

        By UUID, since CUDA counts by speed and nvidia-smi by bus. A Jetson's only GPU needs none.
        """
        if self.gpu is None or self.gpu.uuid is None or (self.on == "soc" and self.alone):
            return {}
        return {"CUDA_VISIBLE_DEVICES": self.gpu.uuid}


CPU: Final = ComputeTarget("cpu")


def target_of(
    match: MatchSection,
    compute_capability: str | None,
    hardware: Hardware,
    wanted_gpu: str | None = None,
) -> ComputeTarget:
    """Return what a bundle computes on.

    Of several GPUs those count for which all rules of the profile hold and that have the engine's
    compute capability; of these the one with most memory, then the first by bus.

    Args:
        match: of the bundle's profile.
        compute_capability: that the bundle needs; without one it is served on the CPU.
        hardware: of the machine.
        wanted_gpu: the only GPU that counts, if a person names one (`--gpu`).
    """
    if compute_capability is None:
        return ComputeTarget("cpu", tegra=hardware.tegra)
    pool = [gpu for gpu in hardware.gpus if named(gpu, wanted_gpu)]
    able = [gpu for gpu in pool if gpu.compute_capability == compute_capability]
    matched = [gpu for gpu in able if _is_matched(match, hardware, gpu)]
    unsaid = [gpu for gpu in pool if gpu.compute_capability is None]
    # The one that is meant may be the one that is lost: then no other takes its place.
    others = (able or unsaid) if hardware.complete or not any(rules(match)) else []
    return _target(best(matched or others, hardware), hardware)


def idle_target(hardware: Hardware) -> ComputeTarget:
    """Return what to report on while nothing serves: the GPU of a machine that has one."""
    gpu = best(list(hardware.gpus), hardware)
    return ComputeTarget("cpu", tegra=hardware.tegra) if gpu is None else _target(gpu, hardware)


def _target(gpu: Gpu | None, hardware: Hardware) -> ComputeTarget:
    shared = gpu.kind == "integrated" if gpu else hardware.tegra
    alone = len(hardware.gpus) <= 1
    return ComputeTarget("soc" if shared else "card", gpu, hardware.tegra, alone)


def _is_matched(match: MatchSection, hardware: Hardware, gpu: Gpu) -> bool:
    only = hardware.model_copy(update={"gpus": (gpu,), "complete": True})
    return judge(match, only).holds == "yes"
