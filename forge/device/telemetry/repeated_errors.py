"""Log an error that recurs at each check once, and again each hour as long as it recurs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from forge.device.telemetry.contact import alike

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
                count, known.count, known.logged_at = known.count, 1, now
                text = f"{text} (and {count} times before, in the last hour)"
        self.log.error("%s", text)

    def clear(self) -> None:
        """Forget all: what fails again is new."""
        with self._lock:
            self._seen = []
