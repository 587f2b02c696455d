"""Read the processor time of the server's threads from /proc, in nanoseconds.

`/proc/PID/task/TID/schedstat` (kernel documentation, scheduler/sched-stats.rst) counts for each
thread the time on a processor and the time ready to run but waiting for one. The second tells how
much other programs took from the server while it was measured: on a busy machine the wall time of
a token mostly follows it, and its processor time hardly.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from forge.smoke.metrics import ProcessorTime

__all__ = ["processor_time"]

# The process or thread exited, or may not be read.
_GONE: Final = (FileNotFoundError, ProcessLookupError, PermissionError, ValueError, IndexError)
_NS: Final = 1e9


def processor_time(session: int, proc: Path = Path("/proc")) -> ProcessorTime | None:
    """Add up every thread of a session but its leader; None if the kernel does not count it.

    Threads that exited are not included: take the difference of two readings while the server's
    threads live.
    """
    cpu = wait = 0
    found = False
    for entry in proc.iterdir():
        if not entry.name.isdecimal() or int(entry.name) == session:
            continue
        with contextlib.suppress(*_GONE):
            # proc_pid_stat(5): the name may hold blanks; fields count from its closing bracket.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) != session:
                continue
            for thread in (entry / "task").iterdir():
                with contextlib.suppress(*_GONE):
                    on_cpu, waiting, _ = (thread / "schedstat").read_text().split()
                    cpu, wait, found = cpu + int(on_cpu), wait + int(waiting), True
    return ProcessorTime(cpu / _NS, wait / _NS) if found else None
