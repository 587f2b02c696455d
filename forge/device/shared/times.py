"""Times that the device writes down, and what may be concluded from them. Pure.

A machine without a clock that runs on while it is off begins in 1970, or where it was built, until
the network has told it the time.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator

__all__ = ["EARLIEST", "Timestamp", "is_set", "lasted_s", "seconds_between"]

EARLIEST: Final = datetime(2025, 1, 1, tzinfo=UTC)
"""No device of Forge ran before: a time below this was read from a clock that was not set yet."""


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


def is_set(time: str | None) -> bool:
    """Return whether a time in RFC 3339 is there and was read from a clock that was set."""
    try:
        return time is not None and datetime.fromisoformat(time) >= EARLIEST
    except (ValueError, TypeError):
        return False


def lasted_s(since: str | None, now: str) -> float:
    """Return for how long something lasts, seconds; 0 where it is not known since when."""
    return seconds_between(since, now) if is_set(since) else 0.0
