"""Platforms an image can be built for, and whether this machine can run their programs."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from forge.errors import NoRunnerError

__all__ = ["BINFMT", "PLATFORMS", "Platform", "check_can_run", "is_native"]

Platform = Literal["linux/amd64", "linux/arm64"]
BINFMT: Final = Path("/proc/sys/fs/binfmt_misc")


@dataclass(frozen=True, slots=True)
class _Machine:
    """What `uname -m` says there, and the name qemu registers for its programs."""

    name: str
    qemu: str


_MACHINES: Final[dict[Platform, _Machine]] = {
    "linux/amd64": _Machine("x86_64", "qemu-x86_64"),
    "linux/arm64": _Machine("aarch64", "qemu-aarch64"),
}
PLATFORMS: Final[tuple[Platform, ...]] = tuple(_MACHINES)


def is_native(target: Platform, machine: str | None = None) -> bool:
    """Whether this machine's own processor runs `target`."""
    return (machine or platform.machine()) == _MACHINES[target].name


def check_can_run(target: Platform, *, machine: str | None = None, binfmt: Path = BINFMT) -> str:
    """A warning if `target` can only be emulated here, empty if it is native.

    Raises NoRunnerError if it can be neither.
    """
    if is_native(target, machine):
        return ""
    emulator = _MACHINES[target].qemu
    if not (binfmt / emulator).exists():
        raise NoRunnerError(
            f"This machine runs no {target} programs",
            why=f"it is {machine or platform.machine()} and {emulator} is not registered",
            hint="apt-get install qemu-user-static binfmt-support, or name a runner of that "
            f"platform: --runners {target}=LABEL",
        )
    return (
        f"building {target} under emulation: every RUN of the Dockerfile is translated by qemu and "
        "takes several times as long (docs/images.md has figures); a runner of that platform "
        f"builds it natively: --runners {target}=LABEL"
    )
