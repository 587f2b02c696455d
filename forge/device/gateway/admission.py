"""Admission control: which requests are in Triton, which wait, which are refused.

    arrives ── a place is free, the queue is empty ────────────────────→ inside
       └────── else it waits for its turn (fair_queue.py) ── a place ──→ inside
                  ├── the queue is full, or it waited too long ────────→ 429, Retry-After
                  │   (a full queue refuses the newest of who has most in it)
                  └── no slot is active when it arrives or times out ──→ 503, Retry-After

A request stays inside until the model says that it has ended, whether its client waits or not.
The number of places is the governor's limit. When that falls, requests inside end normally and none
enters before; when a slot is swapped, requests that wait go to the new one.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import Final

from forge.device.gateway.config import QueueRules
from forge.device.gateway.errors import ServiceUnavailableError, TooManyRequestsError
from forge.device.gateway.fair_queue import FairQueue
from forge.device.power.energy_account import EnergyAccount
from forge.device.power.energy_shares import EnergyTicket
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
        caller: whose request it is.
        serving: the server with the model.
        energy: counts the request among those that share the device's energy.
        since: when it was taken, on the monotonic clock.
    """

    __slots__ = ("_admission", "_left", "caller", "energy", "serving", "since")

    def __init__(
        self, admission: Admission, caller: str, serving: ActiveServer, energy: EnergyTicket
    ) -> None:
        self._admission = admission
        self.energy = energy
        self._left = False
        self.caller = caller
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
        self,
        upstream: Upstream,
        limit: ConcurrencyLimit,
        rules: QueueRules | None = None,
        energy: EnergyAccount | None = None,
    ) -> None:
        self._upstream = upstream
        self._energy = energy or EnergyAccount()
        self._limit = limit
        self._rules = rules or QueueRules()
        self._waiting: FairQueue[asyncio.Future[ActiveServer]] = FairQueue()
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

    async def enter(self, caller: str = "") -> Place:
        """Wait for a place in the active slot; `leave` it.

        Args:
            caller: whose request it is; callers share the places and the queue.

        Raises:
            TooManyRequestsError: the queue is full, or the request waited too long.
            ServiceUnavailableError: no slot is active.
        """
        serving = None if self._waiting else self._take(caller)
        if serving is None:
            serving = await self._wait(caller)
        self._admitted += 1
        return Place(self, caller, serving, self._energy.begin())

    def leave(self, place: Place) -> None:
        """Make a place free; Place.leave calls it once."""
        self._energy.end(place.energy)
        self._observe(time.monotonic() - place.since)
        self._leave(place.caller, place.serving)

    def _take(self, caller: str) -> ActiveServer | None:
        allowed, _ = self._limit.get()
        if self._inside >= allowed:
            return None
        serving = self._upstream.enter()
        if serving is not None:
            self._inside += 1
            self._waiting.entered(caller)
        return serving

    def _leave(self, caller: str, serving: ActiveServer) -> None:
        self._inside -= 1
        self._waiting.left(caller)
        self._upstream.leave(serving)
        self._admit()

    async def _wait(self, caller: str) -> ActiveServer:
        self._make_room(caller)
        waiter: asyncio.Future[ActiveServer] = asyncio.get_running_loop().create_future()
        self._waiting.push(caller, waiter)
        self._queued += 1
        self._start_polling()
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._rules.max_wait_s):
                return await self._turn(caller, waiter)
        except TimeoutError:
            seconds = self._rules.max_wait_s
            raise self._refused(f"No place became free within {seconds:g} s") from None
        finally:
            self._waited_s += time.monotonic() - began

    async def _turn(self, caller: str, waiter: asyncio.Future[ActiveServer]) -> ActiveServer:
        try:
            return await waiter
        except BaseException:
            waits = self._waiting.remove(caller, waiter)
            if not waits and not waiter.cancelled() and waiter.exception() is None:
                # The place became free at the same moment as the timeout.
                self._leave(caller, waiter.result())
            raise

    def _make_room(self, caller: str) -> None:
        """Refuse a request, this one or a waiting one, if the queue is full."""
        serving, _ = self._upstream.get()
        allowed, _ = self._limit.get()
        if serving is not None and len(self._waiting) < self._rules.length(allowed):
            return
        found = self._waiting.newest_of_longest(caller) if serving is not None else None
        if found is None:
            raise self._refused("The queue is full")
        _, newest = found
        if not newest.done():  # else it is cancelled, and its task has not run yet
            what = "The queue is full, and another caller has fewer requests in it"
            newest.set_exception(self._refused(what))
        self._waiting.remove(*found)

    def _start_polling(self) -> None:
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll())

    async def _poll(self) -> None:
        while self._waiting:
            self._admit()
            await asyncio.sleep(_POLL_S)

    def _admit(self) -> None:
        while found := self._waiting.next():
            caller, waiter = found
            if not waiter.done():  # else it is cancelled, and its task has not run yet
                serving = self._take(caller)
                if serving is None:
                    return
                waiter.set_result(serving)
            self._waiting.remove(caller, waiter)

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
