"""SIGTERM and SIGINT end the agent at any point; what is cleaned up is cleaned up whole.

So does a thread that the agent cannot do without, when it ends: it asks for the same.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["StopAskedError", "ask_to_stop", "check_signals", "no_signals", "stop_on_signals"]

_asked = threading.Event()  # signals are the process's, and so is this


class StopAskedError(BaseException):
    """The agent is to end. No Exception: nothing that handles errors may swallow it."""


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
    try:
        with _handled(stop):
            yield
    finally:
        _asked.clear()


def check_signals() -> None:
    """Raise StopAskedError if a signal has come in the body of `stop_on_signals`."""
    if _asked.is_set():
        raise StopAskedError


def ask_to_stop() -> None:
    """As a signal would, from any thread; heard by the next `check_signals`."""
    _asked.set()


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
