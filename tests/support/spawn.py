"""Start processes in a test that end with it, whatever the test does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["Spawn", "spawning"]

Spawn = Callable[..., subprocess.Popen[Any]]


@contextmanager
def spawning() -> Iterator[Spawn]:
    """A function with the arguments of `subprocess.Popen`; what it started is killed at the end.

    A process or pipe that a failed test leaves is otherwise found by the garbage collector in the
    middle of another test, and fails that one.
    """
    started: list[subprocess.Popen[Any]] = []

    def spawn(*arguments: Any, **options: Any) -> subprocess.Popen[Any]:
        process: subprocess.Popen[Any] = subprocess.Popen(*arguments, **options)
        started.append(process)
        return process

    try:
        yield spawn
    finally:
        for process in reversed(started):
            _end(process)


def _end(process: subprocess.Popen[Any]) -> None:
    with suppress(ProcessLookupError):
        if process.poll() is None and os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, 9)  # its children too, where it leads a group of its own
    process.kill()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(BrokenPipeError):  # what was not flushed
                pipe.close()
    process.wait()
