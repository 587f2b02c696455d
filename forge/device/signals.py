"""SIGTERM and SIGINT end the agent at any point; what is cleaned up is cleaned up whole."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["StopAskedError", "no_signals", "stop_on_signals"]


class StopAskedError(BaseException):
    """SIGTERM or SIGINT came. No Exception: nothing that handles errors may swallow it."""


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raise StopAskedError in the main thread; every state of the journal stands being cut."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise StopAskedError

    with _handled(stop):
        yield


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
