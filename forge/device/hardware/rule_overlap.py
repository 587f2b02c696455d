"""Find two profiles whose rules one machine can meet, without an example of such a machine. Pure.

A machine that both match gets neither: it has to be named by a person. Whether one can exist is
decided over the rules: each is a condition on one property, and the properties are independent,
except that a machine has one chip and that a part of a GPU is not the whole. What is found is a
machine, made of one GPU, for which detection itself says that both match.

Two GPUs in one machine can always have a profile each; `--gpu` is for that, and it is not reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import combinations, islice
from typing import Final

from forge.device.hardware.gpus import Gpu, kind_of
from forge.device.hardware.inventory import Hardware
from forge.device.hardware.match_rules import judge, rules
from forge.profiles import MatchSection, Profile
from forge.profiles.globs import common_texts

__all__ = ["machine_of_both", "overlapping", "phrase"]

_CHIP: Final = re.compile(r"nvidia,tegra[0-9]+")
_NAMES_TRIED: Final = 64  # the shortest may be names of parts of a GPU


def overlapping(profiles: Mapping[str, Profile]) -> Iterator[tuple[str, str, Hardware]]:
    """Yield two names and a machine for each pair of profiles that one machine can match."""
    for (first, one), (second, other) in combinations(sorted(profiles.items()), 2):
        if one.platform != other.platform:
            continue
        machine = machine_of_both(one.hardware.match, other.hardware.match, one.platform)
        if machine is not None:
            yield first, second, machine


def machine_of_both(
    one: MatchSection, other: MatchSection, platform: str = "linux/amd64"
) -> Hardware | None:
    """Return a machine that both match; None if there is none. An empty section matches none."""
    wanted = [dict(rules(one)), dict(rules(other))]
    memory = _memory(wanted)
    chips = _values(wanted, "device_tree_compatible")
    compute = _values(wanted, "compute_capability")
    models, tnspecs = _first(wanted, "device_tree_model"), _first(wanted, "tnspec")
    if memory is None or len(compute) > 1 or models is None or tnspecs is None:
        return None
    if len({chip for chip in chips if _CHIP.fullmatch(chip)}) > 1:
        return None
    for name in islice(common_texts(_globs(wanted, "gpu_name")), _NAMES_TRIED):
        gpu = Gpu(
            name=name,
            memory_mib=memory,
            compute_capability=next(iter(compute), None),
            kind="mig" if " MIG " in name else kind_of(name, str(memory)),
        )
        machine = _machine(platform, gpu, models, tuple(sorted(chips)), tnspecs)
        if judge(one, machine).holds == judge(other, machine).holds == "yes":
            return machine
    return None


def phrase(machine: Hardware, *sections: MatchSection) -> str:
    """Describe a machine by what the rules of these sections look at."""
    gpu = machine.gpus[0]
    names = {name for section in sections for name, _ in rules(section)}
    said = {
        "gpu_name": f"GPU {gpu.name!r}",
        "compute_capability": f"compute capability {gpu.compute_capability}",
        "device_tree_model": f"model {machine.model!r}",
        "device_tree_compatible": f"compatible {', '.join(machine.compatible)}",
        "tnspec": f"TNSPEC {machine.tnspec!r}",
        "memory_mib_min": f"{gpu.memory_mib} MiB",
        "memory_mib_max": f"{gpu.memory_mib} MiB",
    }
    return ", ".join(dict.fromkeys(text for name, text in said.items() if name in names))


def _machine(
    platform: str, gpu: Gpu, model: str, compatible: tuple[str, ...], tnspec: str
) -> Hardware:
    return Hardware(
        platform=platform, nvidia="present", gpus=(gpu,), memory_mib=gpu.memory_mib, driver=None,
        cuda=None, model=model, compatible=compatible, tnspec=tnspec, l4t=None, jetpack=None,
        runtime={}, power_modes=(), system="", kernel="", notes=(),
    )  # fmt: skip


def _memory(wanted: list[dict[str, str | int]]) -> int | None:
    """Return the least memory that all rules allow, MiB; None if they contradict each other."""
    least = max(int(each.get("memory_mib_min", 0)) for each in wanted)
    limits = [int(each["memory_mib_max"]) for each in wanted if "memory_mib_max" in each]
    return least if all(least <= most for most in limits) else None


def _values(wanted: list[dict[str, str | int]], rule: str) -> set[str]:
    return {str(each[rule]) for each in wanted if rule in each}


def _globs(wanted: list[dict[str, str | int]], rule: str) -> list[str]:
    return [str(each.get(rule, "*")) for each in wanted]


def _first(wanted: list[dict[str, str | int]], rule: str) -> str | None:
    """Return the shortest text that all globs of a rule match; None if there is none."""
    return next(common_texts(_globs(wanted, rule)), None)
