"""Compute AIPerf's metrics from times. Pure; times are seconds of one monotonic clock.

Names, units and formulas are those of NVIDIA AIPerf 0.13 (package index: `aiperf`, modules
`aiperf.metrics.types.*`; the file is named with each formula below), so that the figures can be
compared with those of any other server. A chunk is one streamed event that holds text.

    time_to_first_token               first chunk - request start                ttft_metric
    request_latency                   last chunk - request start               request_latency_metric
    inter_token_latency               (request latency - TTFT) ÷ (tokens - 1)  inter_token_latency_metric
    inter_chunk_latency               gaps between two chunks of a request     inter_chunk_latency_metric
    output_token_throughput_per_user  1 ÷ inter_token_latency                    output_token_throughput_metrics
    output_token_throughput           tokens ÷ benchmark duration                output_token_throughput_metrics
    request_throughput                valid requests ÷ benchmark duration        request_throughput_metric
    goodput                           requests within the SLO ÷ duration         goodput_metric
    benchmark duration                first request start to last chunk          benchmark_duration_metric
    energy_per_output_token           energy ÷ tokens                            power_efficiency_metrics
    energy_per_request                energy ÷ valid requests                    power_efficiency_metrics
    average_power, total_energy       W, J; AIPerf: of GPUs only                 power_efficiency_metrics

Only valid requests count (AIPerf: no error, at least one chunk). The mean and the confidence
interval over runs are those of `aiperf.orchestrator.aggregation.confidence`: Student's t with
n - 1 degrees of freedom.
"""  # noqa: E501  one table row for each metric

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev
from typing import Final

from forge.smoke.result import Estimate, Level, RequestStatistics, RunSample, Slo

__all__ = [
    "ProcessorTime",
    "RequestTimes",
    "RunTimes",
    "estimate",
    "level",
    "percentile",
    "t_critical",
]

_MS: Final = 1000.0
# Quantiles 0.975 of Student's t distribution for 1 to 30 degrees of freedom, then the usual steps
# (NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2); scipy is not needed for one column.
_T_975: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_T_LARGE: Final = ((40, 2.021), (60, 2.000), (120, 1.980))
_NORMAL_975: Final = 1.960


@dataclass(frozen=True, slots=True)
class RequestTimes:
    """Times of one request, measured by the client.

    Attributes:
        sent: time at which the request was sent.
        chunks: time at which each piece of text arrived.
        output_tokens: number of tokens of the response, 0 if it failed.
        error: the error; empty if there was none.
    """

    sent: float
    chunks: tuple[float, ...]
    output_tokens: int
    error: str = ""

    @property
    def valid(self) -> bool:
        """Whether the request counts: it did not fail, and returned text."""
        return not self.error and bool(self.chunks)

    @property
    def time_to_first_token(self) -> float:
        """Return seconds from the request to its first chunk."""
        return self.chunks[0] - self.sent

    @property
    def request_latency(self) -> float:
        """Return seconds from the request to its last chunk."""
        return self.chunks[-1] - self.sent

    @property
    def inter_token_latency(self) -> float | None:
        """Return seconds between two tokens; None for fewer than two tokens."""
        if self.output_tokens < 2:  # noqa: PLR2004
            return None
        return (self.request_latency - self.time_to_first_token) / (self.output_tokens - 1)

    @property
    def inter_chunk_latencies(self) -> list[float]:
        """Return seconds of each gap between two chunks."""
        return [late - early for early, late in pairwise(self.chunks)]

    def within(self, slo: Slo) -> bool:
        """Whether the request keeps every limit of an SLO; a figure that it lacks keeps none."""
        itl = self.inter_token_latency
        ttft_kept = slo.ttft_ms is None or self.time_to_first_token * _MS <= slo.ttft_ms
        itl_kept = slo.itl_ms is None or (itl is not None and itl * _MS <= slo.itl_ms)
        return ttft_kept and itl_kept


@dataclass(frozen=True, slots=True)
class ProcessorTime:
    """Time of the server's threads: computing, and ready to compute but waiting for a processor."""

    cpu_s: float
    wait_s: float

    def __sub__(self, earlier: ProcessorTime) -> ProcessorTime:
        """Return the time since an earlier reading."""
        return ProcessorTime(self.cpu_s - earlier.cpu_s, self.wait_s - earlier.wait_s)


