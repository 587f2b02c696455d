"""Controllers of the load by heat: Forge's governor, two governors of the kernel, and a PID.

The others are written from the kernel's documentation (Documentation/driver-api/thermal) with the
number of requests in place of the state of a cooling device; they look at the temperature only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from forge.device.thermal.governor import GovernorBounds, HeatLook, Reading, begin, step
from tests.support.heat_bodies import CRITICAL_C, TRIP_C, Body, Controller, Seen

__all__ = ["CONTROLLERS", "PEERS", "BangBang", "Governor", "Pid", "StepWise"]

_HYSTERESIS_K: Final = 2.0


class Governor:
    """Forge's, as the monitor calls it."""

    def __init__(self, body: Body) -> None:
        self._bounds = GovernorBounds(most=body.most, floor=1)
        self._state = begin(self._bounds)
        self.reasons: list[str] = []

    def __call__(self, seen: Seen) -> int:
        """Return the limit after one look."""
        reading = None if seen.celsius is None else Reading(seen.celsius, TRIP_C, CRITICAL_C)
        look = HeatLook(reading, seen.share)
        self._state, decision = step(self._bounds, self._state, look, seen.at)
        return decision.concurrency


class StepWise:
    """One request fewer while it gets hotter above the trip point, one more while it cools."""

    def __init__(self, body: Body) -> None:
        self._most = self._limit = body.most
        self._last_c = TRIP_C

    def __call__(self, seen: Seen) -> int:
        """Return the limit after one look."""
        if seen.celsius is not None:
            if seen.celsius >= TRIP_C and seen.celsius > self._last_c:
                self._limit = max(1, self._limit - 1)
            elif seen.celsius < TRIP_C and seen.celsius < self._last_c:
                self._limit = min(self._most, self._limit + 1)
            self._last_c = seen.celsius
        return self._limit


class BangBang:
    """One request from the trip point on, all again 2 K below it."""

    def __init__(self, body: Body) -> None:
        self._most = self._limit = body.most

    def __call__(self, seen: Seen) -> int:
        """Return the limit after one look."""
        if seen.celsius is not None:
            if seen.celsius >= TRIP_C:
                self._limit = 1
            elif seen.celsius < TRIP_C - _HYSTERESIS_K:
                self._limit = self._most
        return self._limit


class Pid:
    """A PID on the distance to the trip point, with a bounded integral, tuned for the linear body.

    By lambda tuning: the whole batch heats by 60 K with a time constant of 60 s; 30 s are wanted.
    """

    def __init__(self, body: Body) -> None:
        self._most = body.most
        self._gain = body.most / 60 * 2
        self._integral = float(body.most)
        self._last: tuple[float, float] | None = None
        self._limit = body.most

    def __call__(self, seen: Seen) -> int:
        """Return the limit after one look."""
        if seen.celsius is None:
            return self._limit
        error, slope, passed = TRIP_C - seen.celsius, 0.0, 2.0
        if self._last is not None:
            passed = seen.at - self._last[0]
            slope = (seen.celsius - self._last[1]) / passed
        self._last = (seen.at, seen.celsius)
        proposed = self._integral + self._gain / 60 * error * passed
        self._integral = min(float(self._most), max(1.0, proposed))
        wanted = self._integral + self._gain * error - self._gain * 2.0 * slope
        self._limit = min(self._most, max(1, round(wanted)))
        return self._limit


PEERS: Final[dict[str, Callable[[Body], Controller]]] = {
    "step_wise": StepWise,
    "bang_bang": BangBang,
    "PID": Pid,
}
CONTROLLERS: Final[dict[str, Callable[[Body], Controller]]] = {"Forge": Governor, **PEERS}
