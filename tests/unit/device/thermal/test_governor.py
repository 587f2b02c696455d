"""The governor against curves, single steps, and random ones; bodies are in test_heat_bodies.py."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.device.thermal.governor import (
    GovernorBounds,
    GovernorState,
    HeatLook,
    Reading,
    begin,
    step,
)

EIGHT = GovernorBounds(most=8, floor=1)
PERIOD_S = 2.0
THROTTLE_C, CRITICAL_C = 83.0, 90.0

Seen = float | None | tuple[float | None, float]


@dataclass(frozen=True)
class Moment:
    """One step as a test looks at it."""

    at: float
    limit: int
    reason: str
    state: GovernorState


def reading(celsius: float) -> Reading:
    return Reading(celsius, THROTTLE_C, CRITICAL_C)


def look(seen: Seen) -> HeatLook:
    """A temperature, or one with the share of the clocks that heat takes."""
    celsius, share = seen if isinstance(seen, tuple) else (seen, None)
    return HeatLook(None if celsius is None else reading(celsius), share)


def run(
    bounds: GovernorBounds, curve: Iterable[Seen], state: GovernorState | None = None
) -> list[Moment]:
    state = state or begin(bounds)
    moments = []
    for number, seen in enumerate(curve):
        at = number * PERIOD_S
        state, decision = step(bounds, state, look(seen), at)
        assert decision.concurrency == state.limit
        moments.append(Moment(at, decision.concurrency, decision.reason, state))
    return moments


def limits(moments: Sequence[Moment]) -> list[int]:
    return [moment.limit for moment in moments]


def changes(moments: Sequence[Moment]) -> list[Moment]:
    return [late for early, late in pairwise(moments) if late.limit != early.limit]


def levels(moments: Sequence[Moment]) -> list[int]:
    return [moment.limit for moment in changes(moments)]


def ramp(first: float, last: float, seconds: float) -> list[float]:
    count = int(seconds / PERIOD_S)
    return [first + (last - first) * number / count for number in range(count + 1)]


def guarded(celsius: float, share: float, seconds: float) -> list[Seen]:
    return [(celsius, share)] * int(seconds / PERIOD_S)


# Where the hardware does not say whether it throttles.


@pytest.mark.parametrize("celsius", [-20.0, 45.0, 78.0, 82.9])
def test_a_steady_temperature_below_the_throttling_one_allows_all(celsius: float) -> None:
    assert set(limits(run(EIGHT, [celsius] * 1000))) == {8}


@pytest.mark.parametrize("celsius", [83.0, 86.0, 89.9])
def test_a_temperature_that_stays_too_high_leaves_no_constant_error(celsius: float) -> None:
    moments = run(EIGHT, [celsius] * 200)
    assert moments[-1].limit == 1
    assert limits(moments) == sorted(limits(moments), reverse=True)


def test_a_ramp_is_met_before_it_reaches_the_throttling_temperature() -> None:
    curve = ramp(60, 84, 120)  # 0.2 K/s: reaches 83 at 115 s
    first = changes(run(EIGHT, curve))[0]
    assert 79 < curve[int(first.at / PERIOD_S)] < 81  # 20 s before, less the delay of the medians


def test_a_slow_ramp_is_met_later_than_a_steep_one() -> None:
    found = []
    for seconds in (40, 400):
        curve = ramp(60, 90, seconds)
        found.append(curve[int(changes(run(EIGHT, curve))[0].at / PERIOD_S)])
    assert found[0] < found[1] < THROTTLE_C


def test_a_temperature_that_falls_is_waited_for() -> None:
    state = GovernorState(8, changed_at=-100.0)
    moments = run(EIGHT, ramp(89, 83, 60), state)
    assert set(limits(moments)) == {8}


def test_a_step_down_comes_after_twelve_seconds_and_after_six_near_critical() -> None:
    for celsius, pause in ((84.0, 12.0), (87.0, 6.0)):
        falls = changes(run(EIGHT, [celsius] * 40))
        gaps = {late.at - early.at for early, late in pairwise(falls)}
        assert gaps == {pause}


def test_a_strong_trend_takes_more_than_one_step() -> None:
    assert levels(run(EIGHT, ramp(35, 80, 22)))[0] == 6  # 2 K/s: 83 is passed by 16 K in 20 s


def test_critical_means_the_floor_without_waiting() -> None:
    state, _ = step(EIGHT, begin(EIGHT), look(80.0), 0.0)
    state, _ = step(EIGHT, state, look(91.0), 1.0)
    _, decision = step(EIGHT, state, look(91.0), 2.0)
    assert decision.concurrency == 1
    assert decision.reason == "91.0 °C is critical (90 °C)"


@pytest.mark.parametrize(("celsius", "limit"), [(89.9, 8), (90.0, 1)])
def test_the_critical_temperature_itself_is_critical(celsius: float, limit: int) -> None:
    assert run(EIGHT, [celsius])[0].limit == limit


def test_the_hardware_critical_is_critical_too() -> None:
    assert run(EIGHT, [(90.0, 0.1)])[0].limit == 1


@pytest.mark.parametrize(("most", "floor", "least"), [(8, 3, 3), (2, 4, 2), (1, 1, 1)])
def test_it_never_falls_below_the_profiles_floor(most: int, floor: int, least: int) -> None:
    bounds = replace(EIGHT, most=most, floor=floor)
    assert run(bounds, [120.0] * 20)[-1].limit == least
    assert run(bounds, [85.0] * 200)[-1].limit == least


def test_what_was_too_much_is_not_tried_again_for_ten_minutes() -> None:
    hot = [83.5] * 10  # one step down
    moments = run(EIGHT, hot + [60.0] * 600)
    assert levels(moments) == [7, 8]
    down, up = changes(moments)
    assert up.at - down.at == EIGHT.retry_s


def test_each_failed_try_doubles_the_time_to_the_next() -> None:
    state, at = begin(EIGHT), 0.0
    tries: list[float] = []
    for _ in range(30_000):
        celsius = 84.0 if state.limit == 8 else 78.5  # 7 is cool enough and 8 is not
        before = state.limit
        state, _ = step(EIGHT, state, look(celsius), at)
        tries += [at] if before < 8 == state.limit else []
        at += PERIOD_S
    waits = [round((late - early) / 60) for early, late in pairwise(tries)]
    assert waits[:4] == [20, 40, 80, 80]


def test_a_try_that_held_makes_the_next_failure_the_first() -> None:
    state = GovernorState(8, changed_at=0.0, retried_at=0.0, retry_s=1200.0)
    known = tuple((float(at), look(84.0)) for at in range(1180, 1190, 2))
    state = replace(state, recent=known)
    early, _ = step(EIGHT, state, look(84.0), 1199.0)
    late, _ = step(EIGHT, state, look(84.0), 1200.0)
    assert (early.retry_at - 1199, late.retry_at - 1200) == (1200, 600)


def test_between_a_good_limit_and_one_that_was_too_much_it_goes_half_way() -> None:
    bounds = replace(EIGHT, most=64)
    state = GovernorState(40, changed_at=0.0, too_much=48, retry_at=math.inf)
    found, at = [], 0.0
    for _ in range(200):
        state, _ = step(bounds, state, look(60.0), at)
        found.append(state.limit)
        at += PERIOD_S
    assert list(dict.fromkeys(found)) == [40, 44, 46, 47]


def test_it_rises_in_steps_of_thirty_seconds() -> None:
    moments = run(EIGHT, [50.0] * 200, GovernorState(1, changed_at=0.0))
    rises = changes(moments)
    assert levels(moments) == [2, 3, 4, 5, 6, 7, 8]
    gaps = [late.at - early.at for early, late in pairwise(rises)]
    assert set(gaps) == {30.0}


@pytest.mark.parametrize(("waited", "limit"), [(28.0, 4), (30.0, 5)])
def test_a_step_up_comes_after_thirty_seconds_exactly(waited: float, limit: int) -> None:
    curve = [50.0] * int(1 + waited / PERIOD_S)
    assert run(EIGHT, curve, GovernorState(4, changed_at=0.0))[-1].limit == limit


@pytest.mark.parametrize(("celsius", "limit"), [(79.0, 5), (79.1, 4)])
def test_a_step_up_needs_room_of_four_kelvin(celsius: float, limit: int) -> None:
    state = GovernorState(4, changed_at=0.0)
    assert run(EIGHT, [celsius] * 16, state)[-1].limit == limit


@pytest.mark.parametrize(("limit", "after"), [(48, 49), (6, 6)])
def test_nearer_than_that_a_step_up_is_as_large_as_the_heat_of_each_request_allows(
    limit: int, after: int
) -> None:
    bounds = replace(EIGHT, most=64)
    # 55 K above a room at 25 °C: 48 requests more than one K each, and 83 °C is 3 K away.
    state = GovernorState(limit, changed_at=0.0)
    assert run(bounds, [80.0] * 16, state)[-1].limit == after


def test_a_temperature_that_rises_fast_leaves_no_room() -> None:
    state = GovernorState(4, changed_at=-100.0)
    assert set(limits(run(EIGHT, ramp(71, 76, 16), state))) == {4}  # 6 K in 20 s
    assert run(EIGHT, [76.0] * 8, state)[-1].limit == 5


# Where it says whether it throttles.


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_the_hardware_is_left_to_hold_its_temperature(share: float) -> None:
    moments = run(EIGHT, guarded(84.4, share, 3600))
    assert set(limits(moments)) == {8}
    if share:
        said = f"84.4 °C: heat takes {share:.0%} of the clocks, which is left to the hardware"
        assert moments[-1].reason == said


def test_a_ramp_towards_its_own_limit_is_left_to_the_hardware() -> None:
    assert set(limits(run(EIGHT, [(one, 0.0) for one in ramp(40, 84, 30)]))) == {8}


def test_clocks_below_what_is_tolerated_are_traded_for_batch() -> None:
    moments = run(EIGHT, guarded(83.0, 0.7, 62))
    assert levels(moments) == [7]
    assert moments[-1].reason == "83.0 °C: heat takes 70% of the clocks"


def given_back(share_by_limit: dict[int, float], seconds: float = 1200) -> list[Moment]:
    """A body that throttles by the limit, at its throttling temperature."""
    state, at, moments = begin(EIGHT), 0.0, []
    while at < seconds:
        seen = look((83.0, share_by_limit[state.limit]))
        state, decision = step(EIGHT, state, seen, at)
        moments.append(Moment(at, decision.concurrency, decision.reason, state))
        at += PERIOD_S
    return moments


def test_it_trades_until_the_clocks_are_back_to_what_is_tolerated() -> None:
    moments = given_back({8: 0.9, 7: 0.8, 6: 0.7, 5: 0.58})
    assert levels(moments)[:3] == [7, 6, 5]
    assert min(limits(moments)) == 5


def test_a_step_that_gives_nothing_back_is_undone_and_not_repeated_soon() -> None:
    moments = given_back(dict.fromkeys(range(1, 9), 0.9), 3600)
    down, up, again, *_ = changes(moments)
    assert (down.limit, up.limit, again.limit) == (7, 8, 7)
    assert up.at - down.at == EIGHT.settle_s
    assert again.at - up.at >= EIGHT.retry_s
    assert [round(one.at / 60) for one in changes(moments)] == [1, 2, 12, 13, 33, 34]


def test_a_step_that_gives_a_little_back_is_worth_it_by_its_size() -> None:
    worth = 0.2 / 8  # a fifth of an eighth of the batch
    kept = given_back({8: 0.62, 7: 0.62 - worth - 0.001}, 200)
    undone = given_back({8: 0.62, 7: 0.62 - worth + 0.001}, 200)
    assert (kept[-1].limit, undone[-1].limit) == (7, 8)


def test_the_hardware_that_does_not_hold_its_temperature_is_helped() -> None:
    assert run(EIGHT, guarded(84.6, 0.4, 60))[-1].limit < 8
    assert run(EIGHT, guarded(84.6, 0.4, 600))[-1].limit == 1


def test_hardware_that_would_not_hold_it_below_critical_is_helped_at_once() -> None:
    steep = ramp(59, 85, 26)  # 1 K/s: 10 K beyond critical in 20 s
    moments = run(EIGHT, [(one, 0.1) for one in steep])
    [first] = changes(moments)
    assert 83 <= steep[int(first.at / PERIOD_S)] <= 85  # not before the hardware throttles
    assert first.limit == 6
    slow = [(one, 0.1) for one in ramp(80.5, 84.4, 26)]
    assert set(limits(run(EIGHT, slow))) == {8}


def test_with_the_clocks_back_the_limit_rises_again() -> None:
    state = GovernorState(6, changed_at=0.0, too_much=7, retry_at=100.0)
    moments = run(EIGHT, guarded(82.0, 0.5, 300), state)
    assert levels(moments) == [7, 8]
    held = run(EIGHT, guarded(82.0, 0.55, 300), state)
    assert levels(held) == []


# Sensors.


@pytest.mark.parametrize("absurd", [140.0, -50.0, 0.0])
def test_one_absurd_reading_changes_nothing(absurd: float) -> None:
    for steady in (50.0, 77.0):
        curve = [steady] * 50
        calm = limits(run(EIGHT, curve))
        curve[25] = absurd
        assert limits(run(EIGHT, curve)) == calm


def test_two_hot_readings_are_believed() -> None:
    assert run(EIGHT, [50.0] * 10 + [95.0] * 2)[-1].limit == 1


def test_the_sensor_nearest_to_its_own_limit_counts_and_not_the_hottest() -> None:
    cool_disk = HeatLook(Reading(75.0, 70.0, 80.0))
    board = HeatLook(Reading(88.0, 99.0, 104.0))
    state, _ = step(EIGHT, begin(EIGHT), cool_disk, 0.0)
    state, _ = step(EIGHT, state, board, 1.0)
    _, decision = step(EIGHT, state, board, 2.0)
    assert decision.reason.startswith("88.0 °C")


def test_a_sensor_that_is_lost_brings_half_and_not_nothing() -> None:
    moments = run(EIGHT, [50.0] * 5 + [None] * 100)
    assert limits(moments)[:7] == [8] * 7
    assert set(limits(moments)[7:]) == {4}
    assert moments[6].reason == "2 temperature readings failed"
    assert moments[-1].reason == "the temperature can no longer be read"


def test_a_lost_temperature_beside_hardware_that_says_how_it_throttles_brings_no_loss() -> None:
    moments = run(EIGHT, [(50.0, 0.0)] * 5 + [(None, 0.0)] * 100)
    assert set(limits(moments)) == {8}
    assert moments[-1].reason == "no temperature; the hardware says how it throttles"


def test_a_sensor_that_is_lost_while_hot_does_not_raise_the_limit() -> None:
    assert set(limits(run(EIGHT, [95.0] * 5 + [None] * 100))) == {1}


def test_a_sensor_that_comes_back_cool_brings_back_what_was_before_at_once() -> None:
    moments = run(EIGHT, [50.0] * 5 + [None] * 10 + [50.0] * 3)
    assert levels(moments) == [4, 8]
    assert moments[-2].limit == 4  # after three readings


def test_a_sensor_that_comes_back_warm_brings_nothing_back_at_once() -> None:
    moments = run(EIGHT, [50.0] * 5 + [None] * 10 + [79.5] * 10)
    assert moments[-1].limit == 4


def test_what_was_read_before_a_loss_does_not_speak_for_what_is_read_after() -> None:
    assert run(EIGHT, [50.0] * 5 + [None] * 10 + [95.0])[-1].limit == 1


def test_single_lost_readings_change_nothing() -> None:
    assert set(limits(run(EIGHT, [50.0, None, None] * 100))) == {8}


def test_a_sensor_counts_as_lost_at_the_third_failure_from_the_start() -> None:
    assert limits(run(EIGHT, [None] * 4)) == [8, 8, 4, 4]


def test_a_machine_that_never_had_a_sensor_is_not_held_back() -> None:
    moments = run(replace(EIGHT, sensor_expected=False), [None] * 50)
    assert set(limits(moments)) == {8}
    assert moments[-1].reason == "this machine has no temperature sensor"


def test_a_sensor_that_was_seen_once_is_missed_anywhere() -> None:
    moments = run(replace(EIGHT, sensor_expected=False), [50.0, *[None] * 10])
    assert moments[-1].limit == 4


# The first state of a bundle.


@pytest.mark.parametrize(
    ("before", "celsius", "limit"),
    [
        (None, None, 8),
        (GovernorState(2), 60.0, 8),
        (GovernorState(2), 82.9, 8),
        (GovernorState(2), 83.0, 4),
        (GovernorState(2), 90.0, 1),
        (GovernorState(2, lost=2), None, 8),
        (GovernorState(2, lost=3), None, 4),
    ],
)
def test_a_bundle_begins_where_the_last_reading_puts_it(
    before: GovernorState | None, celsius: float | None, limit: int
) -> None:
    last = None if celsius is None else reading(celsius)
    assert begin(EIGHT, before, last).limit == limit


def test_a_sensor_seen_under_the_last_bundle_is_missed_under_the_next() -> None:
    bounds = replace(EIGHT, sensor_expected=False)
    state = begin(bounds, run(bounds, [50.0])[-1].state)
    assert run(bounds, [None] * 5, state)[-1].limit == 4


@pytest.mark.parametrize(("most", "stride"), [(1, 1), (8, 1), (63, 7), (64, 8), (72, 9)])
def test_a_step_is_an_eighth(most: int, stride: int) -> None:
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
    ("limit", "seen", "reason"),
    [
        (8, 50.0, "50.0 °C allows the maximum"),
        (4, 50.0, "50.0 °C after a higher temperature: the limit rises slowly"),
        (4, 79.0, "79.0 °C after a higher temperature: the limit rises slowly"),
        (4, 79.1, "79.1 °C is near throttling (83 °C)"),
        (4, (82.0, 0.25), "82.0 °C: heat takes 25% of the clocks"),
    ],
)
def test_each_decision_says_why(limit: int, seen: Seen, reason: str) -> None:
    _, decision = step(EIGHT, GovernorState(limit, changed_at=0.0), look(seen), 1.0)
    assert decision.reason == reason


# Any curve.

temperatures = st.one_of(st.none(), st.floats(-55, 150))
seen_once = st.one_of(temperatures, st.tuples(temperatures, st.floats(0, 1)))
bounded = st.builds(
    GovernorBounds,
    most=st.integers(1, 256),
    floor=st.integers(1, 300),
    sensor_expected=st.booleans(),
)


@given(bounded, st.lists(seen_once, max_size=200))
def test_the_limit_is_always_between_floor_and_most(
    bounds: GovernorBounds, curve: list[Seen]
) -> None:
    for moment in run(bounds, curve):
        assert bounds.least <= moment.limit <= bounds.most
        assert moment.reason


@given(bounded, st.lists(seen_once, max_size=30), st.floats(-55, 150), st.floats(0, 100))
def test_a_hotter_reading_never_allows_more(
    bounds: GovernorBounds, before: list[Seen], celsius: float, more: float
) -> None:
    state = begin(bounds)
    for number, seen in enumerate(before):
        state, _ = step(bounds, state, look(seen), number * PERIOD_S)
    now = len(before) * PERIOD_S
    _, cooler = step(bounds, state, look(celsius), now)
    _, hotter = step(bounds, state, look(celsius + more), now)
    assert hotter.concurrency <= cooler.concurrency


@given(bounded, st.lists(seen_once, max_size=100))
def test_two_critical_readings_bring_the_floor(bounds: GovernorBounds, curve: list[Seen]) -> None:
    assert run(bounds, [*curve, 90.0, 90.0])[-1].limit == bounds.least


@given(bounded, st.lists(seen_once, min_size=30, max_size=300))
def test_no_curve_makes_it_change_often(bounds: GovernorBounds, curve: list[Seen]) -> None:
    moments = run(bounds, curve)
    ups = [late for early, late in pairwise(moments) if late.limit > early.limit]
    for early, late in pairwise(ups):
        # But for the return to what was before a loss, which takes three lost readings.
        assert late.at - early.at >= min(bounds.raise_every_s, 6 * PERIOD_S)
    downs = [late for early, late in pairwise(moments) if late.limit < early.limit]
    for early, late in pairwise(downs):
        critical = late.limit == bounds.least
        lost = "no longer be read" in late.reason
        assert critical or lost or late.at - early.at >= bounds.urgent_every_s


@given(bounded, st.one_of(st.floats(-55, 150), st.tuples(st.floats(-55, 150), st.floats(0, 1))))
def test_a_steady_look_brings_few_changes_in_a_day(bounds: GovernorBounds, seen: Seen) -> None:
    assert len(changes(run(bounds, [seen] * 1800))) <= 25  # in an hour, the descent with it


@given(st.lists(st.floats(-55, 150), min_size=1, max_size=50), st.integers(0, 40))
def test_a_clock_that_stands_still_or_jumps_breaks_nothing(curve: list[float], jump: int) -> None:
    state = begin(EIGHT)
    for number, celsius in enumerate(curve):
        state, decision = step(EIGHT, state, look(celsius), float(jump * number % 7))
        assert 1 <= decision.concurrency <= 8
