"""One agent per state directory: a kernel lock, which is released when its process ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from forge.errors import UsageError

__all__ = ["hold", "holder"]

_TIMEOUT_S: Final = 1.0
_POLL_S: Final = 0.01


def holder(path: Path) -> int | None:
    """Return the process id of the lock's holder, None if it is free. Raises OSError."""
    try:
        with path.open("rb") as file:
            try:
                # flock cannot be asked without being taken, so this takes it for an instant.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read(20) or 0)
    except (FileNotFoundError, ValueError):
        return None
    return None


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock for the body.

    Raises:
        UsageError: another process has held it for a second; names it.
        OSError: the file cannot be opened.
    """
    with path.open("a+b") as file:
        _take(file, path)
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        yield


def _take(file: IO[bytes], path: Path) -> None:
    """Take the lock. A holder that keeps it is another agent; `holder` releases it at once."""
    until = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < until:
                time.sleep(_POLL_S)
                continue
            file.seek(0)
            pid = file.read(20).decode(errors="replace") or "unknown"
            message = f"Another agent runs this device in {path.parent} (process {pid})"
            raise UsageError(message, hint=f"stop it first: kill {pid}") from None
        return
