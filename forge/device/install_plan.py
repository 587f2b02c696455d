"""What `forge device install` does to a machine, as steps that are planned, shown, performed. Pure.

The service is a user without a password, the folders that it may write, its environment file, and
the systemd unit that comes with Forge.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, TypeAlias

from forge.errors import ConfigurationError

__all__ = [
    "ENVIRONMENT_FILE",
    "STATE",
    "TRUSTED_ROOT",
    "UNIT",
    "UNIT_FILE",
    "USER",
    "CopyFile",
    "MakeFolder",
    "RunProgram",
    "Step",
    "WriteFile",
    "hidden_from_service",
    "make_user",
    "systemctl",
    "unit_for",
]

USER: Final = "forge"
UNIT: Final = "forge-device.service"
UNIT_FILE: Final = f"/etc/systemd/system/{UNIT}"
STATE: Final = "/var/lib/forge"
ENVIRONMENT_FILE: Final = "/etc/forge/device.env"
TRUSTED_ROOT: Final = "/etc/forge/root.json"
# The unit has ProtectHome and PrivateTmp: the service does not see what lies there.
_HIDDEN: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - not used
_EXEC_START: Final = re.compile(r"^ExecStart=\S+ device run --state \S+$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class RunProgram:
    """Run a program, as a user if one is named."""

    argv: tuple[str, ...]
    user: str | None = None

    def __str__(self) -> str:
        as_user = f" (as {self.user})" if self.user else ""
        return f"run {' '.join(self.argv)}{as_user}"


@dataclass(frozen=True, slots=True)
class MakeFolder:
    """Make a folder, or set its mode and owner."""

    path: str
    mode: int
    user: str | None = None

    def __str__(self) -> str:
        return f"folder {self.path}, mode {self.mode:04o}, owner {self.user or 'root'}"


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Write a file; with `keep`, only if there is none, and set its mode."""

    path: str
    data: bytes
    mode: int
    keep: bool = False

    def __str__(self) -> str:
        return f"file {self.path}, mode {self.mode:04o}"


@dataclass(frozen=True, slots=True)
class CopyFile:
    """Copy a large file for a user."""

    source: str
    path: str
    user: str

    def __str__(self) -> str:
        return f"copy {self.source} to {self.path}"


Step: TypeAlias = RunProgram | MakeFolder | WriteFile | CopyFile


def make_user(prefix: str | None) -> RunProgram:
    """Return how the service's user is made; `prefix` is the root folder of an image."""
    within = ("--prefix", prefix) if prefix else ()
    home = ("--home-dir", STATE, "--no-create-home", "--shell", "/usr/sbin/nologin")
    return RunProgram(("useradd", *within, "--system", "--user-group", *home, USER))


def systemctl(prefix: str | None, *words: str) -> RunProgram:
    """Return a call of systemctl."""
    return RunProgram(("systemctl", *(("--root", prefix) if prefix else ()), *words))


def hidden_from_service(path: Path) -> bool:
    """Return whether the service cannot see a path: a user's home, or a temporary folder."""
    return any(PurePosixPath(path).is_relative_to(folder) for folder in _HIDDEN)


def unit_for(template: str, program: Path) -> bytes:
    """Return the unit that runs this program.

    Args:
        template: of Forge.
        program: the `forge` of an environment.

    Raises:
        ConfigurationError: the service could not run it.
    """
    if hidden_from_service(program):
        message = f"The service cannot run {program}"
        why = "it has a view of the system without homes and temporary folders"
        hint = "install Forge in an environment of /opt: docs/how-to/run-a-device.md"
        raise ConfigurationError(message, why=why, hint=hint)
    if not re.fullmatch(r"[A-Za-z0-9/._+-]+", str(program)):
        message = f"The service cannot run {program}"
        why = "systemd reads other characters in a way of its own"
        hint = "install Forge into a path of letters, digits and ./_+-"
        raise ConfigurationError(message, why=why, hint=hint)
    line = f"ExecStart={program} device run --state {STATE}"
    unit, count = _EXEC_START.subn(line, template)
    if count != 1:
        message = "The unit of this Forge has no line ExecStart"
        raise ConfigurationError(message, why="a bug in Forge")
    return unit.encode()