@dataclass(frozen=True, slots=True)
class RunTimes:
    """One run: its requests, and what the server took for them.

    Attributes:
        requests: all requests of the run.
        processor: processor time of the server; None: not known.
        energy_j: energy of what serves, J; None: not known.
        energy_s: the time of that energy, s.
    """

    requests: tuple[RequestTimes, ...]
    processor: ProcessorTime | None = None
    energy_j: float | None = None
    energy_s: float = 0.0

    @property
    def valid(self) -> list[RequestTimes]:
        """Return the requests that count."""
        return [request for request in self.requests if request.valid]

    @property
    def duration(self) -> float:
        """Return seconds from the first request to the last chunk; 0 without a valid request."""
        counted = self.valid
        if not counted:
            return 0.0
        return max(one.chunks[-1] for one in counted) - min(one.sent for one in counted)

    @property
    def tokens(self) -> int:
        """Return the number of tokens of all valid requests."""
        return sum(request.output_tokens for request in self.valid)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile by linear interpolation between ranks, as numpy does by default.

    Raises ValueError for no values.
    """
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def t_critical(count: int) -> float:
    """Return the quantile 0.975 of Student's t distribution with `count` - 1 degrees of freedom.

    Between two entries of the table the larger value is used, so an interval is never too narrow.
    Raises ValueError for fewer than two values.
    """
    if count < 2:  # noqa: PLR2004
        raise ValueError("an interval requires two values")
    if count - 1 <= len(_T_975):
        return _T_975[count - 2]
    below = [value for degrees, value in _T_LARGE if degrees <= count - 1]
    if not below:
        return _T_975[-1]
    return below[-1] if count - 1 < 1000 else _NORMAL_975  # noqa: PLR2004


def estimate(values: Sequence[float]) -> Estimate | None:
    """Return the mean of one figure over the runs and its 95 % interval; None for no runs.

    One run has no interval.
    """
    return _mean(values) if values else None


def _mean(values: Sequence[float]) -> Estimate:
    mean = fmean(values)
    if len(values) == 1:
        return Estimate(mean=_rounded(mean), ci_low=None, ci_high=None)
    margin = t_critical(len(values)) * stdev(values) / math.sqrt(len(values))
    return Estimate(
        mean=_rounded(mean), ci_low=_rounded(mean - margin), ci_high=_rounded(mean + margin)
    )


def level(concurrency: int, runs: Sequence[RunTimes], slo: Slo) -> Level:
    """Return the metrics of all runs at one concurrency."""
    requests = [request for run in runs for request in run.requests]
    failed = [request.error or "no text" for request in requests if not request.valid]
    samples = tuple(_sample(run, slo) for run in runs if run.duration > 0)
    return Level(
        concurrency=concurrency,
        request_count=len(requests) - len(failed),
        error_request_count=len(failed),
        error_rate=len(failed) / len(requests) if requests else 0.0,
        error_examples=tuple(dict.fromkeys(failed))[:3],
        benchmark_duration_s=_rounded(sum(run.duration for run in runs)),
        output_tokens=sum(run.tokens for run in runs),
        time_to_first_token=_distribution(runs, lambda one: [one.time_to_first_token * _MS]),
        inter_token_latency=_distribution(runs, lambda one: _optional(_in_ms(one))),
        inter_chunk_latency=_distribution(
            runs, lambda one: [gap * _MS for gap in one.inter_chunk_latencies]
        ),
        request_latency=_distribution(runs, lambda one: [one.request_latency * _MS]),
        output_token_throughput_per_user=_distribution(
            runs, lambda one: [_MS / itl for itl in _optional(_in_ms(one)) if itl > 0]
        ),
        output_token_throughput=estimate([one.output_token_throughput for one in samples]),
        request_throughput=estimate([one.request_throughput for one in samples]),
        goodput=None if slo.empty else estimate([one.goodput or 0.0 for one in samples]),
        processor_time_per_token=estimate(_known(one.processor_ms_per_token for one in samples)),
        energy_per_output_token=estimate(_known(one.joules_per_token for one in samples)),
        energy_per_request=estimate(_known(one.joules_per_request for one in samples)),
        total_energy=estimate(_known(one.energy_j for one in samples)),
        average_power=estimate(_known(one.average_power_w for one in samples)),
        runs=samples,
    )


def _sample(run: RunTimes, slo: Slo) -> RunSample:
    itl = [value for one in run.valid for value in _optional(_in_ms(one))]
    tokens, used = run.tokens, run.processor
    good = sum(one.within(slo) for one in run.valid)
    return RunSample(
        benchmark_duration_s=_rounded(run.duration),
        output_tokens=tokens,
        time_to_first_token_ms=_rounded(fmean(one.time_to_first_token * _MS for one in run.valid)),
        inter_token_latency_ms=_rounded(fmean(itl)) if itl else None,
        output_token_throughput=_rounded(tokens / run.duration),
        request_throughput=_rounded(len(run.valid) / run.duration),
        goodput=None if slo.empty else _rounded(good / run.duration),
        processor_ms_per_token=_per(None if used is None else used.cpu_s * _MS, tokens),
        wait_ms_per_token=_per(None if used is None else used.wait_s * _MS, tokens),
        joules_per_token=_per(run.energy_j, tokens),
        joules_per_request=_per(run.energy_j, len(run.valid)),
        energy_j=_per(run.energy_j, 1),
        average_power_w=_per(run.energy_j, run.energy_s),
    )


def _distribution(
    runs: Sequence[RunTimes], values_of: Callable[[RequestTimes], list[float]]
) -> RequestStatistics | None:
    """Return each statistic as its mean over the runs; None if no run has a value."""
    by_run = [[value for one in run.valid for value in values_of(one)] for run in runs]
    counted = [values for values in by_run if values]
    if not counted:
        return None
    p50, p90, p99 = (_mean([percentile(values, at) for values in counted]) for at in (50, 90, 99))
    avg = _mean([fmean(values) for values in counted])
    return RequestStatistics(avg=avg, p50=p50, p90=p90, p99=p99)


def _in_ms(request: RequestTimes) -> float | None:
    itl = request.inter_token_latency
    return None if itl is None else itl * _MS


def _optional(value: float | None) -> list[float]:
    return [] if value is None else [value]


def _known(values: Iterable[float | None]) -> list[float]:
    """Return the values; none if one is not known, since a mean over some runs is another one."""
    found = list(values)
    return [value for value in found if value is not None] if None not in found else []


def _per(value: float | None, amount: float) -> float | None:
    return None if value is None or not amount else _rounded(value / amount)


def _rounded(value: float) -> float:
    """Return a figure with six significant digits: more than any clock gives, and readable."""
    return float(f"{value:.6g}")
