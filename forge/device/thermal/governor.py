"""Limit concurrent requests by heat. Pure: readings and times are arguments.

Where the hardware says whether heat lowers its clocks, lowering them is left to it: for the same
heat it costs less service than a smaller batch. Once it takes more than `tolerated` of the clocks,
or gets hotter all the same, the limit falls step by step, so that each token is fast again; a step
that gives little of the clocks back is undone. Where the hardware does not say, the temperature
decides: the limit falls before throttle_c by the trend, and once more each time the temperature
does not fall.

    no constant error  the limit is an integrator: it moves while something is wrong, and is not
                       computed from the temperature
    critical_c         the floor, at once
    no limit cycle     up in steps, half way to the lowest limit that was too much; that one is
                       tried again after a time that doubles with each failure

The medians of three readings count. Without readings the limit falls to half, not the floor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

__all__ = [
    "Decision",
    "GovernorBounds",
    "GovernorState",
    "HeatLook",
    "Reading",
    "Trial",
    "begin",
    "step",
]

_WINDOW: Final = 12
_MEDIAN: Final = 3
_ROOM: Final = 0.9
_ROOM_C: Final = 25.0
_NEAREST_K: Final = 1.0
_LEVEL_K_PER_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Reading:
    """The sensor that is nearest to its throttling temperature; °C."""

    celsius: float
    throttle_c: float
    critical_c: float

    @property
    def excess(self) -> float:
        """Return how far it is above throttle_c, K."""
        return self.celsius - self.throttle_c

    @property
    def is_critical(self) -> bool:
        """Whether only the floor is safe."""
        return self.celsius >= self.critical_c


@dataclass(frozen=True, slots=True)
class HeatLook:
    """What was seen at one time.

    Attributes:
        reading: None: no sensor could be read.
        share: of the range of its clocks that the hardware gives up because of heat, 0 to 1; None:
            it does not say.
    """

    reading: Reading | None
    share: float | None = None


@dataclass(frozen=True, slots=True)
class GovernorBounds:
    """Bounds of the governor; K and seconds.

    Attributes:
        most: requests that the bundle decodes together.
        floor: the lowest limit; at most `most`.
        sensor_expected: this machine has a sensor; False: it may have none.
        tolerated: share of the clocks that heat may take before the limit falls.
        worth: least share of the clocks that must come back for a share of the batch.
        hysteresis_c: the limit rises only this much below throttle_c.
        guarded_c: where the hardware throttles, the limit falls only this much above throttle_c.
        horizon_s: the limit falls where the trend reaches throttle_c within this time.
        strong_c: another step down at once for each of these K that the trend goes beyond.
        lower_every_s: minimum time between two steps down.
        urgent_every_s: the same, nearer to critical_c than to throttle_c.
        settle_s: minimum time before the effect of a step on the clocks is judged.
        raise_every_s: minimum time before a step up.
        retry_s: minimum time before a limit that was too much is tried again, the first time.
        guarded_retry_s: the same where the hardware throttles.
        retry_most_s: the longest such time.
        lost_after: failed readings before the limit falls.
    """

    most: int
    floor: int
    sensor_expected: bool = True
    tolerated: float = 0.6
    worth: float = 0.2
    hysteresis_c: float = 4.0
    guarded_c: float = 1.5
    horizon_s: float = 20.0
    strong_c: float = 10.0
    lower_every_s: float = 12.0
    urgent_every_s: float = 6.0
    settle_s: float = 60.0
    raise_every_s: float = 30.0
    retry_s: float = 600.0
    guarded_retry_s: float = 120.0
    retry_most_s: float = 4800.0
    lost_after: int = 3

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
        """Return the size of a step."""
        return max(1, self.most // 8)


@dataclass(frozen=True, slots=True)
class Trial:
    """A step down whose effect on the clocks is not known yet: limit and share before it."""

    limit: int
    share: float


@dataclass(frozen=True, slots=True)
class GovernorState:
    """State of the governor.

    Attributes:
        limit: the current one.
        recent: the last looks since the limit changed, with their times.
        lost: failed readings since the last good one.
        seen: whether there was a good reading.
        changed_at: when the limit changed last.
        too_much: the lowest limit that was too much; None: none is known.
        retry_at: when that one may be tried again.
        retry_s: time to wait after the next failure.
        retried_at: when one was tried last.
        trial: None: no step down is being judged.
        left_until: until then the clocks are left to the hardware: lowering the limit did not help.
        left_s: that time at the next step that does not help; 0: the first one.
        before_loss: the limit before a loss of the sensor lowered it; None: none did.
    """

    limit: int
    recent: tuple[tuple[float, HeatLook], ...] = ()
    lost: int = 0
    seen: bool = False
    changed_at: float = -math.inf
    too_much: int | None = None
    retry_at: float = -math.inf
    retry_s: float = 0.0
    retried_at: float = -math.inf
    trial: Trial | None = None
    left_until: float = -math.inf
    left_s: float = 0.0
    before_loss: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The new limit, and why."""

    concurrency: int
    reason: str


