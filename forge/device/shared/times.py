"""Times that the device writes down, and what may be concluded from them.

A machine without a clock that runs on while it is off begins in 1970, or where it was built, until
the network has told it the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator

__all__ = ["EARLIEST", "Beginning", "Timestamp", "is_set", "lasted_s", "seconds_between"]

EARLIEST: Final = datetime(2025, 1, 1, tzinfo=UTC)
"""No device of Forge ran before: a time below this was read from a clock that was not set yet."""

_SET_S: Final = 60.0  # a clock that differs by more was set; by less, it drifts


def _timestamp(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:  # raises ValueError
        raise ValueError(f"{text!r} has no time zone")
    return text


Timestamp: TypeAlias = Annotated[str, AfterValidator(_timestamp)]
"""A time in RFC 3339, checked when it is read from a file."""


def seconds_between(earlier: str | None, later: str) -> float:
    """Return the seconds between two times in RFC 3339; 0 for none, or a clock set back."""
    if not earlier:
        return 0.0
    try:
        passed = datetime.fromisoformat(later) - datetime.fromisoformat(earlier)
    except (ValueError, TypeError):
        return 0.0
    return max(0.0, passed.total_seconds())


def is_set(at: str | None) -> bool:
    """Return whether a time in RFC 3339 is there and was read from a clock that was set."""
    try:
        return at is not None and datetime.fromisoformat(at) >= EARLIEST
    except (ValueError, TypeError):
        return False


def lasted_s(since: str | None, now: str) -> float:
    """Return for how long something lasts, seconds; 0 where the clock was set in between."""
    return 0.0 if is_set(now) and not is_set(since) else seconds_between(since, now)


class Beginning:
    """When something began while this process ran, by the clock as it is set now.

    Args:
        now: RFC 3339.
        clock: returns seconds that no setting of the clock changes.
    """

    def __init__(self, now: Callable[[], str], clock: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._clock = clock
        self._began = clock()
        self._at = now()

    @property
    def at(self) -> str:
        """The time, RFC 3339; it stays as it is until the clock is set."""
        passed = self._clock() - self._began
        if abs(_passed_s(self._at, self._now()) - passed) > _SET_S:
            at = datetime.fromisoformat(self._now()) - timedelta(seconds=passed)
            self._at = f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        return self._at


def _passed_s(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
