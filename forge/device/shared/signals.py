"""Stop the agent on SIGTERM and SIGINT at any point; clean-up is not interrupted.

A required thread that ends (the gateway's, say) stops the agent in the same way.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["StopAskedError", "ask_to_stop", "check_signals", "no_signals", "stop_on_signals"]

_requested = threading.Event()  # global, as signal handlers are


class StopAskedError(BaseException):
    """The agent must stop. Not an Exception, so that no error handler catches it."""


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raise StopAskedError in the main thread on a signal; any journal state may be interrupted.

    Python discards an exception that is raised in a destructor or a callback of its import system,
    and a signal may arrive just then: loops must call `check_signals`, too.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        _requested.set()
        raise StopAskedError

    _requested.clear()
    try:
        with _handled(stop):
            yield
    finally:
        _requested.clear()


def check_signals() -> None:
    """Raise StopAskedError if a signal arrived in the body of `stop_on_signals`."""
    if _requested.is_set():
        raise StopAskedError


def ask_to_stop() -> None:
    """Request a stop from any thread; the next `check_signals` raises."""
    _requested.set()


@contextlib.contextmanager
def no_signals() -> Iterator[None]:
    """Ignore SIGTERM and SIGINT in the body."""
    with _handled(lambda _number, _frame: None):
        yield


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
