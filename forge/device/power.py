"""Power: what is in force, what a bundle wants, and the commands between the two. Pure.

Jetsons have modes, told by NAME in /etc/nvpmodel.conf, and jetson_clocks; discrete GPUs have a
limit in watts and lockable clocks. A mode that needs a reboot is never among the commands.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pydantic import BaseModel, ConfigDict

from forge.device.hardware import Kind
from forge.nvpmodel import CurrentMode, Mode, Modes
from forge.profiles import Power

__all__ = [
    "NOTHING",
    "Command",
    "GpuPower",
    "Plan",
    "PowerFacts",
    "PowerReport",
    "parse_gpus",
    "plan",
]

NOTHING: Final = Power(mode=None, limit_w=None, lock_clocks=False)
_GPU_COLUMNS: Final = 6


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class GpuPower(_Model):
    """One discrete GPU: W and MHz; None is what its driver does not say."""

    index: int
    name: str
    limit_w: float | None
    min_limit_w: float | None
    max_limit_w: float | None
    max_clock_mhz: int | None


@dataclass(frozen=True, slots=True)
class PowerFacts:
    """What the machine says about its power; `notes` is what could not be asked."""

    kind: Kind
    modes: Modes = field(default_factory=Modes)
    in_force: CurrentMode | None = None
    gpus: tuple[GpuPower, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """One command, for root.

    Attributes:
        argv: the command.
        what: what it brings, for people.
        readable: whether the machine can be asked afterwards if it did.
    """

    argv: tuple[str, ...]
    what: str
    readable: bool = True

    def __str__(self) -> str:
        return " ".join(self.argv)


@dataclass(frozen=True, slots=True)
class Plan:
    """Commands in their order, and what cannot be had here, a sentence each."""

    commands: tuple[Command, ...] = ()
    refusals: tuple[str, ...] = ()


class PowerReport(_Model):
    """Power as `forge device power` and /v1/hardware show it.

    Attributes:
        mode: in force, None where there are none or it could not be asked.
        default_mode: the board's own.
        modes: names the board has.
        gpus: discrete ones.
        wanted: what the active bundle wants, None if it says nothing.
        commands: what is still to be run, as root.
        problems: refusals, failures, and what could not be asked.
    """

    mode: str | None
    default_mode: str | None
    modes: tuple[str, ...]
    gpus: tuple[GpuPower, ...]
    wanted: Power | None = None
    commands: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        facts: PowerFacts,
        wanted: Power | None,
        commands: tuple[Command, ...] = (),
        problems: tuple[str, ...] = (),
    ) -> PowerReport:
        """Put together what is in force and what is missing."""
        return cls(
            mode=facts.in_force.name if facts.in_force else None,
            default_mode=facts.modes.default_name,
            modes=facts.modes.names,
            gpus=facts.gpus,
            wanted=wanted,
            commands=tuple(map(str, commands)),
            problems=tuple(dict.fromkeys((*problems, *facts.notes))),
        )


def plan(wanted: Power, facts: PowerFacts) -> Plan:
    """The commands that bring about `wanted`, without those whose effect is there already.

    The mode comes first: jetson_clocks locks to the maximum of the mode in force. Clocks cannot be
    read back, so they are locked each time.
    """
    commands: list[Command] = []
    refusals: list[str] = []
    for part in (*_mode(wanted, facts), *_limit(wanted, facts), *_clocks(wanted, facts)):
        if isinstance(part, Command):
            commands.append(part)
        else:
            refusals.append(part)
    return Plan(tuple(commands), tuple(refusals))


def parse_gpus(text: str) -> tuple[GpuPower, ...]:
    """CSV of index, name, power.limit, power.min_limit, power.max_limit, clocks.max.graphics."""
    gpus = []
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        if len(row) != _GPU_COLUMNS or not re.fullmatch(r"[0-9]{1,4}", row[0]):
            continue
        limit, least, most, clock = (_number(cell) for cell in row[2:])
        gpus.append(
            GpuPower(
                index=int(row[0]),
                name=row[1].strip(),
                limit_w=limit,
                min_limit_w=least,
                max_limit_w=most,
                max_clock_mhz=None if clock is None else int(clock),
            )
        )
    return tuple(gpus)


def _mode(wanted: Power, facts: PowerFacts) -> Iterator[Command | str]:
    name = wanted.mode
    if name is None or (facts.in_force and facts.in_force.name == name):
        return
    mode = facts.modes.named(name)
    if mode is None:
        have = ", ".join(facts.modes.names) or "none"
        yield f"power mode {name} is wanted, /etc/nvpmodel.conf has {have}"
    elif _other_gating(mode, facts):
        by_hand = f"run 'sudo nvpmodel -m {mode.id}' yourself and let it restart the device"
        yield f"power mode {name} needs a reboot and is not applied unasked; {by_hand}"
    else:
        yield Command(("nvpmodel", "-m", str(mode.id)), f"power mode {name}")


def _other_gating(mode: Mode, facts: PowerFacts) -> bool:
    """Whether the mode has other parts of the chip than the one in force: that takes a reboot."""
    now = facts.modes.named(facts.in_force.name) if facts.in_force else None
    return now is not None and now.gating != mode.gating


def _limit(wanted: Power, facts: PowerFacts) -> Iterator[Command | str]:
    watts = wanted.limit_w
    if watts is None:
        return
    if facts.kind != "discrete":
        yield f"a power limit of {watts} W is wanted, only discrete GPUs have one"
        return
    gpu = _the_gpu(facts)
    if isinstance(gpu, str):
        yield f"a power limit of {watts} W is wanted: {gpu}"
    elif gpu.min_limit_w is None or gpu.max_limit_w is None:
        yield f"a power limit of {watts} W is wanted, the driver of {gpu.name} names no range"
    elif not gpu.min_limit_w <= watts <= gpu.max_limit_w:
        span = f"{gpu.min_limit_w:g} to {gpu.max_limit_w:g} W"
        yield f"a power limit of {watts} W is wanted, {gpu.name} allows {span}"
    elif gpu.limit_w != watts:
        argv = ("nvidia-smi", "-i", str(gpu.index), "-pl", str(watts))
        yield Command(argv, f"power limit {watts} W")


def _clocks(wanted: Power, facts: PowerFacts) -> Iterator[Command | str]:
    if not wanted.lock_clocks:
        return
    if facts.kind == "jetson":
        yield Command(("jetson_clocks",), "clocks at the mode's maximum", readable=False)
        return
    gpu = _the_gpu(facts)
    if isinstance(gpu, str):
        yield f"locked clocks are wanted: {gpu}"
    elif gpu.max_clock_mhz is None:
        yield f"locked clocks are wanted, the driver of {gpu.name} names no maximum"
    else:
        clocks = f"{gpu.max_clock_mhz},{gpu.max_clock_mhz}"
        argv = ("nvidia-smi", "-i", str(gpu.index), "-lgc", clocks)
        yield Command(argv, f"GPU clock at {gpu.max_clock_mhz} MHz", readable=False)


def _the_gpu(facts: PowerFacts) -> GpuPower | str:
    """The one GPU, or why there is none to set."""
    if len(facts.gpus) == 1:
        return facts.gpus[0]
    if facts.gpus:
        return f"{len(facts.gpus)} GPUs are here, which of them is left to you (nvidia-smi -i)"
    return "no GPU here has such a setting, or nvidia-smi does not answer"


def _number(cell: str) -> float | None:
    text = cell.strip()
    return float(text) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text) else None
