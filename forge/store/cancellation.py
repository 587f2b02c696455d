"""Cancel threads that wait for a network when their result is no longer needed.

The owner of a thread sets its cancellation events with `until`; code that waits, several layers
below, calls `check` or `sleep`. A thread without events waits without a limit.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Final

from forge.errors import StoreError

__all__ = ["SLICE_S", "CancelledError", "check", "current_events", "sleep", "until"]

SLICE_S: Final = 1.0
"""Longest wait without a check for cancellation, in seconds."""
_here = threading.local()


class CancelledError(StoreError):
    """This thread was cancelled. Its pool reports the cause."""


@contextlib.contextmanager
def until(*stops: threading.Event) -> Iterator[None]:
    """Cancel this thread's waits in the body when any of `stops` is set."""
    before = current_events()
    _here.stops = stops
    try:
        yield
    finally:
        _here.stops = before


def current_events() -> tuple[threading.Event, ...]:
    """Return the cancellation events of this thread, for a pool to pass to its threads."""
    stops: tuple[threading.Event, ...] = getattr(_here, "stops", ())
    return stops


def check() -> None:
    """Raise CancelledError if this thread is cancelled."""
    if any(stop.is_set() for stop in current_events()):
        raise CancelledError("Reading from the store was cancelled")


def sleep(seconds: float) -> None:
    """Wait for a number of seconds. Raises CancelledError within `SLICE_S` of a cancellation."""
    end = time.monotonic() + seconds
    while True:
        check()
        left = end - time.monotonic()
        if left <= 0:
            return
        innermost = current_events()[:1]
        if innermost:
            innermost[0].wait(min(left, SLICE_S))
        else:
            time.sleep(left)
