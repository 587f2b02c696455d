"""Whether the machine ran out of memory or disk: then a failure is not the release's fault."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from forge.serving.on_device_compile import available_mib

__all__ = ["LEAST_FREE_MIB", "ResourceSnapshot", "oom_kills"]

LEAST_FREE_MIB: Final = 64
"""With less than this, a disk, /dev/shm or the memory counts as full."""
_PROC: Final = Path("/proc")
_SHARED: Final = Path("/dev/shm")  # noqa: S108  Triton's Python backend passes tensors there


@dataclass(frozen=True, slots=True)
class ResourceSnapshot:
    """The machine before some work.

    Attributes:
        state: the state folder.
        kills: how many processes the kernel has killed for lack of memory. After that there is
            memory again, so that the number says what its amount no longer does.
        proc: /proc.
    """

    state: Path
    kills: int
    proc: Path = _PROC

    @classmethod
    def now(cls, state: Path, proc: Path = _PROC) -> Self:
        """Return the machine as it is now."""
        return cls(state, oom_kills(proc), proc)

    def lack(self) -> str:
        """Return what the machine lacks after the work; "" if nothing."""
        if oom_kills(self.proc) > self.kills:
            return "the kernel killed a process for lack of memory"
        available = available_mib(self.proc / "meminfo")
        if available is not None and available < LEAST_FREE_MIB:
            return f"{available} MiB of memory are available"
        for folder in (self.state, _SHARED, Path(tempfile.gettempdir())):
            free = _free_mib(folder)
            if free is not None and free < LEAST_FREE_MIB:
                return f"{free} MiB are free in {folder}"
        return ""


def _free_mib(folder: Path) -> int | None:
    """Return MiB; None for a folder that does not exist, 0 for one that cannot be read."""
    try:
        return shutil.disk_usage(folder).free // 2**20
    except FileNotFoundError:
        return None
    except OSError:
        return 0


def oom_kills(proc: Path) -> int:
    """Return the kills since boot; 0 with a kernel that does not count them."""
    try:
        text = (proc / "vmstat").read_text()
    except OSError:
        return 0
    found = re.search(r"^oom_kill\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else 0
