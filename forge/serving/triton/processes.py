"""Read the resource usage and ports of a session's processes from /proc."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from forge.serving.triton.sandbox import NAME as SANDBOX

__all__ = ["Usage", "listener", "listens", "usage", "waits_for_child"]

_LISTEN = "0A"  # include/net/tcp_states.h
_IN_WAIT4 = "do_wait"  # kernel/exit.c
# The process exited, or may not be read. After any other OSError the count would be wrong.
_NOT_OURS = (FileNotFoundError, ProcessLookupError, PermissionError, ValueError, IndexError)


@dataclass(frozen=True, slots=True)
class Usage:
    """Resources of a process tree.

    Attributes:
        cpu_seconds: user and system time, including children that exited.
        peak_rss_mib: sum of the peak resident size of each running process; shared pages count
            more than once, so this is an upper bound.
        processes: number of running processes.
    """

    cpu_seconds: float
    peak_rss_mib: float
    processes: int


def usage(session: int, proc: Path = Path("/proc")) -> Usage:
    """Add up every process of a session but those that only supervise: its leader, its sandbox.

    Raises:
        OSError: this process cannot open more files; the usage is unknown.
    """
    ticks, peak_kib, count = 0, 0, 0
    for entry, name, fields in _members(session, proc):
        if name == SANDBOX:
            continue
        with contextlib.suppress(*_NOT_OURS):
            ticks += sum(int(value) for value in fields[11:15])
            if fields[0] != "Z":
                peak_kib += _peak_kib(entry)
                count += 1
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), peak_kib / 1024, count)


def waits_for_child(session: int, program: str, proc: Path = Path("/proc")) -> bool:
    """Whether a thread of a program in a session waits for a child to end: wait4(2).

    False if the kernel does not say what its threads wait for.

    Raises:
        OSError: this process cannot open more files; the state is unknown.
    """
    for entry, name, _ in _members(session, proc):
        if name != program:
            continue
        with contextlib.suppress(*_NOT_OURS):
            for thread in (entry / "task").iterdir():
                if (thread / "wchan").read_text() == _IN_WAIT4:
                    return True
    return False


def _members(session: int, proc: Path) -> Iterator[tuple[Path, str, list[str]]]:
    """Yield folder, name and further fields of each process of a session but its leader."""
    for entry in proc.iterdir():
        if not entry.name.isdecimal() or int(entry.name) == session:
            continue
        with contextlib.suppress(*_NOT_OURS):
            # proc_pid_stat(5): the name may hold blanks; fields count from its closing bracket.
            before, _, rest = (entry / "stat").read_text().rpartition(")")
            fields = rest.split()
            if int(fields[3]) == session:
                yield entry, before.partition("(")[2], fields


def _peak_kib(entry: Path) -> int:
    for line in (entry / "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


def listener(port: int, proc: Path = Path("/proc")) -> str:
    """Return the process that listens on a TCP port: "name (pid 12)", or "" if unknown."""
    try:
        pid = _listening(port, proc)
        return f"{(proc / str(pid) / 'comm').read_text().strip()} (pid {pid})" if pid else ""
    except OSError:
        return ""


def listens(session: int, port: int, proc: Path = Path("/proc")) -> bool:
    """Whether a process of this session listens on a TCP port.

    Raises:
        OSError: this process cannot open more files; the state of the port is unknown.
    """
    pid = _listening(port, proc)
    try:
        return pid is not None and os.getsid(pid) == session
    except ProcessLookupError:
        return False


def _listening(port: int, proc: Path) -> int | None:
    inodes = set()
    for table in ("net/tcp", "net/tcp6"):
        with contextlib.suppress(*_NOT_OURS):  # a kernel without IPv6
            for line in (proc / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    for entry in proc.iterdir() if inodes else ():
        if entry.name.isdecimal() and _holds(entry, inodes):
            return int(entry.name)
    return None


def _holds(entry: Path, inodes: set[str]) -> bool:
    with contextlib.suppress(*_NOT_OURS):
        for descriptor in (entry / "fd").iterdir():
            with contextlib.suppress(*_NOT_OURS):  # closed since it was listed
                if str(descriptor.readlink()) in inodes:
                    return True
    return False
