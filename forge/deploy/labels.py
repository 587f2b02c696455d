"""Which nodes a profile's pod may run on, by labels that really exist. Pure.

A node with a discrete GPU has those of NVIDIA's GPU feature discovery. Its product is nvidia-smi's
name with dashes for spaces (and `-SHARED` behind it where a GPU is shared by time slices: such a
node is not what the profile was measured on, and not chosen). A Jetson gets ours by hand, since
what is discovered of an integrated GPU differs from release to release.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from forge.profiles import Profile

__all__ = ["SKU_LABEL", "Rule", "product", "rules"]

SKU_LABEL: Final = "forge-release.github.io/sku"
_GPU: Final = "nvidia.com/gpu"


@dataclass(frozen=True, slots=True)
class Rule:
    """One requirement of a node affinity; all of them must hold.

    Attributes:
        key: of the label.
        operator: `Gt` and `Lt` compare whole numbers and take one value.
        values: texts, as labels are.
    """

    key: str
    operator: Literal["In", "Gt", "Lt"]
    values: tuple[str, ...]


def rules(profile: Profile) -> tuple[Rule, ...]:
    """What a node must say of itself to be this SKU."""
    architecture = profile.platform.partition("/")[2]
    machine = (
        Rule("kubernetes.io/os", "In", ("linux",)),
        Rule("kubernetes.io/arch", "In", (architecture,)),
    )
    if profile.hardware.memory_kind == "unified":
        return (*machine, Rule(SKU_LABEL, "In", (profile.name,)))
    return (*machine, *_gpu(profile))


def product(name: str) -> str:
    """`nvidia.com/gpu.product` of a GPU that nvidia-smi calls `name`."""
    return name.replace(" ", "-")


def _gpu(profile: Profile) -> tuple[Rule, ...]:
    hardware = profile.hardware
    if hardware.compute_capability is None:
        return ()
    major, _, minor = hardware.compute_capability.partition(".")
    found = [
        Rule(f"{_GPU}.compute.major", "In", (major,)),
        Rule(f"{_GPU}.compute.minor", "In", (minor,)),
    ]
    if hardware.gpu_names:
        found.append(Rule(f"{_GPU}.product", "In", tuple(map(product, hardware.gpu_names))))
    if hardware.match.memory_mib_min is not None:
        found.append(Rule(f"{_GPU}.memory", "Gt", (str(hardware.match.memory_mib_min - 1),)))
    if hardware.match.memory_mib_max is not None:
        found.append(Rule(f"{_GPU}.memory", "Lt", (str(hardware.match.memory_mib_max + 1),)))
    return tuple(found)
