"""How many requests may be in Triton at once: written by the governor, obeyed by the gateway."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from pydantic import BaseModel, ConfigDict

__all__ = ["UNGOVERNED", "Limit", "Set"]

UNGOVERNED: Final = 1024  # the largest batch a profile can name
_KEPT: Final = 32


class Set(BaseModel):
    """One change of the limit."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    at: str
    limit: int
    reason: str


class Limit:
    """One number with its reason; safe between threads.

    Attributes:
        changed: notified whenever the number changes; hold it to wait for that.
    """

    def __init__(
        self,
        current: int = UNGOVERNED,
        reason: str = "nothing governs the load",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.changed = threading.Condition()
        self._current = current
        self._reason = reason
        self._clock = clock
        self._history: deque[Set] = deque(maxlen=_KEPT)
        self._lowered = self._raised = 0

    @property
    def current(self) -> int:
        """Requests at once, at least 1."""
        with self.changed:
            return self._current

    @property
    def reason(self) -> str:
        """Why that many, as a phrase."""
        with self.changed:
            return self._reason

    @property
    def history(self) -> tuple[Set, ...]:
        """The last changes, oldest first."""
        with self.changed:
            return tuple(self._history)

    @property
    def moves(self) -> tuple[int, int]:
        """How often it was lowered and raised since the start."""
        with self.changed:
            return self._lowered, self._raised

    def get(self) -> tuple[int, str]:
        """Number and reason of one and the same moment."""
        with self.changed:
            return self._current, self._reason

    def set(self, current: int, reason: str) -> bool:
        """Write both; True if the number changed. Raises ValueError for less than 1."""
        if current < 1:
            raise ValueError("a limit below 1 would never answer")
        at = f"{self._clock().astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        with self.changed:
            before, self._current, self._reason = self._current, current, reason
            if current == before:
                return False
            self._lowered += current < before
            self._raised += current > before
            self._history.append(Set(at=at, limit=current, reason=reason))
            self.changed.notify_all()
            return True
