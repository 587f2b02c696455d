"""What Jetson's nvpmodel prints and what its configuration says. Pure.

Modes are told by NAME: ids and the set of modes differ between modules and L4T releases.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

__all__ = [
    "CurrentMode",
    "Mode",
    "Modes",
    "asks_for_reboot",
    "failed",
    "parse_config",
    "parse_listing",
    "parse_query",
]

_CONFIG_MODE: Final = re.compile(r"<\s*POWER_MODEL\s+ID=(\d{1,9})\s+NAME=(\S+)\s*>")
_CONFIG_DEFAULT: Final = re.compile(r"<\s*PM_CONFIG\s+DEFAULT=(\d{1,9})\s*>")
_LISTED_MODE: Final = re.compile(r"POWER_MODEL:\s*ID=(\d{1,9})\s+NAME=(\S+)")
_LISTED_DEFAULT: Final = re.compile(r"PM_CONFIG:\s*DEFAULT=\S*\((\d{1,9})\)")
_QUERY: Final = "NV Power Mode:"


@dataclass(frozen=True, slots=True)
class Mode:
    """One power mode; `gating` are its lines that switch parts of the chip off."""

    id: int
    name: str
    gating: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Modes:
    """The modes a board has; `default` is an id, None where nothing says it."""

    modes: tuple[Mode, ...] = field(default=())
    default: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """In the order of the source, without repeats."""
        return tuple(dict.fromkeys(mode.name for mode in self.modes))

    def named(self, name: str) -> Mode | None:
        """The mode of this name."""
        return next((mode for mode in self.modes if mode.name == name), None)

    @property
    def default_name(self) -> str | None:
        """Name of the default mode."""
        return next((mode.name for mode in self.modes if mode.id == self.default), None)


@dataclass(frozen=True, slots=True)
class CurrentMode:
    """The mode in force; the id is None if the line after the name is no number."""

    name: str
    id: int | None


def parse_config(text: str) -> Modes:
    """/etc/nvpmodel.conf: `< POWER_MODEL ID=n NAME=s >` blocks, `< PM_CONFIG DEFAULT=n >`."""
    modes: list[Mode] = []
    default: int | None = None
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("#"):
            continue
        if found := _CONFIG_MODE.search(line):
            modes.append(Mode(int(found[1]), found[2]))
        elif found := _CONFIG_DEFAULT.search(line):
            default = int(found[1])
        elif modes and "POWER_GATING" in line:
            last = modes[-1]
            gating = (*last.gating, " ".join(line.split()))
            modes[-1] = Mode(last.id, last.name, gating)
    return Modes(tuple(modes), default)


def parse_listing(text: str) -> Modes:
    """`nvpmodel -p --verbose`: `POWER_MODEL: ID=n NAME=s`, `PM_CONFIG: DEFAULT=s(n)`."""
    modes = tuple(Mode(int(number), name) for number, name in _LISTED_MODE.findall(text))
    default = _LISTED_DEFAULT.search(text)
    return Modes(modes, int(default[1]) if default else None)


def parse_query(text: str) -> CurrentMode | None:
    """`nvpmodel -q`: the line after `NV Power Mode:` is the id; other lines may come before."""
    lines = [line.strip() for line in text.splitlines()]
    for place, line in enumerate(lines):
        name = line.removeprefix(_QUERY).strip()
        if line.startswith(_QUERY) and name:
            after = lines[place + 1] if place + 1 < len(lines) else ""
            number = after if after.isascii() and after.isdecimal() else ""
            return CurrentMode(name, int(number[:9]) if number else None)
    return None


def asks_for_reboot(output: str) -> bool:
    """Whether `nvpmodel -m` wants a YES, or says that the mode comes with a reboot."""
    return "YES" in output or "reboot" in output.lower()


def failed(output: str) -> bool:
    """Whether nvpmodel reports an error; its exit code does not always."""
    return "NVPM ERROR" in output
