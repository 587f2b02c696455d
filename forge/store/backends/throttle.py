"""Rate limit, minimum rate and backoff for reading over a network."""

from __future__ import annotations

import email.utils
import random
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from forge.store import cancellation

__all__ = [
    "LEAST_BYTES_PER_S",
    "PROGRESS",
    "MinimumRate",
    "RateLimit",
    "local_blocks",
    "pause",
    "retry_after",
]

LEAST_BYTES_PER_S: Final = 4096
"""A request whose average rate is lower counts as failed."""
PROGRESS: Final = 64 * 1024
"""An attempt that transferred this much and then broke off does not count as failed."""
_GRACE_S: Final = 30.0  # without a byte, and before the average counts
_LONGEST_PAUSE_S: Final = 60.0  # of a server's Retry-After, too
_BLOCK: Final = 64 * 1024


class RateLimit:
    """Maximum number of bytes per second over all threads that share it.

    Args:
        bytes_per_s: at least 1024.
        clock: seconds, monotonic.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        bytes_per_s: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = cancellation.sleep,
    ) -> None:
        self.bytes_per_s = bytes_per_s
        self._clock = clock
        self._sleep = sleep
        self._paid = 0.0  # time up to which the bytes read so far use the budget
        self._lock = threading.Lock()

    @property
    def block(self) -> int:
        """Return the maximum number of bytes per read, so that the rate is even within a second."""
        return max(1024, min(_BLOCK, self.bytes_per_s // 8))

    def take(self, count: int) -> None:
        """Wait until the budget allows the `count` bytes that were just read."""
        with self._lock:
            now = self._clock()
            self._paid = max(self._paid, now) + count / self.bytes_per_s
            wait = self._paid - now
        if wait > 0:
            self._sleep(wait)


def local_blocks(
    limit: RateLimit | None, read: Callable[[int, int], bytes], start: int, length: int
) -> Generator[bytes]:
    """Yield the bytes of a local file: one block, or smaller ones where the rate is limited.

    Args:
        limit: the rate limit, if there is one.
        read: returns the bytes from an offset, of a length.
        start: offset of the first byte.
        length: number of bytes.
    """
    if limit is None:
        yield read(start, length)
        return
    for begin in range(start, start + length, limit.block):
        data = read(begin, min(limit.block, start + length - begin))
        limit.take(len(data))
        yield data


@dataclass
class MinimumRate:
    """The time that one request may still wait for the server.

    It is 30 s plus the time that the received bytes take at the minimum rate: a server that sends
    one byte every 20 s is cut off after half a minute. Only waiting for the server counts, not the
    time taken by a rate limit or by this disk.

    Attributes:
        bytes_per_s: minimum rate.
        waited_s: seconds waited for the server so far.
        received: bytes received so far.
    """

    bytes_per_s: int = LEAST_BYTES_PER_S
    grace_s: float = _GRACE_S
    waited_s: float = field(default=0.0, init=False)
    received: int = field(default=0, init=False)

    @property
    def left_s(self) -> float:
        """Return the seconds to wait for the next byte; 0 or less if the server is too slow."""
        allowed = self.grace_s + self.received / self.bytes_per_s - self.waited_s
        return min(allowed, self.grace_s)

    def note(self, waited_s: float, received: int) -> None:
        """Record a wait and the bytes received in it."""
        self.waited_s += waited_s
        self.received += received


def pause(tries: int, asked_s: float = 0.0) -> float:
    """Return the seconds to wait before the next attempt: at most 0.2, 0.8, 3.2 and so on.

    Args:
        tries: number of failed attempts, 1 or more.
        asked_s: seconds of the server's Retry-After header, respected up to a minute.
    """
    backoff: float = random.uniform(0.5, 1.0) * 0.2 * 4 ** (tries - 1)  # noqa: S311  jitter
    return min(max(backoff, asked_s), _LONGEST_PAUSE_S)


def retry_after(value: str, now: datetime | None = None) -> float:
    """Return the seconds of a Retry-After header, a number or a date; 0 if it is not valid."""
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
