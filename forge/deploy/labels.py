"""Node affinity of a profile's pod, by labels of the node. Pure.

A node with a discrete GPU has the labels of NVIDIA's GPU feature discovery. The product label is
the name in nvidia-smi with dashes for spaces. GPUs that are shared by time slicing have the suffix
`-SHARED` and do not match, because the profile was not measured on them. A Jetson is labelled
manually with Forge's own labels, because discovery of integrated GPUs differs between releases.
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
    """One requirement of a node affinity; all of them must match.

    Attributes:
        key: key of the label.
        operator: `Gt` and `Lt` compare integers and take one value.
        values: values of the label, as text.
    """

    key: str
    operator: Literal["In", "Gt", "Lt"]
    values: tuple[str, ...]


def rules(profile: Profile) -> tuple[Rule, ...]:
    """Return the requirements for a node of this SKU."""
    architecture = profile.platform.partition("/")[2]
    machine = (
        Rule("kubernetes.io/os", "In", ("linux",)),
        Rule("kubernetes.io/arch", "In", (architecture,)),
    )
    if profile.hardware.memory_kind == "unified":
        return (*machine, Rule(SKU_LABEL, "In", (profile.name,)))
    return (*machine, *_gpu(profile))


def product(name: str) -> str:
    """Return the label `nvidia.com/gpu.product` of a GPU with a name in nvidia-smi."""
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
