"""How fast and how slow reading over a network may be, and how long to wait before trying again."""

from __future__ import annotations

import email.utils
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from forge.store import stopping

__all__ = ["LEAST_BYTES_PER_S", "PROGRESS", "Patience", "RateLimit", "pause", "retry_after"]

LEAST_BYTES_PER_S: Final = 4096
"""Slower than this, on the average of one request, counts as a fault."""
PROGRESS: Final = 64 * 1024
"""After so many bytes a transfer that broke off is not counted as a failed try."""
_GRACE_S: Final = 30.0  # without a byte, and before the average counts
_LONGEST_PAUSE_S: Final = 60.0  # of a server's Retry-After, too
_BLOCK: Final = 64 * 1024


class RateLimit:
    """So many bytes a second over all threads that share it.

    Args:
        bytes_per_s: at least 1024.
        clock: seconds, monotonic.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        bytes_per_s: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = stopping.sleep,
    ) -> None:
        self.bytes_per_s = bytes_per_s
        self._clock = clock
        self._sleep = sleep
        self._paid = 0.0  # the moment up to which bytes that were read are paid for
        self._lock = threading.Lock()

    @property
    def block(self) -> int:
        """The most bytes to read at once, so that the rate is even within a second."""
        return max(1024, min(_BLOCK, self.bytes_per_s // 8))

    def take(self, count: int) -> None:
        """Wait as long as `count` bytes cost that were just read."""
        with self._lock:
            now = self._clock()
            self._paid = max(self._paid, now) + count / self.bytes_per_s
            wait = self._paid - now
        if wait > 0:
            self._sleep(wait)


@dataclass
class Patience:
    """How long one request may still be waited for.

    30 s, and for each byte that came as long as it takes at the least rate: one byte every 20 s
    ends after half a minute. Only waiting counts; what a rate limit or this disk takes does not.

    Attributes:
        bytes_per_s: the least rate.
        waited_s: for the server, so far.
        received: bytes.
    """

    bytes_per_s: int = LEAST_BYTES_PER_S
    grace_s: float = _GRACE_S
    waited_s: float = field(default=0.0, init=False)
    received: int = field(default=0, init=False)

    @property
    def left_s(self) -> float:
        """Seconds to wait for the next byte; 0 or less: too slow."""
        allowed = self.grace_s + self.received / self.bytes_per_s - self.waited_s
        return min(allowed, self.grace_s)

    def note(self, waited_s: float, received: int) -> None:
        """So long was waited for so many bytes."""
        self.waited_s += waited_s
        self.received += received


def pause(tries: int, asked_s: float = 0.0) -> float:
    """Seconds before the next try after `tries` failed ones: at most 0.2, 0.8, 3.2 and so on.

    Args:
        tries: 1 or more.
        asked_s: what the server asked for; heeded up to a minute.
    """
    backoff: float = random.uniform(0.5, 1.0) * 0.2 * 4 ** (tries - 1)  # noqa: S311  jitter
    return min(max(backoff, asked_s), _LONGEST_PAUSE_S)


def retry_after(value: str, now: datetime | None = None) -> float:
    """Seconds that a Retry-After header asks for: a number or a date; 0 if it is neither."""
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
