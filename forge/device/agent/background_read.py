"""Read a file for its digest without disturbing what serves: idle priority, limited rate.

Linux has a priority for each thread. What a thread may not change, or what this kernel does not
have, is left as it is: the rate limit alone bounds the load.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from forge.store.backends.throttle import RateLimit

__all__ = ["idle_priority", "sha256_slowly"]

_NICE: Final = 19
_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30}  # Linux: syscall_64.tbl, unistd.h
_WHO_THREAD: Final = 1  # IOPRIO_WHO_PROCESS; 0 is the calling thread
_IDLE: Final = 3 << 13  # IOPRIO_CLASS_IDLE


def idle_priority() -> None:
    """Give the calling thread the lowest priority for the processor and the disk."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
    if number := _IOPRIO_SET.get(platform.machine()):
        ctypes.CDLL(None, use_errno=True).syscall(number, _WHO_THREAD, 0, _IDLE)


def sha256_slowly(path: Path, limit: RateLimit, check: Callable[[], None]) -> str:
    """Return the lower-case hex SHA-256 of a file.

    The kernel is told to drop what it has cached of the file: the disk is to be read, and what is
    read is not to push other content out of memory. Pages that a server has mapped stay.

    Args:
        path: the file.
        limit: of the rate.
        check: called before each block; may wait, and raises to end the reading.

    Raises:
        OSError: the disk.
    """
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        _drop(file.fileno())
        while True:
            check()
            block = file.read(limit.block)
            if not block:
                break
            digest.update(block)
            limit.take(len(block))
        _drop(file.fileno())
    return digest.hexdigest()


def _drop(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
