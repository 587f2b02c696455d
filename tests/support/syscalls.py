"""Run a program and stop it, fail it or look at it at any of its changes of the disk.

A seccomp filter hands every system call that changes files to the test before the kernel does it.
The test counts those of the program itself, over all of its threads, and says of each whether it
is done, fails with an error number, or never happens because the program is killed there. strace
cannot do that: its `when=` counts for each thread by itself, and a pull writes from several.
Children of the program (Triton, uv) are let through uncounted.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import os
import platform
import select
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Literal

import pytest

__all__ = ["CHANGES", "READS", "Call", "Outcome", "Verdict", "kill_at", "need_traps", "run"]

# x86_64. The argument that says where: a descriptor, a path, or the path after a descriptor.
_Where = Literal["fd", "path", "at", "target", "target-at"]
_Names = Mapping[str, tuple[int, _Where, int]]
CHANGES: Final[_Names] = {
    "write": (1, "fd", 0),
    "pwrite64": (18, "fd", 0),
    "writev": (20, "fd", 0),
    "sendfile": (40, "fd", 0),
    "fsync": (74, "fd", 0),
    "fdatasync": (75, "fd", 0),
    "truncate": (76, "path", 0),
    "ftruncate": (77, "fd", 0),
    "rename": (82, "path", 1),
    "mkdir": (83, "path", 0),
    "rmdir": (84, "path", 0),
    "link": (86, "path", 1),
    "unlink": (87, "path", 0),
    "symlink": (88, "path", 1),
    "chmod": (90, "path", 0),
    "fchmod": (91, "fd", 0),
    "sync": (162, "fd", 0),
    "openat": (257, "path", 1),  # only with O_CREAT
    "mkdirat": (258, "path", 1),
    "unlinkat": (263, "path", 1),
    "renameat": (264, "path", 3),
    "linkat": (265, "path", 3),
    "symlinkat": (266, "path", 2),
    "fchmodat": (268, "path", 1),
    "utimensat": (280, "path", 1),
    "fallocate": (285, "fd", 0),
    "pwritev": (296, "fd", 0),
    "syncfs": (306, "fd", 0),
    "renameat2": (316, "path", 3),
    "copy_file_range": (326, "fd", 2),
}
READS: Final[_Names] = {"read": (0, "fd", 0), "pread64": (17, "fd", 0)}

_OPENAT: Final = 257
_ARCH: Final = 0xC000003E  # AUDIT_ARCH_X86_64
_NO_NEW_PRIVS: Final = 38
_SECCOMP: Final = 317
_SET_MODE_FILTER: Final = 1
_NEW_LISTENER: Final = 1 << 3
_ALLOW: Final = 0x7FFF0000
_NOTIFY: Final = 0x7FC00000
_RECEIVE: Final = 0xC0502100
_SEND: Final = 0xC0182101
_CONTINUE: Final = 1
_REQUEST: Final = struct.Struct("=QIIiIQ6Q")  # id, thread, flags, number, arch, ip, arguments
_ANSWER: Final = struct.Struct("=QqiI")  # id, value, error, flags
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_PATH_BYTES: Final = 512

Verdict = Literal["go on", "kill"] | int  # or an error number the call fails with


@dataclass(frozen=True, slots=True)
class Call:
    """One system call that is about to happen.

    Attributes:
        number: the how-manieth of the program, from 1.
        name: `fsync`, `rename`, …
        place: the file it changes, as the program names it or as its descriptor is called.
    """

    number: int
    name: str
    place: str

    def __str__(self) -> str:
        return f"{self.number} {self.name} {self.place}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        status: exit status, negative for a signal.
        output: standard output and error.
        calls: all that were counted; the last is the one it was killed at.
    """

    status: int
    output: str
    calls: list[Call]

    @property
    def killed(self) -> Call | None:
        """Where it was killed; None if it ended by itself."""
        return self.calls[-1] if self.status == -signal.SIGKILL else None


def kill_at(number: int) -> Callable[[Call], Verdict]:
    """A judge that kills the program instead of its n-th call."""
    return lambda call: "kill" if call.number >= number else "go on"


def need_traps() -> None:
    """Skip the test, with the reason, where the kernel hands no system calls to anybody."""
    if reason := _lacking():
        pytest.skip(reason)


@functools.cache
def _lacking() -> str:
    if platform.machine() != "x86_64":
        return "the numbers of the system calls are known here for x86_64 only"
    try:
        seen = run(["mkdir", "/proc/none"], kill_at(1)).calls
    except (OSError, subprocess.SubprocessError) as error:
        return f"this kernel hands no system calls to a test: {error}"
    return "" if seen else "this kernel hands no system calls to a test"


