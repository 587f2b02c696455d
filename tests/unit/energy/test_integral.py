"""Energy is the integral of the power, compared with sums over small steps."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.energy.integral import PowerSample, integrate_j


def samples(*points: tuple[float, float | None]) -> list[PowerSample]:
    return [PowerSample(at, watts) for at, watts in points]


def test_energy_is_the_integral_of_the_power() -> None:
    """A ramp from 0 W to 100 W in 10 s: 500 J; from 2 s to 4 s, 20 W to 40 W: 60 J."""
    ramp = samples(*((float(at), 10.0 * at) for at in range(11)))
    assert integrate_j(ramp, 0, 10) == pytest.approx(500)
    assert integrate_j(ramp, 2, 4) == pytest.approx(60)
    assert integrate_j(ramp, 2.5, 3.5) == pytest.approx(30)


@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(0, 300)), min_size=2, max_size=12),
    st.integers(0, 30),
    st.integers(1, 60),
)
def test_it_is_the_sum_over_small_steps(
    steps: list[tuple[int, int]], first: int, length: int
) -> None:
    """Times in quarters of a second; an independent sum in fractions, 8 steps to each quarter."""
    at, points = Fraction(0), list[tuple[Fraction, int]]()
    for gap, watts in steps:
        at += Fraction(gap, 4)
        points.append((at, watts))
    begin, end = Fraction(first, 4), Fraction(first + length, 4)

    def power(moment: Fraction) -> Fraction:
        if moment <= points[0][0]:
            return Fraction(points[0][1])
        for (t0, w0), (t1, w1) in pairwise(points):
            if moment <= t1:
                return w0 + (w1 - w0) * (moment - t0) / (t1 - t0)
        return Fraction(points[-1][1])

    width = Fraction(1, 32)
    middle = (begin + width * index + width / 2 for index in range(length * 8))
    expected = sum((power(moment) * width for moment in middle), Fraction(0))
    found = integrate_j([PowerSample(float(t), w) for t, w in points], float(begin), float(end),
                        max_gap_s=1e9)  # fmt: skip
    assert found == pytest.approx(float(expected), rel=1e-9, abs=1e-9)


def test_power_before_the_first_and_after_the_last_sample_is_theirs() -> None:
    assert integrate_j(samples((1.0, 50.0)), 0, 4) == pytest.approx(200)


def test_energy_is_not_known_without_power() -> None:
    assert integrate_j(samples((1.0, None)), 0, 2) is None
    assert integrate_j([], 0, 2) is None
    assert integrate_j(samples((1.0, 5.0)), 2, 2) is None


@pytest.mark.parametrize(
    "points",
    [
        [(0.0, 50.0), (4.0, 50.0), (9.5, 50.0), (10.0, 50.0)],  # in the middle
        [(5.5, 50.0), (10.0, 50.0)],  # at the beginning
        [(0.0, 50.0), (4.9, 50.0)],  # at the end
        [(-4.0, 50.0), (2.0, 50.0), (6.0, 50.0), (10.0, 50.0)],  # around the beginning
        [(0.0, 50.0), (3.0, None), (6.0, 50.0), (10.0, 50.0)],  # a sample without power
    ],
)
def test_energy_over_a_gap_is_not_known(points: list[tuple[float, float | None]]) -> None:
    assert integrate_j(samples(*points), 0, 10) is None


def test_a_gap_outside_of_the_time_asked_for_does_not_matter() -> None:
    far = samples((-60.0, 90.0), (0.0, 50.0), (4.0, 50.0), (90.0, 10.0))
    assert integrate_j(far, 0, 4) == pytest.approx(200)
