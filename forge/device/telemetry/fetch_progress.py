"""How far the download of a release is: bytes, rate, time left."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from pydantic import BaseModel, ConfigDict

from forge.device.shared.release import Release
from forge.progress import ProgressMeter, Throttle, bytes_text, duration_text

__all__ = ["FetchMeter", "FetchProgress"]

_log = logging.getLogger(__name__)

_LOG_EVERY_S: Final = 30.0
_LOG_FIRST_S: Final = 5.0  # a download that is over sooner is one line, at its end


class FetchProgress(BaseModel):
    """The state of a download.

    Attributes:
        release: what is fetched.
        done_bytes: of the release's files that are there, taken from the slots or downloaded.
        total_bytes: of all its files.
        bytes_per_s: downloaded over the last 15 seconds; files of the slots do not count.
        left_s: seconds left at that rate; None: not known.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    release: Release
    done_bytes: int
    total_bytes: int
    bytes_per_s: float
    left_s: float | None

    def __str__(self) -> str:
        parts = [f"{bytes_text(self.done_bytes)} of {bytes_text(self.total_bytes)}"]
        if self.bytes_per_s >= 1:
            parts.append(f"{bytes_text(round(self.bytes_per_s))}/s")
        if self.left_s is not None:
            parts.append(f"{duration_text(self.left_s)} left")
        return ", ".join(parts)


class FetchMeter:
    """Measures the download under way, and logs it. Thread-safe.

    Args:
        clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._release: Release | None = None
        self._done: tuple[int, int] | None = None  # bytes done, bytes in total
        self._moved = 0
        self._meter = ProgressMeter(clock)
        self._throttle = Throttle(_LOG_EVERY_S, clock)

    @property
    def progress(self) -> FetchProgress | None:
        """The download under way; None: there is none, or its size is not known yet.

        Its rate is that of now, also where nothing comes any more.
        """
        with self._lock:
            if self._release is None or self._done is None:
                return None
            done, total = self._done
            rate = self._meter.rate(self._moved)
            left = (total - done) / rate if rate >= 1 else None
            return FetchProgress(
                release=self._release,
                done_bytes=done,
                total_bytes=total,
                bytes_per_s=round(rate, 1),
                left_s=None if left is None else round(left, 1),
            )

    @contextlib.contextmanager
    def measuring(self, release: Release) -> Iterator[None]:
        """Measure what `done` and `moved` are told during the body."""
        with self._lock:
            self._release, self._done, self._moved = release, None, 0
            self._meter = ProgressMeter(self._clock)
            self._meter.rate(0)  # the time at which it begins
            self._throttle = Throttle(_LOG_EVERY_S, self._clock, self._clock() + _LOG_FIRST_S)
        try:
            yield
        finally:
            with self._lock:
                self._release = self._done = None

    def moved(self, downloaded: int) -> None:
        """Note the bytes that were downloaded so far."""
        with self._lock:
            self._moved = downloaded
            self._meter.rate(downloaded)

    def done(self, done: int, total: int) -> None:
        """Note the bytes that are there and those of all files, and log them twice a minute."""
        with self._lock:
            self._done = done, total
        if self._throttle.due() and (told := self.progress):
            _log.info("fetching %s: %s", told.release, told)