def run(
    argv: Sequence[str],
    judge: Callable[[Call], Verdict],
    *,
    names: _Names = CHANGES,
    below: Path | None = None,
    timeout_s: float = 120,
) -> Outcome:
    """Run a program to its end, and until everything it started has ended.

    Args:
        argv: the program.
        judge: asked before each counted call, in the order in which they come.
        names: which calls are counted.
        below: count only what touches files below this folder.
        timeout_s: for all of it.

    Raises:
        OSError: the filter cannot be set.
        AssertionError: something still ran after `timeout_s`.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs, tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            preexec_fn=lambda: _install(names, theirs),  # noqa: PLW1509 - no threads before exec
        )  # fmt: skip
        theirs.close()
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        with os.fdopen(descriptors[0], "r+b", buffering=0) as listener:
            watcher = _Watcher(process, listener, judge, names, below)
            watcher.watch(time.monotonic() + timeout_s)
        status = process.wait(timeout_s)
        output.seek(0)
        return Outcome(status, output.read().decode(errors="replace"), watcher.calls)


@dataclass(slots=True)
class _Watcher:
    process: subprocess.Popen[bytes]
    listener: IO[bytes]
    judge: Callable[[Call], Verdict]
    names: _Names
    below: Path | None
    calls: list[Call] = field(default_factory=list)

    def watch(self, until: float) -> None:
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        while time.monotonic() < until:
            for _, events in poll.poll(1000):
                if events & select.POLLIN:
                    self._one()
                elif events & select.POLLHUP:  # nobody is left who has the filter
                    return
            self.process.poll()
        self.process.kill()
        raise AssertionError(f"still running after {self.calls[-3:]}")

    def _one(self) -> None:
        data = bytearray(_REQUEST.size)
        try:
            fcntl.ioctl(self.listener, _RECEIVE, data)
        except FileNotFoundError:  # it was killed meanwhile
            return
        request, thread, _, number, _, _, *arguments = _REQUEST.unpack(data)
        verdict: Verdict = "go on"
        if os.path.exists(f"/proc/{self.process.pid}/task/{thread}"):  # noqa: PTH110 - hot
            verdict = self._judged(thread, number, arguments)
        if verdict == "kill":
            self.process.kill()
            self.process.wait(30)
            return
        error = verdict if isinstance(verdict, int) else 0
        answer = _ANSWER.pack(request, 0, -error, 0 if error else _CONTINUE)
        with contextlib.suppress(FileNotFoundError):
            fcntl.ioctl(self.listener, _SEND, bytearray(answer))

    def _judged(self, thread: int, number: int, arguments: list[int]) -> Verdict:
        name = next(name for name, (known, _, _) in self.names.items() if known == number)
        _, where, index = self.names[name]
        place = _place(thread, where, arguments[index])
        if self.below is not None and not place.startswith(f"{self.below}/"):
            return "go on"
        self.calls.append(Call(len(self.calls) + 1, name, place))
        return self.judge(self.calls[-1])


def _place(thread: int, where: _Where, argument: int) -> str:
    try:
        if where == "fd":
            return str(Path(f"/proc/{thread}/fd/{ctypes.c_int(argument).value}").readlink())
        with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:  # noqa: PTH123 - hot
            memory.seek(argument)
            return memory.read(_PATH_BYTES).partition(b"\0")[0].decode(errors="replace")
    except OSError:
        return "?"


def _install(names: _Names, channel: socket.socket) -> None:
    """In the child, before exec: set the filter and hand its listener to the test."""
    libc = ctypes.CDLL(None, use_errno=True)
    program = _program([number for number, _, _ in names.values()])
    buffer = ctypes.create_string_buffer(program, len(program))
    size, address = len(program) // 8, ctypes.addressof(buffer)
    head = struct.pack("=HxxxxxxQ", size, address)
    libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    listener = libc.syscall(_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, head)
    if listener < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    socket.send_fds(channel, [b"x"], [listener])


def _program(numbers: Sequence[int]) -> bytes:
    """The filter in BPF: these calls are handed over, `openat` only if it may make a file."""
    plain = [number for number in numbers if number != _OPENAT]
    to_end = len(plain) + 3
    steps = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, _ARCH),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, 0),
        *((_EQUAL, to_end - at, 0, number) for at, number in enumerate(plain)),
        (_EQUAL, 0, 2, _OPENAT),
        (_LOAD, 0, 0, 16 + 8 * 2),
        (_ANY_BIT, 1, 0, os.O_CREAT),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _NOTIFY),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
