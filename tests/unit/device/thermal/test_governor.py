"""The controller against recorded, made-up and random curves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.device.thermal.governor import GovernorBounds, GovernorState, begin, step

EIGHT = GovernorBounds(most=8, floor=1, throttle_c=83, critical_c=90)
PERIOD_S = 2.0

Readings = Iterable[float | None]


@dataclass(frozen=True)
class Moment:
    """One step as a test looks at it."""

    at: float
    reading: float | None
    limit: int
    reason: str


def run(
    bounds: GovernorBounds, readings: Readings, state: GovernorState | None = None
) -> list[Moment]:
    state = state or begin(bounds)
    moments = []
    for number, reading in enumerate(readings):
        at = number * PERIOD_S
        state, decision = step(bounds, state, reading, at)
        assert decision.concurrency == state.limit
        moments.append(Moment(at, reading, decision.concurrency, decision.reason))
    return moments


def limits(moments: Sequence[Moment]) -> list[int]:
    return [moment.limit for moment in moments]


def changes(moments: Sequence[Moment]) -> list[Moment]:
    return [late for early, late in pairwise(moments) if late.limit != early.limit]


def ramp(first: float, last: float, seconds: float) -> list[float]:
    count = int(seconds / PERIOD_S)
    return [first + (last - first) * number / count for number in range(count + 1)]


def test_a_cool_device_serves_all() -> None:
    assert set(limits(run(EIGHT, [45.0] * 100))) == {8}


def test_a_slow_ramp_is_met_before_the_hardware_throttles() -> None:
    moments = run(EIGHT, ramp(60, 95, 600))
    first = next(moment for moment in moments if moment.limit < 8)
    assert first.reading is not None
    assert EIGHT.start_c < first.reading < EIGHT.throttle_c
    at_throttle = next(moment for moment in moments if (moment.reading or 0) >= EIGHT.throttle_c)
    assert at_throttle.limit <= 5
    assert moments[-1].limit == 1
    assert limits(moments) == sorted(limits(moments), reverse=True)
    assert len(set(limits(moments))) >= 6  # in steps, not at one blow


def test_below_critical_it_waits_between_two_steps_down() -> None:
    falls = changes(run(EIGHT, ramp(77, 89, 20)))
    assert len(falls) >= 3
    assert min(late.at - early.at for early, late in pairwise(falls)) >= EIGHT.lower_every_s


def test_critical_means_the_floor_without_waiting() -> None:
    state, _ = step(EIGHT, begin(EIGHT), 80.0, 0.0)
    state, _ = step(EIGHT, state, 91.0, 1.0)
    _, decision = step(EIGHT, state, 91.0, 2.0)
    assert decision.concurrency == 1
    assert decision.reason == "91.0 °C is critical (90 °C)"


def test_a_device_that_starts_hot_does_not_wait_for_three_readings() -> None:
    assert run(EIGHT, [95.0])[0].limit == 1


@pytest.mark.parametrize(("most", "floor", "least"), [(8, 3, 3), (2, 4, 2), (1, 1, 1)])
def test_it_never_falls_below_the_profiles_floor(most: int, floor: int, least: int) -> None:
    bounds = replace(EIGHT, most=most, floor=floor)
    assert run(bounds, [120.0] * 20)[-1].limit == least


def test_it_rises_slowly_and_to_the_top() -> None:
    _, *cooling = run(EIGHT, [95.0, *[50.0] * 200])
    rises = changes(cooling)
    assert [moment.limit for moment in rises] == [2, 3, 4, 5, 6, 7, 8]
    gaps = [late.at - early.at for early, late in pairwise(rises)]
    assert min(gaps) >= EIGHT.raise_every_s


def test_a_temperature_that_sways_at_the_edge_makes_no_limit_sway() -> None:
    edge = EIGHT.start_c
    moments = run(EIGHT, [edge + (1.5 if number // 5 % 2 else -1.5) for number in range(1000)])
    assert len(changes(moments)) <= 1


@pytest.mark.parametrize("absurd", [140.0, -50.0, 0.0])
def test_one_absurd_reading_changes_nothing(absurd: float) -> None:
    for steady in (50.0, 81.0):
        readings = [steady] * 50
        calm = limits(run(EIGHT, readings))
        readings[25] = absurd
        assert limits(run(EIGHT, readings)) == calm


def test_two_hot_readings_are_believed() -> None:
    assert run(EIGHT, [50.0] * 10 + [95.0] * 2)[-1].limit == 1


def test_a_sensor_that_is_lost_brings_half_and_not_nothing() -> None:
    moments = run(EIGHT, [50.0] * 5 + [None] * 100)
    assert limits(moments)[:7] == [8] * 7
    assert moments[7].limit == 4
    assert set(limits(moments)[7:]) == {4}
    assert moments[6].reason == "2 temperature readings failed"
    assert moments[-1].reason == "the temperature can no longer be read"


def test_a_sensor_that_is_lost_while_hot_does_not_raise_the_limit() -> None:
    moments = run(EIGHT, [95.0] * 5 + [None] * 100)
    assert set(limits(moments)) == {1}


def test_a_sensor_that_comes_back_raises_slowly() -> None:
    moments = run(EIGHT, [50.0] * 5 + [None] * 10 + [50.0] * 100)
    assert limits(moments)[-1] == 8
    assert [moment.limit for moment in changes(moments)] == [4, 5, 6, 7, 8]


def test_what_was_read_before_a_loss_does_not_speak_for_what_is_read_after() -> None:
    assert run(EIGHT, [50.0] * 5 + [None] * 10 + [95.0])[-1].limit == 1


def test_single_lost_readings_change_nothing() -> None:
    moments = run(EIGHT, [50.0, None, None] * 100)
    assert set(limits(moments)) == {8}


def test_a_machine_that_never_had_a_sensor_is_not_held_back() -> None:
    moments = run(replace(EIGHT, sensor_expected=False), [None] * 50)
    assert set(limits(moments)) == {8}
    assert moments[-1].reason == "this machine has no temperature sensor"


def test_a_machine_that_must_have_a_sensor_and_shows_none_is_held_back() -> None:
    assert run(EIGHT, [None] * 10)[-1].limit == 4


def test_a_sensor_that_was_seen_once_is_missed_anywhere() -> None:
    moments = run(replace(EIGHT, sensor_expected=False), [50.0, *[None] * 10])
    assert moments[-1].limit == 4


def test_a_bundle_activated_on_a_hot_machine_starts_where_the_temperature_puts_it() -> None:
    four = replace(EIGHT, most=4)
    hot, _ = step(EIGHT, begin(EIGHT), 95.0, 0.0)
    cool, _ = step(EIGHT, begin(EIGHT), 45.0, 0.0)
    gone = begin(EIGHT)
    for number in range(5):
        gone, _ = step(EIGHT, gone, None, float(number))
    found = [begin(four, state).limit for state in (None, hot, cool, gone)]
    assert found == [4, 1, 4, 2]


def test_temperatures_in_the_wrong_order_still_give_an_answer() -> None:
    bounds = replace(EIGHT, throttle_c=90, critical_c=70)
    assert [bounds.allowed(celsius) for celsius in (60.0, 69.9, 70.0, 95.0)] == [8, 8, 1, 1]


# tegrastats of a Thor under load: cpu, soc and tj of FACTS, and a made-up rise from there.
def test_a_thor_at_rest_is_far_from_its_limits() -> None:
    thor = GovernorBounds(most=4, floor=1, throttle_c=95, critical_c=105)
    assert set(limits(run(thor, [38.875] * 10))) == {4}


@pytest.mark.parametrize(("full_c", "never_c"), [(79, 83), (85, 83), (95, 83), (120, 85)])
@pytest.mark.parametrize("most", [2, 4, 8, 64])
def test_a_body_that_heats_with_its_load_is_held_before_throttling(
    full_c: float, never_c: float, most: int
) -> None:
    """A first-order body: `full_c` at full load, 35 °C at rest, one minute to follow.

    One that would reach 120 °C shoots past throttle_c for a moment, by less than two degrees.
    """
    bounds = replace(EIGHT, most=most)
    state, celsius, seen = begin(bounds), 35.0, []
    for number in range(3600):
        state, _ = step(bounds, state, celsius, number * PERIOD_S)
        goal = 35.0 + (full_c - 35.0) * state.limit / most
        celsius += (goal - celsius) * PERIOD_S / 60
        seen.append((celsius, state.limit))
    assert max(celsius for celsius, _ in seen) < never_c
    served = sum(limit for _, limit in seen) / len(seen) / most
    assert served > 0.8 * min(1.0, (bounds.start_c - 35) / (full_c - 35))  # and not held too low


readings = st.one_of(st.none(), st.floats(-55, 150))
bounded = st.builds(
    GovernorBounds,
    most=st.integers(1, 256),
    floor=st.integers(1, 300),
    throttle_c=st.floats(40, 110),
    critical_c=st.floats(40, 120),
    sensor_expected=st.booleans(),
)


@given(bounded, st.lists(readings, max_size=200))
def test_the_limit_is_always_between_floor_and_most(
    bounds: GovernorBounds, curve: list[float | None]
) -> None:
    for moment in run(bounds, curve):
        assert bounds.least <= moment.limit <= bounds.most
        assert moment.reason


@given(bounded, st.lists(readings, max_size=30), st.floats(-55, 150), st.floats(0, 100))
def test_a_hotter_reading_never_allows_more(
    bounds: GovernorBounds, before: list[float | None], celsius: float, more: float
) -> None:
    state = begin(bounds)
    for number, reading in enumerate(before):
        state, _ = step(bounds, state, reading, number * PERIOD_S)
    now = len(before) * PERIOD_S
    _, cooler = step(bounds, state, celsius, now)
    _, hotter = step(bounds, state, celsius + more, now)
    assert hotter.concurrency <= cooler.concurrency


@given(bounded, st.floats(-55, 150), st.floats(-55, 150))
def test_what_is_allowed_falls_with_the_temperature(
    bounds: GovernorBounds, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    assert bounds.allowed(high) <= bounds.allowed(low)


@given(bounded, st.lists(readings, min_size=30, max_size=300))
def test_no_curve_makes_it_sway(bounds: GovernorBounds, curve: list[float | None]) -> None:
    moments = run(bounds, curve)
    ups = [late.at for early, late in pairwise(moments) if late.limit > early.limit]
    for start in ups:
        assert len([at for at in ups if start <= at < start + 60]) <= 2
    for start in (moment.at for moment in moments):
        within = [one for one in changes(moments) if start <= one.at < start + 60]
        assert len(within) <= 2 + 60 / bounds.lower_every_s + 4


@given(bounded, st.floats(-55, 150))
def test_a_steady_temperature_brings_a_steady_limit(bounds: GovernorBounds, celsius: float) -> None:
    steps = bounds.most // bounds.stride + 2
    moments = run(bounds, [celsius] * int(steps * (bounds.raise_every_s / PERIOD_S + 1)))
    assert len({moment.limit for moment in moments[-10:]}) == 1
    assert moments[-1].limit <= bounds.allowed(celsius)


@given(st.lists(st.floats(-55, 150), min_size=1, max_size=50), st.integers(0, 40))
def test_a_clock_that_stands_still_or_jumps_breaks_nothing(curve: list[float], jump: int) -> None:
    state = begin(EIGHT)
    for number, celsius in enumerate(curve):
        state, decision = step(EIGHT, state, celsius, float(jump * number % 7))
        assert 1 <= decision.concurrency <= 8


def test_the_default_bounds() -> None:
    given = EIGHT.margin_c, EIGHT.hysteresis_c, EIGHT.lower_every_s, EIGHT.raise_every_s
    assert given == (5.0, 4.0, 5.0, 30.0)


@pytest.mark.parametrize(("most", "stride"), [(1, 1), (8, 1), (63, 7), (64, 8), (72, 9)])
def test_a_step_up_is_an_eighth(most: int, stride: int) -> None:
    assert replace(EIGHT, most=most).stride == stride


@pytest.mark.parametrize(
    ("most", "floor", "least", "cautious"), [(8, 0, 1, 4), (1, 1, 1, 1), (8, 6, 6, 6)]
)
def test_the_floor_is_one_or_more_and_caution_is_half(
    most: int, floor: int, least: int, cautious: int
) -> None:
    bounds = replace(EIGHT, most=most, floor=floor)
    assert (bounds.least, bounds.cautious) == (least, cautious)


@pytest.mark.parametrize(
    ("limit", "celsius", "reason"),
    [
        (8, 50.0, "50.0 °C allows the maximum"),
        (4, 50.0, "50.0 °C after a higher temperature: the limit rises slowly"),
        (4, 78.0, "78.0 °C after a higher temperature: the limit rises slowly"),
        (4, 79.0, "79.0 °C is near throttling (83 °C)"),
        (4, 90.0, "90.0 °C is critical (90 °C)"),
        (4, 95.0, "95.0 °C is critical (90 °C)"),
    ],
)
def test_each_decision_says_why(limit: int, celsius: float, reason: str) -> None:
    _, decision = step(EIGHT, GovernorState(limit, changed_at=0.0), celsius, 1.0)
    assert decision.reason == reason


@pytest.mark.parametrize(
    ("before", "limit"),
    [
        (GovernorState(8, recent=(77.0,)), 6),  # as at 81 °C
        (GovernorState(8, lost=2), 8),
        (GovernorState(8, lost=3), 4),
    ],
)
def test_a_bundle_begins_as_the_last_state_says(before: GovernorState, limit: int) -> None:
    assert begin(EIGHT, before).limit == limit


@pytest.mark.parametrize(("waited", "limit"), [(29.9, 4), (30.0, 5)])
def test_a_step_up_comes_after_thirty_seconds_exactly(waited: float, limit: int) -> None:
    _, decision = step(EIGHT, GovernorState(4, changed_at=0.0), 50.0, waited)
    assert decision.concurrency == limit


@pytest.mark.parametrize(("waited", "limit"), [(4.9, 8), (5.0, 5)])
def test_a_step_down_comes_after_five_seconds_exactly(waited: float, limit: int) -> None:
    _, decision = step(EIGHT, GovernorState(8, changed_at=0.0), 83.0, waited)
    assert decision.concurrency == limit


@pytest.mark.parametrize(("celsius", "limit"), [(89.9, 8), (90.0, 1)])
def test_the_critical_temperature_itself_does_not_wait(celsius: float, limit: int) -> None:
    _, decision = step(EIGHT, GovernorState(8, changed_at=0.0), celsius, 1.0)
    assert decision.concurrency == limit


@pytest.mark.parametrize("recent", [(50.0, 95.0), (95.0, 50.0)])
def test_of_two_readings_the_hotter_counts(recent: tuple[float, ...]) -> None:
    assert begin(EIGHT, GovernorState(8, recent=recent)).limit == 1


def test_two_cool_readings_after_hot_ones_count() -> None:
    state = GovernorState(1, recent=(95.0, 95.0, 95.0), changed_at=0.0)
    state, once = step(EIGHT, state, 50.0, 40.0)
    _, twice = step(EIGHT, state, 50.0, 42.0)
    assert (once.concurrency, twice.concurrency) == (1, 2)


# At 50 °C all are allowed, at 83 °C five.
@pytest.mark.parametrize(("limit", "steady", "at"), [(8, 50.0, 30.0), (5, 83.0, 6.0)])
def test_a_reading_that_changes_no_limit_starts_no_wait(
    limit: int, steady: float, at: float
) -> None:
    state, same = step(EIGHT, GovernorState(limit, changed_at=0.0), steady, at)
    _, lowered = step(EIGHT, state, 86.0, at + 2.0)
    assert (same.concurrency, lowered.concurrency) == (limit, 3)


@pytest.mark.parametrize(
    ("limit", "celsius", "after"),
    [
        (48, 50.0, 56),  # a whole step
        (60, 50.0, 64),  # no more than the bundle decodes
        (44, 77.0, 48),  # no more than 81 °C allows
    ],
)
def test_a_step_up_ends_at_what_is_allowed(limit: int, celsius: float, after: int) -> None:
    bounds = replace(EIGHT, most=64)
    _, decision = step(bounds, GovernorState(limit, changed_at=0.0), celsius, 30.0)
    assert decision.concurrency == after


def test_a_sensor_counts_as_lost_at_the_third_failure_from_the_start() -> None:
    assert limits(run(EIGHT, [None] * 4)) == [8, 8, 4, 4]


@pytest.mark.parametrize(
    ("limit", "back_at", "after"),
    [
        (8, 69.9, 4),  # the loss lowered it at 40 s
        (8, 70.0, 5),
        (4, 42.0, 5),  # the loss left it as it was since 0 s
    ],
)
def test_after_a_loss_the_wait_for_a_step_up_counts_from_the_last_change(
    limit: int, back_at: float, after: int
) -> None:
    state = GovernorState(limit, lost=2, seen=True, changed_at=0.0)
    state, lost = step(EIGHT, state, None, 40.0)
    _, back = step(EIGHT, state, 50.0, back_at)
    assert (lost.concurrency, back.concurrency) == (4, after)
