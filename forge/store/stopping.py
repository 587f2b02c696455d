"""Threads that wait for a network end soon when nobody needs any more what they wait for.

A thread is told by its pool, and by whoever waits for that pool; what waits, deep below, asks here.
Where nobody told it, it waits on.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Final

from forge.errors import StoreError

__all__ = ["SLICE_S", "StoppedError", "check", "listened_to", "sleep", "until"]

SLICE_S: Final = 1.0
"""Wait no longer than this without asking."""
_here = threading.local()


class StoppedError(StoreError):
    """Nobody needs what this thread waited for; why is the pool's to say."""


@contextlib.contextmanager
def until(*stops: threading.Event) -> Iterator[None]:
    """For the body, this thread's waiting ends when any of `stops` is set."""
    before = listened_to()
    _here.stops = stops
    try:
        yield
    finally:
        _here.stops = before


def listened_to() -> tuple[threading.Event, ...]:
    """What ends this thread's waiting: for a pool that hands it on to its own threads."""
    stops: tuple[threading.Event, ...] = getattr(_here, "stops", ())
    return stops


def check() -> None:
    """Raise StoppedError if this thread need not go on."""
    if any(stop.is_set() for stop in listened_to()):
        raise StoppedError("Reading from the store was stopped")


def sleep(seconds: float) -> None:
    """Wait so long. Raises StoppedError within `SLICE_S` once it need not."""
    end = time.monotonic() + seconds
    while True:
        check()
        left = end - time.monotonic()
        if left <= 0:
            return
        innermost = listened_to()[:1]
        if innermost:
            innermost[0].wait(min(left, SLICE_S))
        else:
            time.sleep(left)
