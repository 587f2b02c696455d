"""Whether a build is slower than the last one: statistics of runs and of pairs."""
# ruff: noqa: S311  the noise is seeded, so that each run of a test is the same

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest

from forge.smoke.pairs import PairLimits
from forge.smoke.regression import (
    Comparison,
    busy_share,
    compare,
    compare_pairs,
    precise,
    pseudomedian,
    robust_error,
    shift,
)
from forge.smoke.result import Pair, PairSample, RunSample
from tests.support.smoke_results import measured, sample

PROCESSOR = "processor_ms_per_token"
LATENCY = "request_latency_per_token_ms"


def pair(now: float, before: float, *, processor: float | None = None) -> Pair:
    """A pair of these latencies; its processor times have the given ratio."""

    def one(latency: float, used: float | None) -> PairSample:
        return PairSample(
            time_to_first_token_ms=10 * latency,
            inter_token_latency_ms=latency,
            request_latency_per_token_ms=latency,
            processor_ms_per_token=used,
        )

    return Pair(
        now=one(now, None if processor is None else 20 * processor),
        before=one(before, None if processor is None else 20.0),
    )


def test_shift_is_not_moved_by_single_disturbed_runs() -> None:
    quiet = [10.0, 10.1, 9.9, 10.0, 10.05]
    assert shift([*quiet, 90.0], quiet) == pytest.approx(0, abs=0.1)
    assert shift([value + 1 for value in quiet], quiet) == pytest.approx(1)


def test_shift_and_pseudomedian_are_those_of_their_definition() -> None:
    """By hand: differences 1 2 4 0 1 3, sorted 0 1 1 2 3 4; Walsh averages 1 1.5 2 3 3.5 5."""
    assert shift([2, 3, 5], [1, 2]) == 1.5
    assert pseudomedian([1, 2, 5]) == 2.5


def test_shift_refuses_no_values() -> None:
    with pytest.raises(ValueError, match="no values"):
        shift([], [1.0])


def test_robust_error_is_that_of_normal_values() -> None:
    """Seeded: 400 values of standard deviation 2 have a standard error of 0.1 · √(π/3)."""
    source = random.Random(8)
    values = [source.gauss(0, 2) for _ in range(400)]
    assert robust_error(values) == pytest.approx(0.1 * math.sqrt(math.pi / 3), rel=0.15)
    assert robust_error([*values, *[1000.0] * 4]) == pytest.approx(0.1, rel=0.2)


@pytest.mark.parametrize(
    ("changes", "regressed"),
    [
        ({"itl_ms": 15 * 1.06}, {"inter_token_latency_ms"}),
        ({"itl_ms": 15 * 1.04}, set()),
        ({"itl_ms": 15 / 1.5}, set()),
        ({"ttft_ms": 300 * 1.06}, {"time_to_first_token_ms"}),
        ({"rate": 60 / 1.06}, {"output_token_throughput"}),
        ({"rate": 60 * 1.5}, set()),
        ({"processor_ms": 20 * 1.06}, {PROCESSOR}),
    ],
)
def test_figure_regresses_from_half_of_the_refused_regression_on(
    changes: dict[str, float], regressed: set[str]
) -> None:
    now, before = measured(1, runs=[sample(**changes)] * 5), measured(1)
    found = compare(now, before, 10, gpu=False)
    assert {one.field for one in found if one.regressed} == regressed
    assert {round(one.limit_pct, 6) for one in found} == {round(100 * (math.sqrt(1.1) - 1), 6)}


@pytest.mark.parametrize("busy", ["now", "before"])
def test_wall_time_decides_nothing_if_the_processors_were_busy_in_one_of_both(busy: str) -> None:
    slow = sample(itl_ms=45, ttft_ms=900, rate=20, wait_ms=60 if busy == "now" else 0.5)
    last = sample(wait_ms=60 if busy == "before" else 0.5)
    now, before = measured(1, runs=[slow] * 5), measured(1, runs=[last] * 5)
    found = {one.field: one for one in compare(now, before, 10, gpu=False)}
    assert not any(one.regressed for one in found.values())
    assert "waited for them 75% of its time" in found["inter_token_latency_ms"].not_compared
    assert found[PROCESSOR].not_compared == ""


def test_where_a_gpu_computes_wall_time_decides_although_processors_are_busy() -> None:
    slow = sample(itl_ms=45, wait_ms=60, processor_ms=20)
    found = compare(measured(1, runs=[slow] * 5), measured(1), 10, gpu=True)
    assert {one.field for one in found if one.regressed} == {"inter_token_latency_ms"}
    assert PROCESSOR not in {one.field for one in found}


