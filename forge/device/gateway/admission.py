"""Admission control: which requests are in Triton, which wait, which are refused.

    arrives ── a place is free, the queue is empty ────────────────────→ inside
       └────── else it waits, first come first served ── a place ──────→ inside
                  ├── the queue is full, or it waited too long ────────→ 429, Retry-After
                  └── no slot is active when it arrives or times out ──→ 503, Retry-After

A request stays inside until the model says that it has ended, whether its client waits or not.
The number of places is the governor's limit. When that falls, requests inside end normally and none
enters before; when a slot is swapped, requests that wait go to the new one.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

from forge.device.gateway.config import QueueRules
from forge.device.gateway.errors import ServiceUnavailableError, TooManyRequestsError
from forge.device.shared.concurrency import ConcurrencyLimit
from forge.device.shared.upstream import ActiveServer, Upstream
from forge.device.telemetry.metrics import Sample

__all__ = ["Admission", "Counts", "Place"]

# Other threads change limit and slot; they are polled this often while a request waits.
_POLL_S: Final = 0.05
_UNAVAILABLE_RETRY_S: Final = 5
_LONGEST_RETRY_S: Final = 60
_NEWEST_WEIGHT: Final = 0.2


@dataclass(frozen=True, slots=True)
class Counts:
    """The queue at one moment, and totals since the start.

    Attributes:
        inside: requests in Triton now.
        waiting: requests in the queue now.
        admitted: requests that got a place.
        queued: requests that had to wait, admitted or not.
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


class Place:
    """A place in the model that one request holds until the model has ended it.

    Attributes:
        serving: the server with the model.
        since: when it was taken, on the monotonic clock.
    """

    __slots__ = ("_admission", "_left", "serving", "since")

    def __init__(self, admission: Admission, serving: ActiveServer) -> None:
        self._admission = admission
        self._left = False
        self.serving = serving
        self.since = time.monotonic()

    def leave(self) -> None:
        """Make the place free; further calls do nothing."""
        if not self._left:
            self._left = True
            self._admission.leave(self)


class Admission:
    """The queue in front of Triton; used from one event loop only."""

    def __init__(
        self, upstream: Upstream, limit: ConcurrencyLimit, rules: QueueRules | None = None
    ) -> None:
        self._upstream = upstream
        self._limit = limit
        self._rules = rules or QueueRules()
        self._waiting: deque[asyncio.Future[ActiveServer]] = deque()
        self._polling: asyncio.Task[None] | None = None
        self._inside = self._admitted = self._queued = self._busy = self._unavailable = 0
        self._waited_s = 0.0
        self._service_s: float | None = None

    @property
    def counts(self) -> Counts:
        """Return the counts; may be called from any thread."""
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

    def samples(self) -> tuple[Sample, ...]:
        """Return the queue and the governor's limit for /metrics; may be called from any thread."""
        lowered, raised = self._limit.moves
        return (
            Sample("forge_device_num_requests_waiting", (), len(self._waiting)),
            Sample("forge_device_requests_limit", (), self._limit.current),
            Sample("forge_device_limit_changes_total", (("direction", "down"),), lowered),
            Sample("forge_device_limit_changes_total", (("direction", "up"),), raised),
            Sample("forge_device_queued_total", (), self._queued),
            Sample("forge_device_queue_seconds_total", (), round(self._waited_s, 3)),
        )

    async def enter(self) -> Place:
        """Wait for a place in the active slot; `leave` it.

        Raises:
            TooManyRequestsError: the queue is full, or the request waited too long.
            ServiceUnavailableError: no slot is active.
        """
        serving = None if self._waiting else self._take()
        if serving is None:
            serving = await self._wait()
        self._admitted += 1
        return Place(self, serving)

    def leave(self, place: Place) -> None:
        """Make a place free; Place.leave calls it once."""
        self._observe(time.monotonic() - place.since)
        self._leave(place.serving)

    def _take(self) -> ActiveServer | None:
        allowed, _ = self._limit.get()
        if self._inside >= allowed:
            return None
        serving = self._upstream.enter()
        self._inside += serving is not None
        return serving

    def _leave(self, serving: ActiveServer) -> None:
        self._inside -= 1
        self._upstream.leave(serving)
        self._admit()

    async def _wait(self) -> ActiveServer:
        serving, _ = self._upstream.get()
        allowed, _ = self._limit.get()
        if serving is None or len(self._waiting) >= self._rules.length(allowed):
            raise self._refused("The queue is full")
        waiter: asyncio.Future[ActiveServer] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._queued += 1
        self._start_polling()
        began, got = time.monotonic(), False
        try:
            async with asyncio.timeout(self._rules.max_wait_s):
                serving = await waiter
            got = True
        except TimeoutError:
            seconds = self._rules.max_wait_s
            raise self._refused(f"No place became free within {seconds:g} s") from None
        else:
            return serving
        finally:
            self._waited_s += time.monotonic() - began
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif not got and not waiter.cancelled():
                # The place became free at the same moment as the timeout.
                self._leave(waiter.result())

    def _start_polling(self) -> None:
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll())

    async def _poll(self) -> None:
        while self._waiting:
            self._admit()
            await asyncio.sleep(_POLL_S)

    def _admit(self) -> None:
        while self._waiting:
            if self._waiting[0].done():  # cancelled; its task has not run yet
                self._waiting.popleft()
                continue
            serving = self._take()
            if serving is None:
                return
            self._waiting.popleft().set_result(serving)

    def _observe(self, seconds: float) -> None:
        before = seconds if self._service_s is None else self._service_s
        self._service_s = before + _NEWEST_WEIGHT * (seconds - before)

    def _refused(self, what: str) -> TooManyRequestsError | ServiceUnavailableError:
        serving, why = self._upstream.get()
        if serving is None:
            self._unavailable += 1
            wait = _UNAVAILABLE_RETRY_S
            return ServiceUnavailableError("No bundle is active", hint=why, retry_after_s=wait)
        self._busy += 1
        allowed, reason = self._limit.get()
        why = (
            f"{self._inside} requests are in progress (limit {allowed}), {len(self._waiting)} wait"
            f" (limit {self._rules.length(allowed)})"
        )
        if self._limit.lowered:
            why += f"; the first limit is lowered: {reason}"
        wait = self._retry_after_s(allowed)
        hint = f"retry in {wait} s"
        return TooManyRequestsError(what, why=why, hint=hint, retry_after_s=wait)

    def _retry_after_s(self, allowed: int) -> int:
        """Estimate when the requests that are here now will have been answered."""
        ahead = self._inside + len(self._waiting)
        seconds = (self._service_s or 0.0) * ahead / allowed
        return min(max(1, math.ceil(seconds)), _LONGEST_RETRY_S)