def begin(
    bounds: GovernorBounds, before: GovernorState | None = None, reading: Reading | None = None
) -> GovernorState:
    """Return the first state for these bounds.

    So a bundle that is activated on a hot machine does not start at its maximum.

    Args:
        bounds: of the bundle.
        before: the state under the bundle before.
        reading: the last one.
    """
    lost = before.lost if before else 0
    limit = bounds.most
    if reading is not None and reading.is_critical:
        limit = bounds.least
    elif lost >= bounds.lost_after or (reading is not None and reading.excess >= 0):
        limit = bounds.cautious
    return GovernorState(limit, lost=lost, seen=bool(before and before.seen))


def step(
    bounds: GovernorBounds, state: GovernorState, look: HeatLook, now: float
) -> tuple[GovernorState, Decision]:
    """Return the state and the decision after one look.

    Args:
        bounds: the same ones throughout the life of a state.
        state: after the last step.
        look: what was seen.
        now: monotonic clock, s.
    """
    if look.reading is None:
        return _lost(bounds, state, look, now)
    # A new bundle is watched for as long as after a change.
    since = now if state.changed_at == -math.inf else state.changed_at
    recent = (*state.recent, (now, look))[-_WINDOW:]
    state = replace(state, recent=recent, lost=0, seen=True, changed_at=since)
    felt = _felt(state)
    if felt.is_critical:
        why = f"{felt.celsius:.1f} °C is critical ({felt.critical_c:g} °C)"
        return _lower(bounds, state, bounds.least, now), Decision(bounds.least, why)
    waited = now - since
    state = _found(bounds, state, felt, now)
    state = _by_temperature(bounds, state, felt, now)
    if state.changed_at != now and waited >= bounds.settle_s:
        state = _by_clocks(bounds, state, now)
    if state.changed_at != now and waited >= bounds.raise_every_s:
        state = _raise(bounds, state, felt, now)
    return state, Decision(state.limit, _reason(bounds, state, felt))


def _by_temperature(
    bounds: GovernorBounds, state: GovernorState, felt: Reading, now: float
) -> GovernorState:
    """Lower the limit where the temperature is too high, or will be, and does not fall."""
    half = (felt.critical_c - felt.throttle_c) / 2
    slope, expected = _slope(state), felt.excess
    if slope is None or slope <= -_LEVEL_K_PER_S:
        return state
    rise = max(0.0, slope) * bounds.horizon_s
    if _share(state) is None:
        expected += rise
    elif expected < 0:  # the hardware guards throttle_c
        return state
    else:  # what is left is that this does not suffice
        expected = max(expected - bounds.guarded_c, expected + rise - 2 * half)
    pause = bounds.urgent_every_s if felt.excess >= half else bounds.lower_every_s
    if expected < 0 or now - state.changed_at < pause:
        return state
    strides = 1 + int(expected / bounds.strong_c)
    return _lower(bounds, state, state.limit - strides * bounds.stride, now)


def _by_clocks(bounds: GovernorBounds, state: GovernorState, now: float) -> GovernorState:
    """Trade batch for clocks: lower the limit, and undo a step that gives too little back."""
    share, trial = _share(state), state.trial
    if share is None:
        return replace(state, trial=None)
    if trial is not None:
        given = (trial.limit - state.limit) / trial.limit
        if trial.share - share < bounds.worth * given:
            undone = _change(state, trial.limit, now)
            wait = state.left_s or bounds.retry_s
            longer = min(2 * wait, bounds.retry_most_s)
            return replace(undone, left_until=now + wait, left_s=longer, too_much=None)
        state = replace(state, trial=None, left_s=0.0)
    if share <= bounds.tolerated or now < state.left_until:
        return state
    lowered = _lower(bounds, state, state.limit - bounds.stride, now)
    lower = lowered.limit < state.limit
    return replace(lowered, trial=Trial(state.limit, share)) if lower else state


def _raise(
    bounds: GovernorBounds, state: GovernorState, felt: Reading, now: float
) -> GovernorState:
    """Raise the limit where there is room, but not to one that was too much a short time ago."""
    share, slope = _share(state), _slope(state)
    if slope is None:
        return state
    retrying = state.too_much is not None and now >= state.retry_at
    if state.too_much is None or retrying:
        target = min(state.limit + bounds.stride, bounds.most)
    else:
        target = state.limit + (state.too_much - state.limit) // 2
    if share is None:
        expected = felt.excess + max(0.0, slope) * bounds.horizon_s
        if expected > -bounds.hysteresis_c:
            target = min(target, _proportional(state, felt, expected))
    elif share > bounds.tolerated * _ROOM or felt.excess >= bounds.guarded_c / 2:
        return state
    if target <= state.limit:
        return state
    raised = _change(state, target, now)
    return replace(raised, too_much=None, retried_at=now) if retrying else raised


