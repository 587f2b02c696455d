"""The limit of concurrent requests to Triton: set by the governor, enforced by the gateway."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from pydantic import BaseModel, ConfigDict

__all__ = ["UNGOVERNED", "ConcurrencyLimit", "LimitChange"]

UNGOVERNED: Final = 1024  # the largest batch a profile can name
_KEPT: Final = 32


class LimitChange(BaseModel):
    """One change of the limit."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    at: str
    limit: int
    reason: str


class ConcurrencyLimit:
    """The limit with its reason; thread-safe.

    Attributes:
        changed: notified when the limit changes; acquire it to wait for that.
    """

    def __init__(
        self,
        current: int = UNGOVERNED,
        reason: str = "no limit is set",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.changed = threading.Condition()
        self._current = current
        self._reason = reason
        self._clock = clock
        self._history: deque[LimitChange] = deque(maxlen=_KEPT)
        self._lowered = self._raised = 0
        self._most = current

    @property
    def current(self) -> int:
        """Return the concurrent requests that are allowed, at least 1."""
        with self.changed:
            return self._current

    @property
    def reason(self) -> str:
        """Return the reason of the limit, as a phrase."""
        with self.changed:
            return self._reason

    @property
    def lowered(self) -> bool:
        """Return whether fewer requests are allowed than the bundle decodes together."""
        with self.changed:
            return self._current < self._most

    @property
    def history(self) -> tuple[LimitChange, ...]:
        """Return the last changes, oldest first."""
        with self.changed:
            return tuple(self._history)

    @property
    def moves(self) -> tuple[int, int]:
        """Return how often the limit was lowered and raised since the start."""
        with self.changed:
            return self._lowered, self._raised

    def get(self) -> tuple[int, str]:
        """Return limit and reason, read together."""
        with self.changed:
            return self._current, self._reason

    def set(self, current: int, reason: str, most: int | None = None) -> bool:
        """Set limit and reason; return whether the limit changed. Raises ValueError below 1.

        Args:
            current: the limit.
            reason: as a phrase.
            most: requests that the bundle decodes together; None: as before.
        """
        if current < 1:
            raise ValueError("the limit must be at least 1")
        at = f"{self._clock().astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        with self.changed:
            before, self._current, self._reason = self._current, current, reason
            self._most = most or max(self._most, current)
            if current == before:
                return False
            self._lowered += current < before
            self._raised += current > before
            self._history.append(LimitChange(at=at, limit=current, reason=reason))
            self.changed.notify_all()
            return True
