"""Hold the rules of a profile against a machine: each holds, does not, or is not known now. Pure.

Only a rule that is known not to hold contradicts a profile. What a driver does not say at this
moment is neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal, TypeAlias

from forge.device.hardware.gpus import Gpu, bare_name, named
from forge.device.hardware.inventory import Hardware
from forge.profiles import MatchSection

__all__ = ["Holds", "RuleVerdict", "best", "judge", "rules"]

Holds: TypeAlias = Literal["yes", "no", "unknown"]
_Value: TypeAlias = str | int | tuple[str, ...] | None

# What a container cannot read of a Jetson; its chip is known from nvidia-smi all the same.
_OF_TREE: Final = frozenset({"device_tree_model", "tnspec"})


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """Whether a match section holds for a machine.

    Attributes:
        holds: `no` only if a rule is known not to hold.
        reasons: a phrase for each rule that decides.
        gpu: for which all rules hold; None also where none is needed.
        by_name: there are no rules: the profile is chosen by name only.
    """

    holds: Holds
    reasons: tuple[str, ...] = ()
    gpu: Gpu | None = None
    by_name: bool = False


@dataclass(frozen=True, slots=True)
class _Fact:
    value: _Value
    known: bool


def rules(match: MatchSection) -> Iterator[tuple[str, str | int]]:
    """Yield the rules of a match section, as (field, value)."""
    for name, wanted in match.model_dump().items():
        if wanted is not None:
            yield name, wanted


def judge(match: MatchSection, hardware: Hardware, wanted_gpu: str | None = None) -> RuleVerdict:
    """Return whether a match section holds. All rules about the GPU must hold for the same GPU.

    An empty section matches nothing.

    Args:
        match: the rules.
        hardware: of the machine.
        wanted_gpu: the only GPU that counts, if a person names one.
    """
    wanted = dict(rules(match))
    if not wanted:
        return RuleVerdict("no", ("it has no rules",), by_name=True)
    found = [_judge(wanted, hardware, gpu) for gpu in _considered(hardware, wanted_gpu)]
    for holds in ("yes", "unknown"):
        if fitting := [one for one in found if one.holds == holds]:
            return max(fitting, key=lambda one: _size(hardware, one.gpu))
    return found[0]


def best(gpus: list[Gpu], hardware: Hardware) -> Gpu | None:
    """Return the GPU to use of several that fit: the one with most memory, then the bus order."""
    return max(gpus, key=lambda gpu: _size(hardware, gpu), default=None)


def _size(hardware: Hardware, gpu: Gpu | None) -> int:
    return hardware.memory_of(gpu) or 0


def _considered(hardware: Hardware, wanted_gpu: str | None) -> tuple[Gpu | None, ...]:
    listed = tuple(gpu for gpu in hardware.gpus if named(gpu, wanted_gpu))
    return (*listed, *(() if listed and hardware.complete else (None,)))


def _judge(wanted: Mapping[str, str | int], hardware: Hardware, gpu: Gpu | None) -> RuleVerdict:
    known = _known(hardware, gpu)
    verdicts = {name: _holds(name, value, known[name], gpu) for name, value in wanted.items()}
    if gpu is not None and gpu.kind in {"mig", "vgpu"} and "gpu_name" not in wanted:
        return RuleVerdict("no", (f"{gpu} is a part of a GPU, which only a name matches",))
    if failing := [name for name, holds in verdicts.items() if holds == "no"]:
        return RuleVerdict("no", tuple(_contrast(name, wanted, known) for name in failing))
    unknown = [name for name, holds in verdicts.items() if holds == "unknown"]
    if not unknown or _is_masked(unknown, verdicts, hardware):
        return RuleVerdict("yes", tuple(_phrase(name, known) for name in wanted), gpu)
    return RuleVerdict("unknown", tuple(_phrase(name, known) for name in unknown), gpu)


def _is_masked(unknown: list[str], verdicts: Mapping[str, Holds], hardware: Hardware) -> bool:
    """Whether only a device tree that a container hides is missing, and the chip is known."""
    chip = verdicts.get("device_tree_compatible") == "yes"
    return not hardware.tree_known and chip and set(unknown) <= _OF_TREE


def _known(hardware: Hardware, gpu: Gpu | None) -> Mapping[str, _Fact]:
    absent = gpu is None and hardware.nvidia == "absent"
    memory = hardware.memory_of(gpu) if gpu or absent else None
    size = _Fact(memory, memory is not None)
    return {
        "gpu_name": _Fact(gpu.name, gpu.name is not None) if gpu else _Fact(None, absent),
        "compute_capability": _Fact(gpu.compute_capability, gpu.compute_capability is not None)
        if gpu
        else _Fact(None, absent),
        "device_tree_model": _Fact(hardware.model, hardware.tree_known),
        "device_tree_compatible": _Fact(
            hardware.compatible, hardware.tree_known or bool(hardware.compatible)
        ),
        "tnspec": _Fact(hardware.tnspec, hardware.tree_known or hardware.tnspec is not None),
        "memory_mib_min": size,
        "memory_mib_max": size,
    }


def _holds(rule: str, wanted: str | int, fact: _Fact, gpu: Gpu | None) -> Holds:
    if not fact.known:
        return "unknown"
    return "yes" if _is_so(rule, wanted, fact.value, gpu) else "no"


def _is_so(rule: str, wanted: str | int, have: _Value, gpu: Gpu | None) -> bool:
    if isinstance(wanted, int):
        if not isinstance(have, int):
            return False
        return have >= wanted if rule == "memory_mib_min" else have <= wanted
    if isinstance(have, tuple):
        return wanted in have
    if rule == "compute_capability":
        return have == wanted
    if not isinstance(have, str) or not fnmatchcase(have, wanted):
        return False
    # A profile was measured on a whole GPU: a part of one is matched only by a name that names it.
    part = rule == "gpu_name" and gpu is not None and gpu.kind in {"mig", "vgpu"}
    return not (part and gpu and fnmatchcase(bare_name(gpu) or "", wanted))


def _phrase(rule: str, known: Mapping[str, _Fact]) -> str:
    fact = known[rule]
    value = ", ".join(fact.value) if isinstance(fact.value, tuple) else fact.value
    shown = value if fact.known else "not known now"
    return f"{rule.removesuffix('_min').removesuffix('_max')} is {shown or 'none'}"


def _contrast(rule: str, wanted: Mapping[str, str | int], known: Mapping[str, _Fact]) -> str:
    limits = {"memory_mib_min": "at least ", "memory_mib_max": "at most "}
    return f"{_phrase(rule, known)}, not {limits.get(rule, '')}{wanted[rule]}"