def test_too_few_runs_are_not_compared() -> None:
    assert compare(measured(1, runs=[sample()] * 4), measured(1), 10, gpu=False) == ()


def test_a_figure_that_was_not_known_then_is_not_compared() -> None:
    before = measured(1, runs=[sample(processor_ms=None, wait_ms=None)] * 5)
    fields = {one.field for one in compare(measured(1), before, 10, gpu=False)}
    assert fields == {"time_to_first_token_ms", "inter_token_latency_ms", "output_token_throughput"}


def test_share_of_waiting_is_not_known_without_a_kernel_that_counts_it() -> None:
    runs: list[RunSample] = [sample(processor_ms=None, wait_ms=None)]
    assert busy_share(runs) is None
    assert busy_share([sample(processor_ms=20, wait_ms=20)]) == 0.5


def test_pairs_cancel_a_load_that_meets_both() -> None:
    """The machine becomes five times slower on the way: each ratio is still 1.1."""
    pairs = [pair(11.0 * load, 10.0 * load) for load in (1, 1, 2, 3, 4, 5, 5, 5) * 2]
    found = {one.field: one for one in compare_pairs(pairs, 10)}
    assert found[LATENCY].slower_pct == pytest.approx(10)
    assert found[LATENCY].regressed
    assert PROCESSOR not in found


def test_pairs_that_are_too_noisy_decide_nothing() -> None:
    noise = random.Random(1)
    pairs = [pair(10 * math.exp(noise.gauss(0.06, 0.5)), 10.0, processor=1.0) for _ in range(16)]
    found = {one.field: one for one in compare_pairs(pairs, 10)}
    assert "16 pairs of requests are too noisy" in found[LATENCY].not_compared
    assert not found[LATENCY].regressed
    assert found[PROCESSOR].not_compared == ""


def test_a_few_pairs_decide_nothing_however_equal_they_are() -> None:
    found = compare_pairs([pair(20.0, 10.0, processor=2.0)] * 15, 10)
    assert not any(one.regressed for one in found)
    assert all(one.regressed for one in compare_pairs([pair(20.0, 10.0, processor=2.0)] * 16, 10))


def test_a_figure_that_is_not_a_number_refuses_the_build() -> None:
    figure = Comparison(LATENCY, "ms", 10.0, 10.0, slower_pct=0.0, margin_pct=0.0, limit_pct=5.0)
    assert not figure.regressed
    assert replace(figure, slower_pct=math.nan).regressed
    assert replace(figure, limit_pct=math.nan).regressed


def test_more_pairs_are_needed_until_every_figure_is_precise() -> None:
    noise = random.Random(2)
    some = [pair(10 * math.exp(noise.gauss(0, 0.2)), 10.0, processor=1.0) for _ in range(200)]
    assert not precise(some[:16], 10)
    assert precise(some, 10)


# Logarithms of ratios of latency, processor time and TTFT in 87 pairs of requests to two servers of
# one build, less their median (benchmarks/smoke_gate.py, docs/results/smoke.md): two processors, a
# process beside that only computes, and a load of 16 to 27 by others.
RECORDED: list[tuple[float, float, float]] = [
    tuple(one)
    for one in json.loads((Path(__file__).parent / "recorded_noise.json").read_text("utf-8"))
]


def trial(ratio: float, seed: int) -> bool:
    """Whether a build of this ratio is refused, in as many pairs as the benchmark would ask."""
    source, limits = random.Random(seed), PairLimits()
    pairs: list[Pair] = []
    for number in range(1, limits.most + 1):
        wall, used, first = (math.exp(value) * ratio for value in source.choice(RECORDED))
        now = PairSample(
            time_to_first_token_ms=300 * first,
            inter_token_latency_ms=15 * wall,
            request_latency_per_token_ms=20 * wall,
            processor_ms_per_token=20 * used,
        )
        pairs.append(Pair(now=now, before=EVEN))
        if number % 4 == 0 and limits.reached(pairs):
            break
    return any(one.regressed for one in compare_pairs(pairs, limits.refused_pct))


EVEN = PairSample(
    time_to_first_token_ms=300,
    inter_token_latency_ms=15,
    request_latency_per_token_ms=20,
    processor_ms_per_token=20,
)


def test_equal_build_passes_in_at_least_19_of_20_trials_with_recorded_noise() -> None:
    refused = [trial(1.0, seed) for seed in range(100)]
    assert sum(refused) <= 5


def test_build_10_percent_slower_is_refused_in_at_least_19_of_20_trials_with_recorded_noise() -> (
    None
):
    refused = [trial(1.1, seed) for seed in range(100)]
    assert sum(refused) >= 95
