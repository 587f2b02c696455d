"""Who may ask Triton now, who waits, and who is sent away: a bounded first-come queue.

    arrives ── a place is free, nobody waits ──────────────────────────→ inside
       └────── else it waits, first come first served ── a place ──────→ inside
                  ├── the queue is full, or it waited too long ────────→ 429, Retry-After
                  └── no slot serves when it comes or gives up ────────→ 503, Retry-After

The number of places is the governor's limit. When that falls, those inside end in peace and nobody
enters before; when a slot is swapped, those that wait go on with the new one.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from forge.device.limit import Limit
from forge.device.live import Live, Serving
from forge.device.refusals import BusyError, UnavailableError

__all__ = ["Admission", "Counts", "QueueRules"]

_MOST_WAITING: Final = 1024
# Limit and slot are changed by other threads; so often is looked while somebody waits.
_LOOK_S: Final = 0.05
_UNAVAILABLE_RETRY_S: Final = 5
_LONGEST_RETRY_S: Final = 60
_NEWEST_WEIGHT: Final = 0.2


@dataclass(frozen=True, slots=True)
class QueueRules:
    """How many wait for each place, and how long at most."""

    per_place: int = 8
    max_wait_s: float = 30.0

    def length(self, places: int) -> int:
        """How many may wait."""
        return min(self.per_place * places, _MOST_WAITING)


@dataclass(frozen=True, slots=True)
class Counts:
    """The queue at one moment, and what has been counted since the start.

    Attributes:
        inside: requests in Triton now.
        waiting: requests in the queue now.
        admitted: requests that got a place.
        queued: requests that had to wait, whatever became of them.
        waited_s: seconds that requests spent in the queue.
        busy: refused with 429.
        unavailable: refused with 503.
        service_s: how long a request keeps its place, the newest counting most.
    """

    inside: int = 0
    waiting: int = 0
    admitted: int = 0
    queued: int = 0
    waited_s: float = 0.0
    busy: int = 0
    unavailable: int = 0
    service_s: float = 0.0


class Admission:
    """The queue in front of Triton; used from one event loop only."""

    def __init__(self, live: Live, limit: Limit, rules: QueueRules | None = None) -> None:
        self._live = live
        self._limit = limit
        self._rules = rules or QueueRules()
        self._waiting: deque[asyncio.Future[Serving]] = deque()
        self._looking: asyncio.Task[None] | None = None
        self._inside = self._admitted = self._queued = self._busy = self._unavailable = 0
        self._waited_s = 0.0
        self._service_s: float | None = None

    @property
    def counts(self) -> Counts:
        """How it stands; may be read from any thread."""
        return Counts(
            inside=self._inside,
            waiting=len(self._waiting),
            admitted=self._admitted,
            queued=self._queued,
            waited_s=self._waited_s,
            busy=self._busy,
            unavailable=self._unavailable,
            service_s=self._service_s or 0.0,
        )

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Serving]:
        """Hold one place in the slot that serves.

        Raises:
            BusyError: the queue is full, or it was waited too long.
            UnavailableError: no slot serves.
        """
        serving = None if self._waiting else self._take()
        if serving is None:
            serving = await self._wait()
        self._admitted += 1
        began = time.monotonic()
        try:
            yield serving
        finally:
            self._observe(time.monotonic() - began)
            self._leave(serving)

    def _take(self) -> Serving | None:
        allowed, _ = self._limit.get()
        if self._inside >= allowed:
            return None
        serving = self._live.enter()
        self._inside += serving is not None
        return serving

    def _leave(self, serving: Serving) -> None:
        self._inside -= 1
        self._live.leave(serving)
        self._let_in()

    async def _wait(self) -> Serving:
        serving, _ = self._live.get()
        allowed, _ = self._limit.get()
        if serving is None or len(self._waiting) >= self._rules.length(allowed):
            raise self._refused()
        waiter: asyncio.Future[Serving] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._queued += 1
        self._look()
        began, got = time.monotonic(), False
        try:
            async with asyncio.timeout(self._rules.max_wait_s):
                serving = await waiter
            got = True
        except TimeoutError:
            raise self._refused() from None
        else:
            return serving
        finally:
            self._waited_s += time.monotonic() - began
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif not got and not waiter.cancelled():
                # The place came in the very moment in which it gave up.
                self._leave(waiter.result())

    def _look(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._keep_looking())

    async def _keep_looking(self) -> None:
        while self._waiting:
            self._let_in()
            await asyncio.sleep(_LOOK_S)

    def _let_in(self) -> None:
        while self._waiting:
            if self._waiting[0].done():  # gone; its task has not run yet
                self._waiting.popleft()
                continue
            serving = self._take()
            if serving is None:
                return
            self._waiting.popleft().set_result(serving)

    def _observe(self, seconds: float) -> None:
        before = seconds if self._service_s is None else self._service_s
        self._service_s = before + _NEWEST_WEIGHT * (seconds - before)

    def _refused(self) -> BusyError | UnavailableError:
        serving, why = self._live.get()
        if serving is None:
            self._unavailable += 1
            wait = _UNAVAILABLE_RETRY_S
            return UnavailableError("no bundle serves", hint=why, retry_after_s=wait)
        self._busy += 1
        allowed, reason = self._limit.get()
        what = (
            f"The device may answer {allowed} at once and answers {self._inside};"
            f" {len(self._waiting)} wait"
        )
        wait = self._retry_after_s(allowed)
        hint = f"ask again in {wait} s"
        return BusyError(what, why=reason, hint=hint, retry_after_s=wait)

    def _retry_after_s(self, allowed: int) -> int:
        """Until those that are here now have been answered, as far as can be told."""
        ahead = self._inside + len(self._waiting)
        seconds = (self._service_s or 0.0) * ahead / allowed
        return min(max(1, math.ceil(seconds)), _LONGEST_RETRY_S)
