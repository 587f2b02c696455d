"""Times of events → latencies and rates. Pure; all times are seconds of one monotonic clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from forge.smoke.result import Concurrency, Percentiles

__all__ = ["RequestTimes", "percentile", "percentiles", "summarise"]


@dataclass(frozen=True, slots=True)
class RequestTimes:
    """One request as its client saw it.

    Attributes:
        sent: when it was sent.
        tokens: when each piece of text came.
        ended: when the answer was complete, or the error came.
        output_tokens: tokens of the answer, 0 if it failed.
        error: what went wrong; empty if nothing did.
    """

    sent: float
    tokens: tuple[float, ...]
    ended: float
    output_tokens: int
    error: str = ""


def percentile(values: Sequence[float], percent: float) -> float:
    """The `percent` percentile by linear interpolation between ranks, as numpy's default.

    Raises ValueError for no values.
    """
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def percentiles(seconds: Sequence[float]) -> Percentiles | None:
    """p50, p90, p99 in milliseconds; None if there are no values."""
    if not seconds:
        return None
    p50, p90, p99 = (round(percentile(seconds, at) * 1000, 3) for at in (50, 90, 99))
    return Percentiles(p50=p50, p90=p90, p99=p99)


def summarise(concurrency: int, requests: Sequence[RequestTimes]) -> Concurrency:
    """Metrics of all requests that ran at one concurrency.

    TTFT is from sending to the first piece of text; inter-token latency is every gap between two
    pieces; the rate is all output tokens over the time from the first request to the last answer.
    Failed requests count in the error rate and nowhere else but in that time.
    """
    good = [request for request in requests if not request.error]
    first = [request.tokens[0] - request.sent for request in good if request.tokens]
    gaps = [late - early for request in good for early, late in pairwise(request.tokens)]
    begin = min((request.sent for request in requests), default=0.0)
    seconds = max((request.ended for request in requests), default=0.0) - begin
    tokens = sum(request.output_tokens for request in good)
    failed = [request.error for request in requests if request.error]
    return Concurrency(
        concurrency=concurrency,
        requests=len(requests),
        errors=len(failed),
        error_rate=len(failed) / len(requests) if requests else 0.0,
        error_examples=tuple(dict.fromkeys(failed))[:3],
        seconds=round(seconds, 3),
        output_tokens=tokens,
        output_tokens_per_s=round(tokens / seconds, 3) if seconds > 0 else 0.0,
        ttft_ms=percentiles(first),
        inter_token_ms=percentiles(gaps),
    )
