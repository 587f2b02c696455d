"""Refuse work that this machine has no memory or disk for, before it starts. Standard library only.

Each tool has a constant `ROOM`, the most that it takes; docs/reference/builders.md has the same
numbers and where they were measured. How much memory is available is found by the rule of
forge/available_memory.py, which tools cannot import.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
NO_RUNNER = 4  # exit code: this machine cannot run the step, another one may
WEIGHTS = ("*.safetensors", "*.gguf", "*.bin", "*.pt", "*.pth", "*.onnx*")
PICKLES = ("*.pt", "*.pth", "pytorch_model*.bin")  # not read where there are safetensors
PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")
# Names in version 2 and version 1 of control groups: limit, use, lines of memory.stat that count
# page cache which the kernel takes back first.
VERSION_2 = ("memory.max", "memory.current", "inactive_file")
VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
UNLIMITED = 1 << 60  # version 1 has a number for it, near 2^63


class NoRoomError(Exception):
    """The machine has less memory or disk than the work takes."""


@dataclass(frozen=True)
class Room:
    """The most that a tool takes, as a part that is always the same and a multiple of the weights.

    Attributes:
        memory_mib: MiB of memory for interpreter and libraries.
        memory: MiB of memory for each MiB of weights.
        disk: MiB of disk for each MiB of weights, of its output and its temporary files.
        disk_mib: MiB of disk for everything but the weights.
    """

    memory_mib: int
    memory: float = 0.0
    disk: float = 0.0
    disk_mib: int = 64


@dataclass(frozen=True)
class Available:
    """Memory that can be used now.

    Attributes:
        mib: MiB.
        limit: file with the limit of the control group that leaves no more; None: the machine.
    """

    mib: int
    limit: Path | None = None


def require(
    need: Room, what: str, output: Path, weights_mib: float = 0, more_memory_mib: float = 0
) -> None:
    """Raise NoRoomError if the machine has less memory or disk than the work takes.

    What it takes is printed before, for work on weights. Memory is not refused on a system that
    does not say how much is available.

    Args:
        need: what the tool takes.
        what: what it does, as the subject of a sentence: `exporting 257 MiB of weights`.
        output: folder that it writes to, which need not exist.
        weights_mib: MiB of the weights.
        more_memory_mib: MiB of memory that depend on something else: lengths, a batch.
    """
    memory = round(need.memory_mib + need.memory * weights_mib + more_memory_mib)
    disk = round(need.disk_mib + need.disk * weights_mib)
    if weights_mib > 0:
        sys.stderr.write(f"{what} takes up to {memory} MiB of memory and {disk} MiB of disk\n")
    require_memory(memory, what)
    require_disk(output, disk, what)


def refuse(error: NoRoomError) -> int:
    """Write a refusal; return the exit code of a tool."""
    sys.stderr.write(f"Error: {error}\n")
    return NO_RUNNER


def weights_mib(folder: Path) -> int:
    """Return the size of the weight files in a folder, in MiB, rounded up.

    Those in its subfolders count only if it has none itself: a published checkpoint often has other
    forms of the same weights there.
    """
    sizes = _weight_sizes(folder, "") or _weight_sizes(folder, "**/")
    return -(-sum(sizes) // MIB)


def require_memory(mib: int, what: str) -> None:
    """Raise NoRoomError if less than `mib` MiB of memory can be used now.

    Nothing is refused on a system that does not say what is available.
    """
    available = available_memory()
    if available is None or available.mib >= mib:
        return
    where, hint = "", "run it on a machine with more memory, or end other programs"
    if available.limit is not None:
        where = f" by the limit in {available.limit}"
        hint = "raise the memory limit of the container or service, or run it elsewhere"
    raise NoRoomError(
        f"{what} takes up to {mib} MiB of memory, but {available.mib} MiB are available{where}\n"
        f"  → {hint}"
    )


def require_disk(folder: Path, mib: int, what: str) -> None:
    """Raise NoRoomError if the file system of `folder` has less than `mib` MiB free."""
    there = existing(folder)
    free = shutil.disk_usage(there).free // MIB
    if free < mib:
        raise NoRoomError(
            f"{what} takes up to {mib} MiB of disk, but {free} MiB are free in {there}\n"
            "  → free disk space, or use a store on another disk"
        )


def links(source: Path, output: Path) -> bool:
    """Return whether files of `source` can be hard-linked to `output`: they are on one disk."""
    return source.exists() and source.stat().st_dev == existing(output).stat().st_dev


def existing(folder: Path) -> Path:
    """Return a folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def available_memory_mib() -> int | None:
    """Return the MiB of memory that can be used now; None if unknown."""
    available = available_memory()
    return None if available is None else available.mib


def available_memory() -> Available | None:
    """Return MemAvailable, or less where a control group leaves less; None if unknown."""
    found = [one for one in (_mem_available(), *_left_in_groups()) if one is not None]
    return min(found, key=lambda one: one.mib, default=None)


def _weight_sizes(folder: Path, below: str) -> list[int]:
    found = {path for name in WEIGHTS for path in folder.glob(below + name) if path.is_file()}
    if any(path.suffix == ".safetensors" for path in found):
        found -= {path for name in PICKLES for path in folder.glob(below + name)}
    return [path.stat().st_size for path in found]


def _mem_available() -> Available | None:
    try:
        lines = (PROC / "meminfo").read_text(encoding="ascii").splitlines()
        amounts = dict(line.split(":", maxsplit=1) for line in lines if ":" in line)
        return Available(int(amounts["MemAvailable"].split()[0]) // 1024)  # it is in KiB
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _left_in_groups() -> Iterator[Available | None]:
    """Yield what each control group of this process leaves, from its own to the outermost one."""
    try:
        lines = (PROC / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            yield from _left_upwards(CGROUP, path, VERSION_2)
        elif "memory" in controllers.split(","):
            yield from _left_upwards(CGROUP / "memory", path, VERSION_1)


def _left_upwards(root: Path, path: str, names: tuple[str, str, str]) -> Iterator[Available | None]:
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for count in range(len(parts), -1, -1):
        yield _left(root.joinpath(*parts[:count]), names)


def _left(group: Path, names: tuple[str, str, str]) -> Available | None:
    """Return what a control group has left, with its idle page cache; None if it has no limit."""
    limit, used, cache = names
    try:
        most = (group / limit).read_text(encoding="ascii").strip()
        if most == "max" or int(most) >= UNLIMITED:
            return None
        now = int((group / used).read_text(encoding="ascii"))
        stat = (group / "memory.stat").read_text(encoding="ascii").splitlines()
        cached = sum(int(line.split()[1]) for line in stat if line.split()[:1] == [cache])
        return Available(max(0, int(most) - now + cached) // MIB, group / limit)
    except (OSError, ValueError, IndexError):
        return None
