"""AIPerf's own recorded times in our formulas give AIPerf's own figures.

`aiperf_records.json` is from a run of aiperf 0.13.0 against the real Triton with the demo's model
(benchmarks/smoke.py, two requests in parallel): for each request its times, its number of tokens
and AIPerf's metrics, and AIPerf's statistics of all of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forge.smoke.metrics import RequestTimes, RunTimes, level
from forge.smoke.result import Estimate, Level, RequestStatistics, Slo

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parent / "aiperf_records.json").read_text(encoding="utf-8")
)
EXACT = 1e-5  # we keep six digits
STATISTICS = ("avg", "p50", "p90", "p99")


def request(record: dict[str, Any]) -> RequestTimes:
    chunks = tuple(at / 1e9 for at in record["chunks_ns"])
    return RequestTimes(record["sent_ns"] / 1e9, chunks, record["output_tokens"])


@pytest.fixture(scope="module")
def found() -> Level:
    slo = Slo(**RECORDED["slo"])
    return level(2, [RunTimes(tuple(map(request, RECORDED["records"])))], slo)


@pytest.mark.parametrize("record", RECORDED["records"])
def test_figures_of_each_request_are_aiperf_s(record: dict[str, Any]) -> None:
    one, metrics = request(record), record["metrics"]
    itl = one.inter_token_latency
    assert itl is not None
    assert one.time_to_first_token * 1000 == pytest.approx(metrics["time_to_first_token"], EXACT)
    assert one.request_latency * 1000 == pytest.approx(metrics["request_latency"], EXACT)
    assert itl * 1000 == pytest.approx(metrics["inter_token_latency"], EXACT)
    per_user = metrics["output_token_throughput_per_user"]
    assert 1 / itl == pytest.approx(per_user, EXACT)
    gaps = [gap * 1000 for gap in one.inter_chunk_latencies]
    assert gaps == pytest.approx(metrics["inter_chunk_latency"], rel=EXACT, abs=1e-4)
    assert one.within(Slo(**RECORDED["slo"])) == bool(record["good"])


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize(
    "name",
    [
        "time_to_first_token",
        "request_latency",
        "inter_token_latency",
        "inter_chunk_latency",
        "output_token_throughput_per_user",
    ],
)
def test_statistics_of_all_requests_are_aiperf_s(found: Level, name: str, statistic: str) -> None:
    figure: RequestStatistics = getattr(found, name)
    one: Estimate = getattr(figure, statistic)
    assert one.mean == pytest.approx(RECORDED["aggregate"][name][statistic], EXACT)


@pytest.mark.parametrize("name", ["output_token_throughput", "request_throughput", "goodput"])
def test_rates_of_the_run_are_aiperf_s(found: Level, name: str) -> None:
    """AIPerf divides by its phase, which begins before the first request: here 0.5 % longer."""
    one: Estimate = getattr(found, name)
    of_the_phase = one.mean * found.benchmark_duration_s / RECORDED["window_s"]
    assert of_the_phase == pytest.approx(RECORDED["aggregate"][name]["avg"], 2 * EXACT)
    assert one.mean == pytest.approx(RECORDED["aggregate"][name]["avg"], rel=0.01)


def test_duration_is_aiperf_s(found: Level) -> None:
    expected = RECORDED["aggregate"]["benchmark_duration"]["avg"]
    assert found.benchmark_duration_s == pytest.approx(expected, EXACT)


def test_the_record_tells_good_requests_from_others() -> None:
    """Otherwise the tests above would pass a goodput that counts all requests, or none."""
    assert {record["good"] for record in RECORDED["records"]} == {0, 1}
