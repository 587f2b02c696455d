"""Plan the commands that change the current power settings to the requested ones. Pure.

Jetsons have modes, identified by NAME in /etc/nvpmodel.conf, and jetson_clocks; discrete GPUs have
a limit in watts and lockable clocks. A mode that needs a reboot is never among the commands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from pydantic import BaseModel, ConfigDict

from forge.device.hardware.compute_target import ComputeTarget
from forge.nvidia_smi import Row, known
from forge.nvpmodel import CurrentMode, Mode, Modes
from forge.profiles import PowerSection

__all__ = [
    "NOTHING",
    "Command",
    "GpuPower",
    "PowerFacts",
    "PowerPlan",
    "PowerReport",
    "is_power_row",
    "parse_gpus",
    "plan",
]

NOTHING: Final = PowerSection(mode=None, limit_w=None, lock_clocks=False)
_GPU_COLUMNS: Final = 6


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class GpuPower(_Model):
    """One discrete GPU: W and MHz; None for what its driver does not report."""

    index: int
    name: str
    limit_w: float | None
    min_limit_w: float | None
    max_limit_w: float | None
    max_clock_mhz: int | None
    uuid: str | None = None

    @property
    def selector(self) -> str:
        """How nvidia-smi -i names it: by UUID, since the order changes when one is lost."""
        return self.uuid or str(self.index)


@dataclass(frozen=True, slots=True)
class PowerFacts:
    """The current power settings.

    Attributes:
        target: what serves.
        modes: of a Jetson's board.
        in_force: the current one of them.
        gpus: those that nvidia-smi sets the power of and that serve.
        notes: what could not be read.
    """

    target: ComputeTarget
    modes: Modes = field(default_factory=Modes)
    in_force: CurrentMode | None = None
    gpus: tuple[GpuPower, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """One command that needs root.

    Attributes:
        argv: the command.
        what: its effect, text for users.
        readable: whether its effect can be read back.
    """

    argv: tuple[str, ...]
    what: str
    readable: bool = True

    def __str__(self) -> str:
        return " ".join(self.argv)


@dataclass(frozen=True, slots=True)
class PowerPlan:
    """Commands in order, and what is not possible on this machine, a sentence each."""

    commands: tuple[Command, ...] = ()
    refusals: tuple[str, ...] = ()


class PowerReport(_Model):
    """Power as `forge device power` and /v1/hardware show it.

    Attributes:
        mode: the current one; None where there is none or it could not be read.
        default_mode: of the board.
        modes: names of the board's modes.
        gpus: discrete ones.
        wanted: what the active bundle requests; None if nothing.
        commands: still to be run, as root.
        problems: what is not possible, what failed, and what could not be read.
    """

    mode: str | None
    default_mode: str | None
    modes: tuple[str, ...]
    gpus: tuple[GpuPower, ...]
    wanted: PowerSection | None = None
    commands: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        facts: PowerFacts,
        wanted: PowerSection | None,
        commands: tuple[Command, ...] = (),
        problems: tuple[str, ...] = (),
    ) -> PowerReport:
        """Combine the current settings and what is missing."""
        return cls(
            mode=facts.in_force.name if facts.in_force else None,
            default_mode=facts.modes.default_name,
            modes=facts.modes.names,
            gpus=facts.gpus,
            wanted=wanted,
            commands=tuple(map(str, commands)),
            problems=tuple(dict.fromkeys((*problems, *facts.notes))),
        )


def plan(wanted: PowerSection, facts: PowerFacts) -> PowerPlan:
    """Return the commands that apply `wanted`, without those that would change nothing.

    The mode comes first: jetson_clocks locks to the maximum of the current mode. Clocks cannot be
    read back, so they are locked each time.
    """
    commands: list[Command] = []
    refusals: list[str] = []
    for part in (*_mode(wanted, facts), *_limit(wanted, facts), *_clocks(wanted, facts)):
        if isinstance(part, Command):
            commands.append(part)
        else:
            refusals.append(part)
    return PowerPlan(tuple(commands), tuple(refusals))


def is_power_row(cells: Row) -> bool:
    """Whether cells are index, name, power.{limit,min_limit,max_limit}, clocks.max.graphics."""
    whole = len(cells) in {_GPU_COLUMNS, _GPU_COLUMNS + 1}
    return whole and re.fullmatch(r"[0-9]{1,4}", cells[0]) is not None


def parse_gpus(rows: Iterable[Row]) -> tuple[GpuPower, ...]:
    """Parse rows as `is_power_row` says, with the UUID as the last cell if it is there."""
    gpus = []
    for row in rows:
        limit, least, most, clock = (_number(cell) for cell in row[2:_GPU_COLUMNS])
        gpus.append(
            GpuPower(
                index=int(row[0]),
                name=row[1],
                limit_w=limit,
                min_limit_w=least,
                max_limit_w=most,
                max_clock_mhz=None if clock is None else int(clock),
                uuid=known(row[_GPU_COLUMNS]) if len(row) > _GPU_COLUMNS else None,
            )
        )
    return tuple(gpus)


def _mode(wanted: PowerSection, facts: PowerFacts) -> Iterator[Command | str]:
    name = wanted.mode
    if name is None or (facts.in_force and facts.in_force.name == name):
        return
    mode = facts.modes.named(name)
    if mode is None:
        have = ", ".join(facts.modes.names) or "none"
        yield f"power mode {name} is not available; /etc/nvpmodel.conf has {have}"
    elif _other_gating(mode, facts):
        by_hand = f"run 'sudo nvpmodel -m {mode.id}' and let it reboot the device"
        yield f"power mode {name} needs a reboot and was not applied; {by_hand}"
    else:
        yield Command(("nvpmodel", "-m", str(mode.id)), f"power mode {name}")


def _other_gating(mode: Mode, facts: PowerFacts) -> bool:
    """Whether the mode powers other parts of the chip than the current one: needs a reboot."""
    now = facts.modes.named(facts.in_force.name) if facts.in_force else None
    return now is not None and now.gating != mode.gating


def _limit(wanted: PowerSection, facts: PowerFacts) -> Iterator[Command | str]:
    watts = wanted.limit_w
    if watts is None:
        return
    if facts.target.on != "card":
        yield f"a power limit of {watts} W cannot be set: only discrete GPUs have one"
        return
    gpu = _the_gpu(facts)
    if isinstance(gpu, str):
        yield f"a power limit of {watts} W cannot be set: {gpu}"
    elif gpu.min_limit_w is None or gpu.max_limit_w is None:
        yield f"a power limit of {watts} W cannot be set: the driver of {gpu.name} reports no range"
    elif not gpu.min_limit_w <= watts <= gpu.max_limit_w:
        span = f"{gpu.min_limit_w:g} to {gpu.max_limit_w:g} W"
        yield f"a power limit of {watts} W cannot be set: {gpu.name} allows {span}"
    elif gpu.limit_w != watts:
        argv = ("nvidia-smi", "-i", gpu.selector, "-pl", str(watts))
        yield Command(argv, f"power limit {watts} W")


def _clocks(wanted: PowerSection, facts: PowerFacts) -> Iterator[Command | str]:
    if not wanted.lock_clocks:
        return
    if facts.target.tegra and facts.target.on != "card":
        yield Command(("jetson_clocks",), "clocks at the mode's maximum", readable=False)
        return
    gpu = _the_gpu(facts)
    if isinstance(gpu, str):
        yield f"clocks cannot be locked: {gpu}"
    elif gpu.max_clock_mhz is None:
        yield f"clocks cannot be locked: the driver of {gpu.name} reports no maximum"
    else:
        clocks = f"{gpu.max_clock_mhz},{gpu.max_clock_mhz}"
        argv = ("nvidia-smi", "-i", gpu.selector, "-lgc", clocks)
        yield Command(argv, f"GPU clock at {gpu.max_clock_mhz} MHz", readable=False)


def _the_gpu(facts: PowerFacts) -> GpuPower | str:
    """Return the GPU that serves, or why none can be set."""
    own = facts.target.gpu
    if own is not None and own.kind in {"mig", "vgpu"}:
        return f"{own} is a part of a GPU that others use too"
    if len(facts.gpus) == 1:
        return facts.gpus[0]
    if facts.gpus:
        return f"it is not known which of {len(facts.gpus)} GPUs serves"
    return "no GPU has such a setting, or nvidia-smi failed"


def _number(cell: str) -> float | None:
    text = cell.strip()
    return float(text) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text) else None
