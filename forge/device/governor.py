"""How many requests at once a temperature allows. Pure: readings and times come from outside.

    start     throttle_c - margin     below: all that the bundle can decode together
    start … critical_c                ever fewer, in proportion
    critical_c                        the profile's floor, at once

The limit falls at most every `lower_every_s` (at critical_c without waiting) and rises by a step at
most every `raise_every_s`, and only once a temperature `hysteresis_c` higher would allow it too.
One absurd reading changes nothing: the middle of the last three counts. Without readings the limit
stays, and after `lost_after` of them falls to half: neither all nor nothing is safe to assume.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

__all__ = ["Bounds", "Decision", "State", "begin", "step"]

_WINDOW: Final = 3


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the governor must keep to; °C and seconds.

    Attributes:
        most: requests that the bundle decodes together.
        floor: never fewer than this; not more than `most`.
        throttle_c: of the profile: the hardware throttles about here.
        critical_c: of the profile: the floor from here on.
        sensor_expected: this machine has a sensor; False: one may never be seen.
        margin_c: lower the load this much before throttle_c.
        hysteresis_c: raise only this much below the temperature that allows it.
        lower_every_s: least time between two steps down.
        raise_every_s: least time before a step up.
        lost_after: readings that must fail before the limit falls.
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
        """Where lowering begins."""
        return self.throttle_c - self.margin_c

    @property
    def least(self) -> int:
        """The floor, as far as the bundle reaches it."""
        return max(1, min(self.floor, self.most))

    @property
    def cautious(self) -> int:
        """For when no temperature is known any more."""
        return max(self.least, self.most // 2)

    @property
    def stride(self) -> int:
        """One step up."""
        return max(1, self.most // 8)

    def allowed(self, celsius: float) -> int:
        """Requests at once for a steady temperature; never more for a higher one."""
        if celsius >= self.critical_c:
            return self.least
        if celsius <= self.start_c:
            return self.most
        share = (self.critical_c - celsius) / (self.critical_c - self.start_c)
        return self.least + math.floor((self.most - self.least) * share)


@dataclass(frozen=True, slots=True)
class State:
    """What the governor remembers.

    Attributes:
        limit: in force.
        recent: the last readings, °C.
        lost: readings that failed since the last good one.
        seen: whether there ever was a good one.
        changed_at: when the limit changed last.
    """

    limit: int
    recent: tuple[float, ...] = ()
    lost: int = 0
    seen: bool = False
    changed_at: float = -math.inf


@dataclass(frozen=True, slots=True)
class Decision:
    """Requests at once from now on, and why."""

    concurrency: int
    reason: str


def begin(bounds: Bounds, before: State | None = None) -> State:
    """The first state under these bounds, where an earlier state's temperature puts it.

    So a bundle that is activated on a hot machine does not start with all it can decode.
    """
    if before is None:
        return State(limit=bounds.most)
    if before.recent:
        limit = bounds.allowed(_felt(before.recent) + bounds.hysteresis_c)
    else:
        limit = bounds.cautious if before.lost >= bounds.lost_after else bounds.most
    return replace(before, limit=limit)


def step(bounds: Bounds, state: State, reading: float | None, now: float) -> tuple[State, Decision]:
    """Take one reading.

    Args:
        bounds: to keep to; the same for the whole life of a state.
        state: after the last step.
        reading: the hottest sensor, °C; None: no sensor answered.
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
    bounds: Bounds, state: State, limit: int, felt: float, now: float
) -> tuple[State, Decision]:
    changed = replace(state, limit=limit, changed_at=now)
    return changed, Decision(limit, _reason(bounds, limit, felt))


def _lost(bounds: Bounds, state: State, now: float) -> tuple[State, Decision]:
    if not state.seen and not bounds.sensor_expected:
        return state, Decision(state.limit, "no temperature sensor is here")
    lost = state.lost + 1
    state = replace(state, lost=lost)
    if lost < bounds.lost_after:
        return state, Decision(state.limit, f"{lost} temperature readings failed")
    limit = min(state.limit, bounds.cautious)
    if limit != state.limit:
        state = replace(state, limit=limit, changed_at=now)
    # What was read long ago must not speak for what is read next.
    state = replace(state, recent=())
    return state, Decision(limit, "no temperature can be read any more")


def _reason(bounds: Bounds, limit: int, felt: float) -> str:
    if limit == bounds.most:
        return f"{felt:.1f} °C allows all"
    if felt >= bounds.critical_c:
        return f"{felt:.1f} °C is critical ({bounds.critical_c:g} °C)"
    if felt > bounds.start_c:
        return f"{felt:.1f} °C is near throttling ({bounds.throttle_c:g} °C)"
    return f"{felt:.1f} °C after more: the limit rises slowly"
