"""Forge's governor and others on simulated bodies: what docs/results/heat.md says of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.heat_bodies import BODIES, CRITICAL_C, TRIP_C, Body, Seen, simulate
from tests.support.heat_controllers import PEERS, BangBang, Governor, Pid, StepWise

BY_NAME = {body.name: body for body in BODIES}
LINEAR = Body("linear", 95)
ALONE = [body for body in BODIES if body.guarded and body.sensor is None]


# The bodies and the others do what is said of them.


def test_a_body_reaches_the_temperature_that_it_is_named_after() -> None:
    full = simulate(replace(LINEAR, guarded=False), lambda _seen: 8, hours=0.5, noise_k=0)
    assert full.hottest_c == pytest.approx(95, abs=0.1)
    assert (full.service, full.changes, full.clock) == (1.0, 0.0, 1.0)
    half = simulate(replace(LINEAR, guarded=False), lambda _seen: 4, hours=0.5, noise_k=0)
    assert half.hottest_c == pytest.approx(65, abs=0.1)
    assert half.service == 0.5


def test_few_requests_heat_a_saturating_body_nearly_as_much_as_many() -> None:
    body = replace(LINEAR, saturating=True)
    assert body.heat(8, 1.0) == pytest.approx(95)
    assert body.heat(4, 1.0) > 35 + 0.8 * 60


def test_hardware_that_throttles_holds_its_trip_point_by_itself() -> None:
    alone = simulate(replace(LINEAR, full_c=120), lambda _seen: 8, hours=1)
    assert TRIP_C < alone.hottest_c < TRIP_C + 3
    assert alone.above < 0.05
    assert alone.clock < 0.8


@pytest.mark.parametrize("make", PEERS.values(), ids=PEERS)
def test_each_of_the_others_leaves_a_cool_body_alone(make: type[StepWise | BangBang | Pid]) -> None:
    outcome = simulate(BY_NAME["cool, 75 °C"], make(BY_NAME["cool, 75 °C"]), hours=0.5)
    assert (outcome.service, outcome.changes) == (1.0, 0.0)


def test_a_pid_holds_a_linear_body_at_the_trip_point() -> None:
    body = replace(LINEAR, guarded=False)
    outcome = simulate(body, Pid(body), hours=1)
    assert outcome.service == pytest.approx((TRIP_C - 35) / 60, abs=0.02)


def test_bang_bang_is_full_or_nothing() -> None:
    control = BangBang(LINEAR)
    curve = [80.0, 83.0, 82.0, 81.1, 80.9, 82.9, 83.0]
    assert [control(Seen(0.0, one, None)) for one in curve] == [8, 1, 1, 1, 8, 8, 1]


def test_step_wise_moves_with_the_trend() -> None:
    control = StepWise(LINEAR)
    curve = [80.0, 84.0, 85.0, 84.5, 83.5, 82.5, 82.0, 82.4]
    assert [control(Seen(0.0, one, None)) for one in curve] == [8, 7, 6, 6, 6, 7, 8, 8]


# Forge's.


@pytest.mark.parametrize("body", ALONE, ids=[body.name for body in ALONE])
def test_on_hardware_that_throttles_it_changes_least_and_is_seldom_above(body: Body) -> None:
    ours = simulate(body, Governor(body), hours=1)
    others = {name: simulate(body, make(body), hours=1) for name, make in PEERS.items()}
    assert ours.changes <= min(one.changes for one in others.values())
    assert ours.above <= others["PID"].above + 0.001
    assert ours.hottest_c < CRITICAL_C


@pytest.mark.parametrize("kind", ["linear", "saturating"])
@pytest.mark.parametrize("full", ["95 °C", "120 °C"])
def test_it_gives_as_much_service_as_the_best_of_the_others(kind: str, full: str) -> None:
    body = BY_NAME[f"{kind}, {full}"]
    best = max(simulate(body, make(body), hours=2).service for make in PEERS.values())
    assert simulate(body, Governor(body), hours=2).service >= best - 0.005


def test_with_a_batch_of_two_it_does_not_change_at_all_where_hardware_throttles() -> None:
    body = BY_NAME["linear, 95 °C, batch 2"]
    assert simulate(body, Governor(body), hours=1).changes == 0


@pytest.mark.parametrize("name", ["linear, 95 °C", "linear, 120 °C", "batch 64, 95 °C"])
def test_where_hardware_says_nothing_it_loses_at_most_one_step_and_is_never_above(
    name: str,
) -> None:
    body = BY_NAME[f"says nothing, {name}"]
    ours = simulate(body, Governor(body), hours=1)
    sustained = (TRIP_C - 35) / (body.full_c - 35)
    assert ours.service > sustained - 1 / 8
    assert ours.above == 0
    assert ours.changes < 10


def test_a_lost_sensor_beside_throttling_costs_nothing_and_a_stuck_one_is_not_fatal() -> None:
    lost = BY_NAME["dropouts, 95 °C"]
    alone = simulate(LINEAR, Governor(LINEAR), hours=1)
    assert simulate(lost, Governor(lost), hours=1).service == pytest.approx(alone.service, abs=0.01)
    stuck = BY_NAME["stuck sensor, 120 °C"]
    assert simulate(stuck, Governor(stuck), hours=1).hottest_c < CRITICAL_C


@settings(max_examples=8, deadline=None)
@given(
    full_c=st.floats(60, 160),
    most=st.sampled_from([1, 2, 4, 8, 32]),
    saturating=st.booleans(),
    guarded=st.booleans(),
)
def test_on_no_body_does_it_swing(
    full_c: float, most: int, *, saturating: bool, guarded: bool
) -> None:
    body = Body("any", full_c, most=most, saturating=saturating, guarded=guarded)
    limits = []
    governor = Governor(body)

    def control(seen: Seen) -> int:
        limits.append(governor(seen))
        return limits[-1]

    simulate(body, control, hours=1)
    late = limits[len(limits) // 3 :]
    assert sum(one != other for one, other in pairwise(late)) <= 12
    if full_c < TRIP_C - 6:
        assert set(limits) == {most}
