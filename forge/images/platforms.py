"""Platforms of images, and whether this machine can run their programs."""

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
    """The `uname -m` name of a platform, and the name of its qemu handler in binfmt_misc."""

    name: str
    qemu: str


_MACHINES: Final[dict[Platform, _Machine]] = {
    "linux/amd64": _Machine("x86_64", "qemu-x86_64"),
    "linux/arm64": _Machine("aarch64", "qemu-aarch64"),
}
PLATFORMS: Final[tuple[Platform, ...]] = tuple(_MACHINES)


def is_native(target: Platform, machine: str | None = None) -> bool:
    """Return whether this machine's processor runs `target`."""
    return (machine or platform.machine()) == _MACHINES[target].name


def check_can_run(target: Platform, *, machine: str | None = None, binfmt: Path = BINFMT) -> str:
    """Return a warning if `target` is emulated on this machine, or an empty text if it is native.

    Raises NoRunnerError if this machine cannot run it.
    """
    if is_native(target, machine):
        return ""
    emulator = _MACHINES[target].qemu
    if not (binfmt / emulator).exists():
        raise NoRunnerError(
            f"This machine cannot run {target} programs",
            why=f"it is {machine or platform.machine()}, and {emulator} is not registered",
            hint="apt-get install qemu-user-static binfmt-support, or use a runner of that "
            f"platform: --runners {target}=LABEL",
        )
    return (
        f"building {target} with qemu emulation: RUN instructions take several times as long "
        "(docs/how-to/build-images.md has figures); to build on a native runner, use "
        f"--runners {target}=LABEL"
    )
