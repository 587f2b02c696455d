"""Compare two servers side by side: the same request to both, in turn, until the ratio is known.

On a machine that other programs use, two benchmarks at two times differ by more than two builds do.
Two requests within a second mostly meet the same load, and their ratio cancels it. Which server is
asked first alternates. The number of pairs follows from the noise: pairs are added until the
standard error of the deciding figures is small enough, or the limit is reached. The limits come
from noise that was recorded next to processes that only compute: docs/results/smoke.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from forge.serving.triton.request import GenerateRequest
from forge.serving.triton.server import TritonServer
from forge.smoke.metrics import RequestTimes
from forge.smoke.processor import processor_time
from forge.smoke.regression import MIN_PAIRS, compare_pairs, precise
from forge.smoke.result import Pair, PairSample

__all__ = ["PairLimits", "Send", "compare_servers"]

_MS: Final = 1000.0
_CHECKED: Final = 4  # pairs between two looks: fewer looks are fewer chances to stop by luck

Send = Callable[[TritonServer, GenerateRequest], RequestTimes]


@dataclass(frozen=True, slots=True)
class PairLimits:
    """How many pairs are measured.

    Attributes:
        least: number of pairs that are always measured.
        confirmed: number of pairs that a refusal takes: a stretch of other load may look like one.
        most: number of pairs after which the comparison ends.
        seconds: time after which it ends.
        refused_pct: regression that has to be told from none, %.
    """

    least: int = MIN_PAIRS
    confirmed: int = 48
    most: int = 120
    seconds: float = 120.0
    refused_pct: float = 10.0

    def reached(self, pairs: Sequence[Pair]) -> bool:
        """Whether these pairs are enough to tell the regression from none."""
        if len(pairs) < self.least or not precise(pairs, self.refused_pct):
            return False
        refused = any(one.regressed for one in compare_pairs(pairs, self.refused_pct))
        return not refused or len(pairs) >= self.confirmed


def compare_servers(
    now: TritonServer,
    before: TritonServer,
    requests: Sequence[GenerateRequest],
    send: Send,
    limits: PairLimits,
) -> tuple[Pair, ...]:
    """Send requests to both servers in turn, and return what each pair took.

    Pairs with a failed request are left out: the error rate of the runs tells of them.
    """
    found: list[Pair] = []
    end = time.monotonic() + limits.seconds
    for number in range(1, limits.most + 1):
        request = requests[number // 2 % len(requests)]  # each one in both orders
        order = (now, before) if number % 2 else (before, now)
        samples = {server.pid: _sample(server, request, send) for server in order}
        pair = samples[now.pid], samples[before.pid]
        if pair[0] is not None and pair[1] is not None:
            found.append(Pair(now=pair[0], before=pair[1]))
        if time.monotonic() > end or (number % _CHECKED == 0 and limits.reached(found)):
            break
    return tuple(found)


def _sample(server: TritonServer, request: GenerateRequest, send: Send) -> PairSample | None:
    earlier = processor_time(server.pid)
    times = send(server, request)
    later = processor_time(server.pid)
    itl = times.inter_token_latency
    if not times.valid or itl is None:
        return None
    used = None if earlier is None or later is None else (later - earlier).cpu_s
    return PairSample(
        time_to_first_token_ms=times.time_to_first_token * _MS,
        inter_token_latency_ms=itl * _MS,
        request_latency_per_token_ms=times.request_latency * _MS / times.output_tokens,
        processor_ms_per_token=None if used is None else used * _MS / times.output_tokens,
    )
