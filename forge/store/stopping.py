"""Threads that wait for a network end soon when nobody needs any more what they wait for.

A thread is told by its pool; what waits, deep below, asks here. Where nobody told it, it waits on.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Final

from forge.errors import StoreError

__all__ = ["SLICE_S", "StoppedError", "check", "sleep", "until"]

SLICE_S: Final = 1.0
"""Wait no longer than this without asking."""
_here = threading.local()


class StoppedError(StoreError):
    """Nobody needs what this thread waited for; why is the pool's to say."""


@contextlib.contextmanager
def until(stop: threading.Event) -> Iterator[None]:
    """For the body, this thread's waiting ends when `stop` is set."""
    _here.stop = stop
    try:
        yield
    finally:
        del _here.stop


def check() -> None:
    """Raise StoppedError if this thread need not go on."""
    stop: threading.Event | None = getattr(_here, "stop", None)
    if stop is not None and stop.is_set():
        raise StoppedError("Reading from the store was stopped")


def sleep(seconds: float) -> None:
    """Wait so long. Raises StoppedError as soon as it need not."""
    stop: threading.Event | None = getattr(_here, "stop", None)
    if stop is None:
        time.sleep(seconds)
    else:
        stop.wait(seconds)
        check()
