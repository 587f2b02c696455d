"""The text of a progress: bytes, rate and time left, the same for each slow operation."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

__all__ = ["PROGRESS", "ProgressMeter", "Throttle", "bytes_text", "duration_text"]

PROGRESS: Final = "forge progress: "
"""Begins a line of a command that reports its progress; the view shows it next to the step."""

_WINDOW_S: Final = 15.0
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86_400


@dataclass(slots=True)
class ProgressMeter:
    """Measures the rate of an operation over its last seconds. Thread-safe.

    Attributes:
        clock: returns seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _samples: deque[tuple[float, int]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def text(self, done: int, total: int) -> str:
        """Return `12.3 MB of 98.4 MB, 5.1 MB/s, 17 s left`.

        Args:
            done: bytes so far.
            total: bytes in total; 0 if not known.
        """
        rate = self.rate(done)
        parts = [f"{bytes_text(done)} of {bytes_text(total)}" if total else bytes_text(done)]
        if rate >= 1:
            parts.append(f"{bytes_text(round(rate))}/s")
            if total > done:
                parts.append(f"{duration_text((total - done) / rate)} left")
        return ", ".join(parts)

    def rate(self, done: int) -> float:
        """Return the rate of the last seconds, bytes a second.

        Args:
            done: bytes so far.
        """
        now = self.clock()
        with self._lock:
            if self._samples and done < self._samples[-1][1]:
                self._samples.clear()  # another operation began
            self._samples.append((now, done))
            while len(self._samples) > 2 and self._samples[1][0] < now - _WINDOW_S:  # noqa: PLR2004
                self._samples.popleft()
            since, before = self._samples[0]
        return (done - before) / (now - since) if now > since else 0.0


@dataclass(slots=True)
class Throttle:
    """Says whether it is time to report again. Thread-safe.

    Attributes:
        every_s: least seconds between two reports.
        clock: returns seconds.
    """

    every_s: float
    clock: Callable[[], float] = time.monotonic
    _next: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def due(self) -> bool:
        """Return whether a report is due; the next one is then due `every_s` later."""
        now = self.clock()
        with self._lock:
            if now < self._next:
                return False
            self._next = now + self.every_s
            return True


def duration_text(seconds: float) -> str:
    """Return `17 s`, `4 min 05 s`, `2 h 10 min`, or from two days on `2 days 06 h`."""
    whole = max(0, round(seconds))
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 2 * _DAY_S:
        return f"{whole // _HOUR_S} h {whole % _HOUR_S // 60:02} min"
    return f"{whole // _DAY_S} days {whole % _DAY_S // _HOUR_S:02} h"


def bytes_text(size: int) -> str:
    """Return a size in bytes as text, `98.4 MB`, in powers of 1000 as for disks and networks."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:  # noqa: PLR2004
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