def _proportional(state: GovernorState, felt: Reading, expected: float) -> int:
    """Return the limit for throttle_c if each request heats alike; small steps of a large batch."""
    heat = max(1.0, felt.celsius - _ROOM_C)
    return math.floor(state.limit * (1 - (expected + _NEAREST_K) / heat))


def _lower(bounds: GovernorBounds, state: GovernorState, limit: int, now: float) -> GovernorState:
    """Lower the limit and remember which one was too much, longer after each failed try."""
    limit = max(bounds.least, limit)
    if limit >= state.limit:
        return state
    first = bounds.retry_s if _share(state) is None else bounds.guarded_retry_s
    failed = now - state.retried_at < state.retry_s
    wait = state.retry_s if failed else first
    return replace(
        _change(state, limit, now),
        too_much=state.limit,
        retry_at=now + wait,
        retry_s=min(2 * wait, bounds.retry_most_s),
    )


def _change(state: GovernorState, limit: int, now: float) -> GovernorState:
    """Set the limit; what was seen before does not tell what it does."""
    return replace(state, limit=limit, changed_at=now, recent=state.recent[-_MEDIAN:], trial=None)


def _lost(
    bounds: GovernorBounds, state: GovernorState, look: HeatLook, now: float
) -> tuple[GovernorState, Decision]:
    if look.share is not None:
        return state, Decision(state.limit, "no temperature; the hardware says how it throttles")
    if not state.seen and not bounds.sensor_expected:
        return state, Decision(state.limit, "this machine has no temperature sensor")
    lost = state.lost + 1
    state = replace(state, lost=lost)
    if lost < bounds.lost_after:
        return state, Decision(state.limit, f"{lost} temperature readings failed")
    limit = min(state.limit, bounds.cautious)
    if limit != state.limit:
        before = state.limit
        state = replace(state, limit=limit, changed_at=now, trial=None, before_loss=before)
    # Old readings must not count together with the next one.
    state = replace(state, recent=())
    return state, Decision(limit, "the temperature can no longer be read")


def _found(
    bounds: GovernorBounds, state: GovernorState, felt: Reading, now: float
) -> GovernorState:
    """Return to the limit from before a loss, once three readings say that it is cool enough."""
    if state.before_loss is None or len(_readings(state)) < _MEDIAN:
        return state
    cool = felt.excess <= -bounds.hysteresis_c and state.limit < state.before_loss
    limit = state.before_loss if cool else state.limit
    return replace(_change(state, limit, now) if cool else state, before_loss=None)


def _felt(state: GovernorState) -> Reading:
    """Return the middle one of the last three readings, by its excess."""
    last = _readings(state)[-_MEDIAN:]
    return sorted((one for _, one in last), key=lambda one: one.excess)[len(last) // 2]


def _slope(state: GovernorState) -> float | None:
    """Return the trend of the excess since the limit changed, K/s; None while it is not known."""
    readings = _readings(state)
    if len(readings) < 2 * _MEDIAN:
        return None
    (t0, first), (t1, last) = _middle(readings[:_MEDIAN]), _middle(readings[-_MEDIAN:])
    return (last - first) / (t1 - t0) if t1 > t0 else 0.0


def _middle(readings: list[tuple[float, Reading]]) -> tuple[float, float]:
    excesses = sorted(one.excess for _, one in readings)
    return readings[_MEDIAN // 2][0], excesses[_MEDIAN // 2]


def _readings(state: GovernorState) -> list[tuple[float, Reading]]:
    return [(at, look.reading) for at, look in state.recent if look.reading is not None]


def _share(state: GovernorState) -> float | None:
    """Return the mean share of the clocks that heat took; None while the hardware does not say."""
    known = [look.share for _, look in state.recent if look.share is not None]
    return sum(known) / len(known) if known else None


def _reason(bounds: GovernorBounds, state: GovernorState, felt: Reading) -> str:
    share, said = _share(state), f"{felt.celsius:.1f} °C"
    if share:
        slowed = f"{said}: heat takes {share:.0%} of the clocks"
        return f"{slowed}, which is left to the hardware" if state.limit == bounds.most else slowed
    if state.limit == bounds.most:
        return f"{said} allows the maximum"
    if felt.excess > -bounds.hysteresis_c:
        return f"{said} is near throttling ({felt.throttle_c:g} °C)"
    return f"{said} after a higher temperature: the limit rises slowly"
