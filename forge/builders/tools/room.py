"""Refuse work that this machine has no memory or disk for, before it starts. Standard library only.

What a tool takes is measured and documented in docs/reference/builders.md, as a multiple of the
checkpoint's weights.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MIB = 1024 * 1024
WEIGHTS = ("*.safetensors", "*.gguf", "*.bin", "*.pt", "*.pth")
MEMINFO = Path("/proc/meminfo")
# Files with the limit and the use of the container, in bytes: version 2 and version 1 of cgroups.
CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


class NoRoomError(Exception):
    """The machine has less memory or disk than the work takes."""


def weights_mib(folder: Path) -> int:
    """Return the size of the weight files in a folder, in MiB, rounded up."""
    found = {path for pattern in WEIGHTS for path in folder.rglob(pattern) if path.is_file()}
    return -(-sum(path.stat().st_size for path in found) // MIB)


def require_memory(mib: int, what: str) -> None:
    """Raise NoRoomError if less than `mib` MiB of memory can be used now.

    Nothing is refused on a system that does not say what is available.
    """
    available = available_memory_mib()
    if available is not None and available < mib:
        raise NoRoomError(
            f"{what} takes up to {mib} MiB of memory, but {available} MiB are available\n"
            "  → run it on a machine with more memory, or end other programs"
        )


def require_disk(folder: Path, mib: int, what: str) -> None:
    """Raise NoRoomError if the file system of `folder` has less than `mib` MiB free."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free // MIB
    if free < mib:
        raise NoRoomError(
            f"{what} takes up to {mib} MiB of disk, but {free} MiB are free in {there}\n"
            "  → free disk space, or use a store on another disk"
        )


def available_memory_mib() -> int | None:
    """Return MemAvailable, or less if a container is limited to less; None if unknown."""
    amounts = [_mem_available(), *(_left(limit, used) for limit, used in CGROUPS)]
    known = [amount for amount in amounts if amount is not None]
    return min(known) if known else None


def _mem_available() -> int | None:
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, amount = line.partition(":")
        if name == "MemAvailable":
            return int(amount.split()[0]) // 1024  # it is in KiB
    return None


def _left(limit: Path, used: Path) -> int | None:
    """Return what a control group has left, with its idle page cache; None if it has no limit."""
    try:
        most, now = limit.read_text(encoding="ascii"), used.read_text(encoding="ascii")
        stat = (limit.parent / "memory.stat").read_text(encoding="ascii")
        cached = sum(int(line.split()[1]) for line in stat.splitlines() if _is_cache(line))
        if most.strip() == "max" or int(most) > os.sysconf("SC_PHYS_PAGES") * _page():
            return None
        return max(0, int(most) - int(now) + cached) // MIB
    except (OSError, ValueError, IndexError):
        return None


def _is_cache(line: str) -> bool:
    """Return whether a line of memory.stat counts page cache that the kernel takes back first."""
    return line.startswith(("inactive_file ", "total_inactive_file "))


def _page() -> int:
    return os.sysconf("SC_PAGE_SIZE")
