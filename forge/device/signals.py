"""SIGTERM and SIGINT end the agent at any point; what is cleaned up is cleaned up whole."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["StopAskedError", "check_signals", "no_signals", "stop_on_signals"]

_asked = threading.Event()  # signals are the process's, and so is this


class StopAskedError(BaseException):
    """SIGTERM or SIGINT came. No Exception: nothing that handles errors may swallow it."""


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raise StopAskedError in the main thread; every state of the journal stands being cut.

    Python swallows what is raised in a destructor or a callback of its import system, and a signal
    may come just then: whoever loops calls `check_signals`, too.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        _asked.set()
        raise StopAskedError

    _asked.clear()
    with _handled(stop):
        yield


def check_signals() -> None:
    """Raise StopAskedError if a signal has come since `stop_on_signals` was entered."""
    if _asked.is_set():
        raise StopAskedError


@contextlib.contextmanager
def no_signals() -> Iterator[None]:
    """Finish the body, however impatient somebody is."""
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
