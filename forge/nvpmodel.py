"""Parse the output and the configuration of Jetson's nvpmodel. Pure.

Modes are identified by name, because ids differ between modules and L4T releases.
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
    """One power mode; `gating` holds its lines that switch off parts of the chip."""

    id: int
    name: str
    gating: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Modes:
    """The modes of a board; `default` is an id, or None if unknown."""

    modes: tuple[Mode, ...] = field(default=())
    default: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names in the order of the source, without duplicates."""
        return tuple(dict.fromkeys(mode.name for mode in self.modes))

    def named(self, name: str) -> Mode | None:
        """Return the mode with a name, or None."""
        return next((mode for mode in self.modes if mode.name == name), None)

    @property
    def default_name(self) -> str | None:
        """Return the name of the default mode, or None."""
        return next((mode.name for mode in self.modes if mode.id == self.default), None)


@dataclass(frozen=True, slots=True)
class CurrentMode:
    """The current mode; the id is None if the line after the name is not a number."""

    name: str
    id: int | None


def parse_config(text: str) -> Modes:
    """Parse /etc/nvpmodel.conf: `< POWER_MODEL ID=n NAME=s >`, `< PM_CONFIG DEFAULT=n >`."""
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
    """Parse `nvpmodel -p --verbose`: `POWER_MODEL: ID=n NAME=s`, `PM_CONFIG: DEFAULT=s(n)`."""
    modes = tuple(Mode(int(number), name) for number, name in _LISTED_MODE.findall(text))
    default = _LISTED_DEFAULT.search(text)
    return Modes(modes, int(default[1]) if default else None)


def parse_query(text: str) -> CurrentMode | None:
    """Parse `nvpmodel -q`: `NV Power Mode: NAME`, then a line with the id."""
    lines = [line.strip() for line in text.splitlines()]
    for place, line in enumerate(lines):
        name = line.removeprefix(_QUERY).strip()
        if line.startswith(_QUERY) and name:
            after = lines[place + 1] if place + 1 < len(lines) else ""
            number = after if after.isascii() and after.isdecimal() else ""
            return CurrentMode(name, int(number[:9]) if number else None)
    return None


def asks_for_reboot(output: str) -> bool:
    """Return whether `nvpmodel -m` prompts for YES, or prints that a reboot is required."""
    return "YES" in output or "reboot" in output.lower()


def failed(output: str) -> bool:
    """Return whether nvpmodel printed an error; its exit code is not reliable."""
    return "NVPM ERROR" in output
