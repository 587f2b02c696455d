import math
from statistics import stdev

import pytest

from forge.smoke.metrics import (
    ProcessorTime,
    RequestTimes,
    RunTimes,
    estimate,
    level,
    percentile,
    t_critical,
)
from forge.smoke.result import Estimate, RequestStatistics, Slo

NO_SLO = Slo(ttft_ms=None, itl_ms=None)


def mean(figure: RequestStatistics | Estimate | None) -> float:
    assert figure is not None
    found = figure.avg if isinstance(figure, RequestStatistics) else figure
    assert found is not None
    return found.mean


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1.0), (50, 2.5), (90, 3.7), (99, 3.97), (100, 4.0)]
)
def test_percentile_interpolates_between_ranks(percent: float, expected: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], percent) == pytest.approx(expected)


def test_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 99) == 7.0


def test_percentile_refuses_no_values() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_inter_token_latency_counts_tokens_and_inter_chunk_latency_counts_chunks() -> None:
    """Two chunks may hold five tokens: a gap of chunks is not the latency of a token."""
    one = RequestTimes(sent=10.0, chunks=(10.2, 10.6), output_tokens=5)
    assert one.time_to_first_token == pytest.approx(0.2)
    assert one.request_latency == pytest.approx(0.6)
    assert one.inter_token_latency == pytest.approx(0.1)
    assert one.inter_chunk_latencies == pytest.approx([0.4])


def test_a_response_of_one_token_has_no_inter_token_latency() -> None:
    found = level(1, [RunTimes((RequestTimes(0.0, (0.1,), 1),))], NO_SLO)
    assert found.inter_token_latency is None
    assert found.output_token_throughput_per_user is None
    assert mean(found.time_to_first_token) == pytest.approx(100)


def test_duration_is_from_the_first_request_to_the_last_chunk() -> None:
    requests = (
        RequestTimes(sent=10.0, chunks=(10.2, 10.3, 10.5), output_tokens=4),
        RequestTimes(sent=10.5, chunks=(10.9, 12.0), output_tokens=2),
    )
    found = level(2, [RunTimes(requests)], NO_SLO)
    assert found.benchmark_duration_s == 2.0
    assert mean(found.output_token_throughput) == 3.0
    assert mean(found.request_throughput) == 1.0
    assert mean(found.time_to_first_token) == pytest.approx(300)
    assert mean(found.inter_token_latency) == pytest.approx((100 + 1100) / 2)
    assert mean(found.inter_chunk_latency) == pytest.approx((100 + 200 + 1100) / 3)
    assert mean(found.output_token_throughput_per_user) == pytest.approx((10 + 1 / 1.1) / 2)


def test_each_statistic_is_the_mean_of_the_runs_and_has_an_interval() -> None:
    runs = [RunTimes((RequestTimes(0.0, (ttft, 1.0), 2),)) for ttft in (0.1, 0.2, 0.3, 0.2, 0.2)]
    found = level(1, runs, NO_SLO).time_to_first_token
    assert found is not None
    assert found.p50.mean == pytest.approx(200)
    half = 2.776 * stdev([100, 200, 300, 200, 200]) / math.sqrt(5)
    assert (found.p50.ci_low, found.p50.ci_high) == pytest.approx((200 - half, 200 + half), 1e-5)


def test_one_run_has_no_interval() -> None:
    assert estimate([5.0]) == Estimate(mean=5.0, ci_low=None, ci_high=None)
    assert estimate([]) is None


@pytest.mark.parametrize(
    ("count", "quantile"),  # scipy.stats.t.ppf(0.975, count - 1)
    [(2, 12.7062), (5, 2.7764), (10, 2.2622), (20, 2.0930), (31, 2.0423), (61, 2.0003)],
)
def test_quantiles_are_those_of_students_t(count: int, quantile: float) -> None:
    assert t_critical(count) == pytest.approx(quantile, rel=1e-3)


def test_quantile_between_two_entries_is_the_wider_one() -> None:
    assert t_critical(35) >= 2.0322  # scipy's for 34 degrees of freedom
    assert t_critical(200) >= 1.9720
    with pytest.raises(ValueError, match="two values"):
        t_critical(1)


