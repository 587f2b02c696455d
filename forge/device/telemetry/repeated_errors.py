"""Log an error that recurs at each check once, and again after an hour as long as it recurs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from forge.device.telemetry.contact import alike
from forge.progress import duration_text

__all__ = ["RepeatedErrors"]

_EVERY_S: Final = 3600.0
_MOST: Final = 32  # different errors that are remembered


@dataclass(slots=True)
class _Error:
    text: str
    logged_at: float
    count: int = 1


@dataclass(slots=True)
class RepeatedErrors:
    """Errors that may recur. Thread-safe.

    Attributes:
        log: of the module that has them.
        clock: returns seconds.
    """

    log: logging.Logger
    clock: Callable[[], float] = time.monotonic
    _seen: list[_Error] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def error(self, text: str) -> None:
        """Log an error, unless one like it was logged within the last hour."""
        now = self.clock()
        with self._lock:
            known = next((one for one in self._seen if alike(one.text, text)), None)
            if known is None:
                self._seen = [*self._seen, _Error(text, now)][-_MOST:]
            elif now - known.logged_at < _EVERY_S:
                known.count += 1
                return
            else:
                times = "1 time" if known.count == 1 else f"{known.count} times"
                text = f"{text} (and {times} before, in {duration_text(now - known.logged_at)})"
                known.count, known.logged_at = 1, now
        self.log.error("%s", text)

    def clear(self) -> None:
        """Forget all: what fails again is new."""
        with self._lock:
            self._seen = []
