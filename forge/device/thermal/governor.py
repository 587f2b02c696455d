"""Limit concurrent requests by temperature. Pure: readings and times are arguments.

    below start (throttle_c - margin_c)    the maximum that the bundle decodes together
    start … critical_c                     fewer, in proportion
    critical_c and above                   the profile's floor, at once

The limit falls at most every `lower_every_s` (at critical_c without waiting) and rises by a step at
most every `raise_every_s`, and only once a temperature `hysteresis_c` higher would allow it too.
A single outlier changes nothing: the median of the last three readings counts. Without readings
the limit stays, and falls to half after `lost_after` failed ones: both the maximum and the floor
could be wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

__all__ = ["Decision", "GovernorBounds", "GovernorState", "begin", "step"]

_WINDOW: Final = 3


@dataclass(frozen=True, slots=True)
class GovernorBounds:
    """Bounds of the governor; °C and seconds.

    Attributes:
        most: requests that the bundle decodes together.
        floor: the lowest limit; at most `most`.
        throttle_c: of the profile: the hardware throttles at about this temperature.
        critical_c: of the profile: from here on, the limit is the floor.
        sensor_expected: this machine has a sensor; False: it may have none.
        margin_c: the limit begins to fall this much below throttle_c.
        hysteresis_c: the limit rises only this much below the temperature that allows it.
        lower_every_s: minimum time between two steps down.
        raise_every_s: minimum time before a step up.
        lost_after: failed readings before the limit falls.
    """

    most: int
    floor: int
    throttle_c: float
    critical_c: float
    sensor_expected: bool = True
    margin_c: float = 5.0
    hysteresis_c: float = 4.0
    lower_every_s: float = 5.0
    raise_every_s: float = 30.0
    lost_after: int = 3

    @property
    def start_c(self) -> float:
        """Return the temperature at which the limit begins to fall."""
        return self.throttle_c - self.margin_c

    @property
    def least(self) -> int:
        """Return the lowest limit, which is at most that of the bundle."""
        return max(1, min(self.floor, self.most))

    @property
    def cautious(self) -> int:
        """Return the limit for an unknown temperature."""
        return max(self.least, self.most // 2)

    @property
    def stride(self) -> int:
        """Return the size of a step up."""
        return max(1, self.most // 8)

    def allowed(self, celsius: float) -> int:
        """Return the limit for a constant temperature; never higher for a higher one."""
        if celsius >= self.critical_c:
            return self.least
        if celsius <= self.start_c:
            return self.most
        share = (self.critical_c - celsius) / (self.critical_c - self.start_c)
        return self.least + math.floor((self.most - self.least) * share)


@dataclass(frozen=True, slots=True)
class GovernorState:
    """State of the governor.

    Attributes:
        limit: the current one.
        recent: the last readings, °C.
        lost: failed readings since the last good one.
        seen: whether there was a good reading.
        changed_at: when the limit changed last.
    """

    limit: int
    recent: tuple[float, ...] = ()
    lost: int = 0
    seen: bool = False
    changed_at: float = -math.inf


@dataclass(frozen=True, slots=True)
class Decision:
    """The new limit, and why."""

    concurrency: int
    reason: str


def begin(bounds: GovernorBounds, before: GovernorState | None = None) -> GovernorState:
    """Return the first state for these bounds, by the temperature of an earlier state.

    So a bundle that is activated on a hot machine does not start at its maximum.
    """
    if before is None:
        return GovernorState(limit=bounds.most)
    if before.recent:
        limit = bounds.allowed(_felt(before.recent) + bounds.hysteresis_c)
    else:
        limit = bounds.cautious if before.lost >= bounds.lost_after else bounds.most
    return replace(before, limit=limit)


def step(
    bounds: GovernorBounds, state: GovernorState, reading: float | None, now: float
) -> tuple[GovernorState, Decision]:
    """Return the state and the decision after one reading.

    Args:
        bounds: the same ones throughout the life of a state.
        state: after the last step.
        reading: the hottest sensor, °C; None: no sensor could be read.
        now: monotonic clock, s.
    """
    if reading is None:
        return _lost(bounds, state, now)
    recent = (*state.recent, reading)[-_WINDOW:]
    felt = _felt(recent)
    state = replace(state, recent=recent, lost=0, seen=True)
    target = bounds.allowed(felt)
    waited = now - state.changed_at
    if target < state.limit and (felt >= bounds.critical_c or waited >= bounds.lower_every_s):
        return _to(bounds, state, target, felt, now)
    if waited >= bounds.raise_every_s:
        easily = bounds.allowed(felt + bounds.hysteresis_c)
        if easily > state.limit:
            return _to(bounds, state, min(easily, state.limit + bounds.stride), felt, now)
    return state, Decision(state.limit, _reason(bounds, state.limit, felt))


def _felt(recent: tuple[float, ...]) -> float:
    return sorted(recent)[len(recent) // 2]


def _to(
    bounds: GovernorBounds, state: GovernorState, limit: int, felt: float, now: float
) -> tuple[GovernorState, Decision]:
    changed = replace(state, limit=limit, changed_at=now)
    return changed, Decision(limit, _reason(bounds, limit, felt))


def _lost(
    bounds: GovernorBounds, state: GovernorState, now: float
) -> tuple[GovernorState, Decision]:
    if not state.seen and not bounds.sensor_expected:
        return state, Decision(state.limit, "this machine has no temperature sensor")
    lost = state.lost + 1
    state = replace(state, lost=lost)
    if lost < bounds.lost_after:
        return state, Decision(state.limit, f"{lost} temperature readings failed")
    limit = min(state.limit, bounds.cautious)
    if limit != state.limit:
        state = replace(state, limit=limit, changed_at=now)
    # Old readings must not count together with the next one.
    state = replace(state, recent=())
    return state, Decision(limit, "the temperature can no longer be read")


def _reason(bounds: GovernorBounds, limit: int, felt: float) -> str:
    if limit == bounds.most:
        return f"{felt:.1f} °C allows the maximum"
    if felt >= bounds.critical_c:
        return f"{felt:.1f} °C is critical ({bounds.critical_c:g} °C)"
    if felt > bounds.start_c:
        return f"{felt:.1f} °C is near throttling ({bounds.throttle_c:g} °C)"
    return f"{felt:.1f} °C after a higher temperature: the limit rises slowly"