@pytest.mark.parametrize(
    ("slo", "per_second"),
    [
        (Slo(ttft_ms=150, itl_ms=None), 1.0),
        (Slo(ttft_ms=None, itl_ms=150), 0.5),
        (Slo(ttft_ms=50, itl_ms=1000), 0.0),
        (Slo(ttft_ms=100, itl_ms=100), 0.5),
    ],
)
def test_goodput_counts_the_requests_that_keep_every_limit(slo: Slo, per_second: float) -> None:
    requests = (
        RequestTimes(0.0, (0.1, 0.2), 2),  # TTFT 100 ms, ITL 100 ms
        RequestTimes(1.0, (1.1, 2.0), 2),  # TTFT 100 ms, ITL 900 ms
    )
    assert mean(level(1, [RunTimes(requests)], slo).goodput) == pytest.approx(per_second)


def test_goodput_is_not_known_without_an_slo() -> None:
    assert level(1, [RunTimes((RequestTimes(0.0, (0.1, 0.2), 2),))], NO_SLO).goodput is None


def test_a_response_without_a_second_token_does_not_keep_a_limit_of_its_latency() -> None:
    one = RunTimes((RequestTimes(0.0, (0.1,), 1),))
    assert mean(level(1, [one], Slo(ttft_ms=None, itl_ms=100)).goodput) == 0


def test_failed_requests_count_in_the_error_rate_only() -> None:
    requests = (
        RequestTimes(sent=0.0, chunks=(0.1, 0.2), output_tokens=2),
        RequestTimes(sent=0.0, chunks=(0.9,), output_tokens=0, error="broke off"),
        RequestTimes(sent=0.0, chunks=(), output_tokens=0, error="broke off"),
        RequestTimes(sent=0.0, chunks=(), output_tokens=3),
    )
    found = level(4, [RunTimes(requests)], NO_SLO)
    assert (found.request_count, found.error_request_count, found.error_rate) == (1, 3, 0.75)
    assert found.error_examples == ("broke off", "no text")
    assert mean(found.output_token_throughput) == pytest.approx(10)
    assert mean(found.time_to_first_token) == pytest.approx(100)


def test_level_has_no_figure_when_every_request_failed() -> None:
    found = level(1, [RunTimes((RequestTimes(0.0, (), 0, "no"),))], NO_SLO)
    assert found.time_to_first_token is None
    assert found.output_token_throughput is None
    assert found.runs == ()
    assert found.error_rate == 1


def test_processor_time_and_energy_are_for_a_token() -> None:
    requests = (RequestTimes(0.0, (0.1, 0.2), 4), RequestTimes(0.0, (0.1, 0.2), 6))
    run = RunTimes(requests, ProcessorTime(0.5, 0.2), energy_j=30.0)
    found = level(1, [run, run], NO_SLO)
    assert mean(found.processor_time_per_token) == pytest.approx(50)
    assert mean(found.energy_per_output_token) == pytest.approx(3)
    assert found.runs[0].wait_ms_per_token == pytest.approx(20)


def test_a_figure_that_one_run_lacks_is_not_known() -> None:
    requests = (RequestTimes(0.0, (0.1, 0.2), 4),)
    runs = [RunTimes(requests, ProcessorTime(0.5, 0.2)), RunTimes(requests)]
    assert level(1, runs, NO_SLO).processor_time_per_token is None


def test_processor_time_between_two_readings_is_their_difference() -> None:
    assert ProcessorTime(3.0, 1.0) - ProcessorTime(1.0, 0.25) == ProcessorTime(2.0, 0.75)


def test_energy_of_a_run_is_for_its_time_and_for_a_valid_request() -> None:
    """30 J in 2 s: 15 W; two valid requests of ten tokens together, and one that failed."""
    requests = (
        RequestTimes(0.0, (0.1, 0.2), 4),
        RequestTimes(0.0, (0.1, 0.2), 6),
        RequestTimes(0.0, (), 0, "no"),
    )
    known = RunTimes(requests, energy_j=30.0, energy_s=2.0)
    more = RunTimes(requests, energy_j=40.0, energy_s=2.5)
    found = level(1, [known, more], NO_SLO)
    assert mean(found.average_power) == pytest.approx((15 + 16) / 2)
    assert mean(found.total_energy) == pytest.approx(35)
    assert mean(found.energy_per_request) == pytest.approx((15 + 20) / 2)
    assert found.runs[0].energy_j == 30
    unknown = level(1, [known, RunTimes(requests, energy_s=2.0)], NO_SLO)
    figures = (unknown.average_power, unknown.total_energy, unknown.energy_per_request)
    assert figures == (None, None, None)
    assert unknown.runs[1].average_power_w is None
