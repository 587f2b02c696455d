"""How much memory can be used now, on a machine or in a container. Linux only.

The tools of builders have the same rule in forge/builders/tools/room.py, as they import none of
Forge; tests/unit/test_available_memory.py compares both.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["available_mib"]

_MIB: Final = 2**20
_KIB_PER_MIB: Final = 1024
# Limit, use, and the lines of memory.stat that count page cache which the kernel takes back first.
_Names = tuple[str, str, str]
_VERSION_2: Final[_Names] = ("memory.max", "memory.current", "inactive_file")
_VERSION_1: Final[_Names] = (
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    "total_inactive_file",
)
_UNLIMITED: Final = 1 << 60  # version 1 has a number for it, near 2^63


def available_mib(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return MemAvailable, or less where a control group leaves less, in MiB; None if unknown.

    A group leaves its limit less its use, and the idle page cache that counts as used. All groups
    from the process's own to the outermost one that is seen are limits, of version 1 and 2.

    Args:
        proc: /proc; without self/cgroup in it no control group is read.
        cgroup: where control groups are mounted.
    """
    found = [one for one in (_mem_available(proc), *_left(proc, cgroup)) if one is not None]
    return min(found, default=None)


def _mem_available(proc: Path) -> int | None:
    try:
        lines = (proc / "meminfo").read_text(encoding="ascii").splitlines()
        amounts = dict(line.split(":", maxsplit=1) for line in lines if ":" in line)
        return int(amounts["MemAvailable"].split()[0]) // _KIB_PER_MIB
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _left(proc: Path, cgroup: Path) -> Iterator[int | None]:
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        controllers, _, path = line.partition(":")[2].partition(":")
        if not controllers:
            yield from _left_upwards(cgroup, path, _VERSION_2)
        elif "memory" in controllers.split(","):
            yield from _left_upwards(cgroup / "memory", path, _VERSION_1)


def _left_upwards(root: Path, path: str, names: _Names) -> Iterator[int | None]:
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for count in range(len(parts), -1, -1):
        yield _left_in(root.joinpath(*parts[:count]), names)


def _left_in(group: Path, names: _Names) -> int | None:
    limit, used, cache = names
    try:
        most = (group / limit).read_text(encoding="ascii").strip()
        if most == "max" or int(most) >= _UNLIMITED:
            return None
        now = int((group / used).read_text(encoding="ascii"))
        stat = (group / "memory.stat").read_text(encoding="ascii").splitlines()
        cached = sum(int(line.split()[1]) for line in stat if line.split()[:1] == [cache])
        return max(0, int(most) - now + cached) // _MIB
    except (OSError, ValueError, IndexError):
        return None
