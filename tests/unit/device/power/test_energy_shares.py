"""The energy of requests, against a sum over small steps that is computed in another way."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.device.power import energy_shares
from forge.device.power.energy_shares import MAX_GAP_S, EnergyShares, EnergyTicket
from forge.energy.power_reading import PowerReading

UNKNOWN = PowerReading(problem="the GPU is lost")


def watts(value: float, *, is_mean: bool = False) -> PowerReading:
    return PowerReading(value, "hwmon", "VIN", is_mean)


def test_a_request_alone_has_all_of_the_energy_while_it_runs() -> None:
    shares = EnergyShares()
    shares.sample(0, watts(10))
    ticket = shares.begin(0.5)
    shares.end(ticket, 1.5)
    assert shares.sample(2, watts(30)) == pytest.approx((20.0,))  # 15 W at 0.5 s, 25 W at 1.5 s
    assert shares.joules == pytest.approx({"hwmon": 40})
    assert shares.serving_joules == pytest.approx({"hwmon": 20})


def test_requests_at_one_time_share_it_equally() -> None:
    shares = EnergyShares()
    shares.sample(0, watts(60))
    long, first = shares.begin(0), shares.begin(0)
    shares.end(first, 1)
    second = shares.begin(1.5)
    assert shares.sample(2, watts(60)) == pytest.approx((30,))
    shares.end(second, 2.5)
    shares.end(long, 3)
    assert shares.sample(4, watts(60)) == pytest.approx((30, 30 + 30 + 15 + 15 + 30))
    assert shares.serving_joules == pytest.approx({"hwmon": 180})
    assert shares.joules == pytest.approx({"hwmon": 240})
    assert shares.running == 0


def test_a_mean_is_constant_over_its_time() -> None:
    shares = EnergyShares()
    shares.sample(0, watts(500, is_mean=True))
    shares.end(shares.begin(0), 1)
    assert shares.sample(2, watts(20, is_mean=True)) == pytest.approx((20,))
    assert shares.joules == pytest.approx({"hwmon": 40})


_TIMES = st.integers(0, 80)  # quarters of a second
_REQUESTS = st.lists(st.tuples(_TIMES, st.integers(1, 60)), max_size=8)
_SAMPLES = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 200)), min_size=2, max_size=12)


@given(_REQUESTS, _SAMPLES)
def test_it_is_the_sum_over_small_steps(
    requests: list[tuple[int, int]], steps: list[tuple[int, int]]
) -> None:
    """Changes and samples are at quarters of a second; a step is one of these."""
    spans = [(begin / 4, (begin + length) / 4) for begin, length in requests]
    at, samples = 0.0, list[tuple[float, float]]()
    for gap, power in steps:
        samples.append((at, float(power)))
        at += gap / 4
    begins = samples[0][0]
    ends = samples[-1][0]

    shares = EnergyShares()
    tickets, found = dict[int, EnergyTicket](), dict[int, float]()
    changes = sorted(
        [(begin, 1, index) for index, (begin, _) in enumerate(spans)]
        + [(end, 0, index) for index, (_, end) in enumerate(spans)]
    )
    order: list[int] = []
    for moment, drawn in samples:
        while changes and changes[0][0] <= moment:
            when, is_begin, index = changes.pop(0)
            if is_begin:
                tickets[index] = shares.begin(when)
            else:
                shares.end(tickets[index], when)
                order.append(index)
        measured = shares.sample(moment, watts(drawn))
        done = [index for index in order if spans[index][0] > begins][len(found) :]
        found |= dict(zip(done, measured, strict=False))

    total = serving = 0.0
    expected = dict.fromkeys(range(len(spans)), 0.0)
    for quarter in range(round((ends - begins) * 4)):
        middle, used = begins + quarter / 4 + 0.125, 0.0
        for (t0, w0), (t1, w1) in pairwise(samples):
            if t0 <= middle < t1:
                used = (w0 + (w1 - w0) * (middle - t0) / (t1 - t0)) / 4
        here = [index for index, (begin, end) in enumerate(spans) if begin <= middle < end]
        total += used
        serving += used if here else 0.0
        for index in here:
            expected[index] += used / len(here)
    assert sum(shares.joules.values()) == pytest.approx(total)
    assert sum(shares.serving_joules.values()) == pytest.approx(serving)
    for index, joules in found.items():
        assert joules == pytest.approx(expected[index])
    whole = [i for i, (begin, end) in enumerate(spans) if begin > begins and end <= ends]
    assert sorted(found) == whole
    assert shares.running == sum(begin <= ends < end for begin, end in spans)


@pytest.mark.parametrize(
    "gap",
    [
        [(1.0, UNKNOWN)],
        [],
        [(1.0, replace(watts(50), source="nvidia-smi"))],
        [(1.0, replace(watts(50), scope="VDD_IN"))],
    ],
)
def test_a_request_that_runs_over_a_gap_has_no_energy(
    gap: list[tuple[float, PowerReading]],
) -> None:
    shares = EnergyShares()
    shares.sample(0, watts(50))
    over = shares.begin(0.5)
    for at, reading in gap:
        assert shares.sample(at, reading) == ()
    later = MAX_GAP_S + 1
    assert shares.sample(later, watts(50)) == ()
    after = shares.begin(later + 1)
    shares.end(over, later + 1)
    shares.end(after, later + 2)
    assert shares.sample(later + 2, watts(50)) == pytest.approx((50,))  # of `after` alone
    assert (shares.unmeasured, shares.running) == (1, 0)
    assert sum(shares.joules.values()) == pytest.approx(100)


def test_what_begins_and_ends_within_a_gap_is_counted() -> None:
    shares = EnergyShares()
    shares.end(shares.begin(0), 1)
    still = shares.begin(1)
    shares.sample(2, watts(50))
    assert (shares.unmeasured, shares.running) == (1, 1)
    shares.end(still, 3)
    assert shares.sample(4, watts(50)) == ()
    assert (shares.unmeasured, shares.running) == (2, 0)
    assert shares.serving_joules == pytest.approx({"hwmon": 50})


def test_a_clock_that_stands_still_counts_nothing() -> None:
    shares = EnergyShares()
    shares.sample(5, watts(50))
    assert shares.sample(5, watts(50)) == ()
    assert shares.joules == {}


def test_requests_without_samples_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy_shares, "_MAX_PENDING", 10)
    shares = EnergyShares()
    shares.sample(0, watts(50))
    for at in range(7):
        shares.end(shares.begin(at), at)
    assert len(shares._pending) == 4
    assert shares.unmeasured == 5
    assert shares.sample(8, watts(50)) == ()
    assert (shares.unmeasured, shares.running) == (7, 0)


def test_a_reading_that_fails_once_loses_nothing() -> None:
    """100 W all the time, looked at each 2 s; one request from 0.5 s to 9 s."""
    shares = EnergyShares()
    ended: list[float] = []
    ticket = EnergyTicket()
    for at in (0, 2, 4, 6, 8, 10):
        if at == 2:
            ticket = shares.begin(0.5)
        if at == 10:
            shares.end(ticket, 9)
        ended += shares.sample(at, UNKNOWN if at == 4 else watts(100))
    assert ended == [pytest.approx(850)]
    assert shares.joules == pytest.approx({"hwmon": 1000})
    assert shares.unmeasured == 0


def test_readings_that_fail_for_long_are_a_gap() -> None:
    shares = EnergyShares()
    shares.sample(0, watts(100))
    shares.end(shares.begin(1), 2)
    for at in range(2, 14, 2):
        assert shares.sample(at, UNKNOWN) == ()
    assert shares.sample(14, watts(100)) == ()
    assert shares.joules == {}
    assert shares.unmeasured == 1
