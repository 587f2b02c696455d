"""Run a server and kill all of its processes when it ends: standard library only, own process.

    python -I supervisor.py --grace SECONDS --shared-memory PREFIX -- PROGRAM ARGUMENTS…

The parent holds the other end of standard input. When that closes (on a stop, or because the parent
was killed), or on SIGTERM, the program gets SIGTERM and, after the grace time, it and every process
that descends from it get SIGKILL, in other sessions, too. Exits with the program's exit code,
128 + signal for a signal.

If standard output is a file opened for reading and appending, it is a log: beyond its size limit
only the last quarter is kept. A line that is written at that moment may be lost.

Why a process and not PR_SET_PDEATHSIG alone: that signal follows the *thread* that started the
child, and threads of a pool end early; and it does not reach the server's own children, which in
Triton hold the model. This process has one thread, so for its own child the signal is safe to use.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import os
import select
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
POLL_S = 0.05
KILL_S = 5.0  # less than what a starter waits beyond the grace time
KILL_POLL_S = 0.005
STDOUT = 1
LOG_BYTES = 16 * 1024 * 1024


def main(argv: list[str] | None = None) -> int:
    """Run the program to its end and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grace", type=float, default=10.0)
    parser.add_argument("--shared-memory", default="")
    parser.add_argument("--log-bytes", type=int, default=LOG_BYTES)
    parser.add_argument("program", nargs="+")
    arguments = parser.parse_args(argv)
    asked = _on_signals()
    library = ctypes.CDLL(None)
    library.prctl(PR_SET_CHILD_SUBREAPER, 1)
    child = subprocess.Popen(
        arguments.program,
        stdin=subprocess.DEVNULL,
        # Safe here: this process has one thread, and the call is one system call.
        preexec_fn=lambda: library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509
    )
    _wait(child, asked, arguments.log_bytes if _is_log(STDOUT) else 0)
    _end(child, arguments.grace)
    _clean(arguments.shared_memory)
    code = -signal.SIGKILL if child.returncode is None else child.returncode
    return 128 - code if code < 0 else code


def _on_signals() -> list[int]:
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: asked.append(received))
    return asked


def _is_log(descriptor: int) -> bool:
    """Whether a file is open for appending and reading.

    In any other file, writers continue at their old offset after a truncation and leave a hole.
    """
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    appends = flags & os.O_APPEND and flags & os.O_ACCMODE == os.O_RDWR
    return bool(appends) and stat.S_ISREG(os.fstat(descriptor).st_mode)


def _bound(descriptor: int, limit: int) -> None:
    """Keep the last quarter of a log that exceeds the limit: errors are at its end."""
    with contextlib.suppress(OSError):  # a disk error must not stop the server
        size = os.fstat(descriptor).st_size
        if size > limit:
            kept = os.pread(descriptor, limit // 4, size - limit // 4)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, kept[kept.find(b"\n") + 1 :])


def _wait(child: subprocess.Popen[bytes], asked: list[int], log_bytes: int) -> None:
    """Wait until the program exits, a signal arrives, or standard input closes."""
    ended = os.pidfd_open(child.pid)
    try:
        while child.poll() is None and not asked:
            readable, _, _ = select.select([0, ended], [], [], POLL_S)
            if 0 in readable and not os.read(0, 4096):
                return
            if log_bytes:
                _bound(STDOUT, log_bytes)
    finally:
        os.close(ended)


def _end(child: subprocess.Popen[bytes], grace: float) -> None:
    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(grace)
    _kill_the_rest(child)


def _kill_the_rest(child: subprocess.Popen[bytes]) -> None:
    """Kill what the program left, until this process has no child any more.

    Its orphans are children of this process, in any session or group that they moved to. What
    cannot be killed, because it waits for a device in the kernel, say, is left after a while.
    """
    until = time.monotonic() + KILL_S
    while time.monotonic() < until:
        for pid in _descendants():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if child.poll() is not None:  # first: waiting for any child would lose its exit code
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return
        time.sleep(KILL_POLL_S)


def _descendants() -> list[int]:
    """Return the processes that descend from this one, parents before their children."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, ValueError, IndexError):
                # PID (NAME) STATE PARENT …, and a name may contain anything
                parent = (entry / "stat").read_bytes().rpartition(b")")[2].split()[1]
                children.setdefault(int(parent), []).append(int(entry.name))
    found = [os.getpid()]
    for pid in found:  # it grows in the loop
        found += children.pop(pid, [])
    return found[1:]


def _clean(prefix: str) -> None:
    """Remove Triton's shared memory, which remains after a SIGKILL."""
    deadline = time.monotonic() + 1
    for path in Path("/dev/shm").glob(f"{prefix}*") if prefix else []:  # noqa: S108
        with contextlib.suppress(OSError):
            path.unlink()
        if time.monotonic() > deadline:
            return


if __name__ == "__main__":
    sys.exit(main())
