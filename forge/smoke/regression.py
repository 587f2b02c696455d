"""Compare the runs of a build with those of the last published bundle. Pure.

One noisy run proves nothing, so the decision uses all runs of both. The shift between two samples
is estimated by Hodges and Lehmann (Annals of Mathematical Statistics 34, 1963): the median of all
pairwise differences, here of logarithms, so that it is a ratio. Single disturbed runs do not move
it. A build counts as slower if the shift is at least half of the regression that is refused, on the
logarithmic scale: an equal build and one that is slower by that regression are then equally far
from the limit, so both mistakes are equally unlikely.

On a machine that other programs use too, wall time says more about them than about the build. The
server's threads therefore also count how long they waited for a processor. If that is more than a
tenth of what they needed (in the baseline's runs or in these), wall times are not compared, and the
processor time of a token decides; where a GPU computes, processor time says nothing, and wall times
are always compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, product
from statistics import median, quantiles, variance
from typing import Final, Literal

from forge.smoke.result import Level, Pair, RunSample

__all__ = [
    "MIN_PAIRS",
    "MIN_RUNS",
    "Comparison",
    "busy_share",
    "compare",
    "compare_pairs",
    "precise",
    "pseudomedian",
    "robust_error",
    "shift",
]

MIN_RUNS: Final = 5
MIN_PAIRS: Final = 16  # of fewer, the noise itself is not known well enough
_BUSY: Final = 0.1
_TWO_SIDED_95: Final = 1.96

Field = Literal[
    "time_to_first_token_ms",
    "inter_token_latency_ms",
    "output_token_throughput",
    "processor_ms_per_token",
]
_WALL: Final[tuple[tuple[Field, str, bool], ...]] = (
    # field of a run, unit, whether higher is better
    ("time_to_first_token_ms", "ms", False),
    ("inter_token_latency_ms", "ms", False),
    ("output_token_throughput", "tokens/s", True),
)
_PROCESSOR: Final[tuple[Field, str, bool]] = ("processor_ms_per_token", "ms", False)


PairField = Literal[
    "time_to_first_token_ms", "request_latency_per_token_ms", "processor_ms_per_token"
]
_OF_PAIRS: Final[tuple[PairField, ...]] = (
    "time_to_first_token_ms",
    "request_latency_per_token_ms",
    "processor_ms_per_token",
)
# Standard errors between no shift and the limit, for a figure to decide: 0.8 % of wrong decisions
# of each kind in a figure, 2.5 % in three. Pairs are added until there are a few more.
_CERTAIN: Final = 2.4
_AIM: Final = 2.6
_IQR_OF_NORMAL: Final = 1.349


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of two builds.

    Attributes:
        field: the figure of each run.
        unit: its unit.
        before: median of the baseline's runs.
        now: median of this build's runs.
        slower_pct: how much slower this build is, %; negative: faster.
        margin_pct: half of the 95 % interval of that, %.
        limit_pct: from which on it counts as a regression, %.
        not_compared: why the figure decides nothing; empty: it decides.
    """

    field: str
    unit: str
    before: float
    now: float
    slower_pct: float
    margin_pct: float
    limit_pct: float
    not_compared: str = ""

    @property
    def regressed(self) -> bool:
        """Whether this figure refuses the build."""
        # Written so that a value that is not a number refuses it.
        return not self.not_compared and not self.slower_pct < self.limit_pct


def compare(now: Level, before: Level, refused_pct: float, *, gpu: bool) -> tuple[Comparison, ...]:
    """Compare the runs of two builds on one machine, figure by figure.

    Args:
        now: the runs of this build.
        before: the baseline's runs, at the same concurrency.
        refused_pct: regression that is refused, %.
        gpu: whether a GPU computes.
    """
    busy = "" if gpu else _busy(now.runs, before.runs)
    found = [_compared(one, now.runs, before.runs, refused_pct, busy) for one in _WALL]
    if not gpu:
        found.append(_compared(_PROCESSOR, now.runs, before.runs, refused_pct, ""))
    return tuple(one for one in found if one is not None)


def compare_pairs(pairs: Sequence[Pair], refused_pct: float) -> tuple[Comparison, ...]:
    """Compare two builds that were asked in turn, figure by figure.

    The shift is the pseudomedian of the logarithms of the ratios (Hodges and Lehmann, one sample).
    A figure that is too noisy to tell the regression from none decides nothing.

    Args:
        pairs: one request to each of them, in turn.
        refused_pct: regression that is refused, %.
    """
    found = [_paired(field, pairs, refused_pct) for field in _OF_PAIRS]
    return tuple(one for one in found if one is not None)


def precise(pairs: Sequence[Pair], refused_pct: float) -> bool:
    """Whether each known figure of the decode tells the regression from none, with a margin."""
    limit = math.log1p(refused_pct / 100) / 2
    fields: tuple[PairField, ...] = ("request_latency_per_token_ms", "processor_ms_per_token")
    for field in fields:
        ratios = _log_ratios(pairs, field)
        if len(ratios) >= MIN_RUNS and robust_error(ratios) > limit / _AIM:
            return False
    return True


def robust_error(values: Sequence[float]) -> float:
    """Return the standard error of the pseudomedian of values, from their middle half.

    The interquartile range of a normal distribution is 1.349 standard deviations, and the
    pseudomedian has π/3 times the variance of the mean.
    """
    quarter = quantiles(values, n=4, method="inclusive")
    return (quarter[2] - quarter[0]) / _IQR_OF_NORMAL * math.sqrt(math.pi / 3 / len(values))


def pseudomedian(values: Sequence[float]) -> float:
    """Return the median of the means of all pairs of values, each with itself too."""
    return median((a + b) / 2 for a, b in combinations_with_replacement(values, 2))


def shift(now: Sequence[float], before: Sequence[float]) -> float:
    """Return the Hodges-Lehmann estimate of how much larger `now` is.

    Raises ValueError for no values.
    """
    if not now or not before:
        raise ValueError("no values")
    return median(late - early for late, early in product(now, before))


def busy_share(runs: Sequence[RunSample]) -> float | None:
    """Return the median share of time that the server's threads waited; None: not known."""
    pairs = [(run.wait_ms_per_token, run.processor_ms_per_token) for run in runs]
    shares = [
        wait / (wait + used)
        for wait, used in pairs
        if wait is not None and used is not None and wait + used > 0
    ]
    return median(shares) if shares else None


def _busy(now: Sequence[RunSample], before: Sequence[RunSample]) -> str:
    for share, whose in ((busy_share(now), "these runs"), (busy_share(before), "the last bundle")):
        if share is not None and share > _BUSY:
            return (
                f"other programs used the processors: in {whose} the server waited for them"
                f" {share:.0%} of its time"
            )
    return ""


def _compared(
    figure: tuple[Field, str, bool],
    now: Sequence[RunSample],
    before: Sequence[RunSample],
    refused_pct: float,
    not_compared: str,
) -> Comparison | None:
    field, unit, more_is_better = figure
    late, early = _values(now, field), _values(before, field)
    if len(late) < MIN_RUNS or len(early) < MIN_RUNS:
        return None
    logs = [math.log(value) for value in late], [math.log(value) for value in early]
    slower = shift(*logs) * (-1 if more_is_better else 1)
    margin = _TWO_SIDED_95 * math.sqrt(sum(_spread(values) for values in logs))
    return Comparison(
        field=field,
        unit=unit,
        before=median(early),
        now=median(late),
        slower_pct=_pct(slower),
        margin_pct=_pct(margin),
        limit_pct=_pct(math.log1p(refused_pct / 100) / 2),
        not_compared=not_compared,
    )


def _paired(field: PairField, pairs: Sequence[Pair], refused_pct: float) -> Comparison | None:
    ratios = _log_ratios(pairs, field)
    if len(ratios) < MIN_RUNS:
        return None
    limit, error = math.log1p(refused_pct / 100) / 2, robust_error(ratios)
    noisy = f"{len(ratios)} pairs of requests are too noisy to tell {refused_pct:g} % from none"
    return Comparison(
        field=field,
        unit="ms",
        before=median(_of_pairs(pairs, field, "before")),
        now=median(_of_pairs(pairs, field, "now")),
        slower_pct=_pct(pseudomedian(ratios)),
        margin_pct=_pct(_TWO_SIDED_95 * error),
        limit_pct=_pct(limit),
        not_compared=noisy if len(ratios) < MIN_PAIRS or error * _CERTAIN > limit else "",
    )


def _log_ratios(pairs: Sequence[Pair], field: PairField) -> list[float]:
    values = [(getattr(pair.now, field), getattr(pair.before, field)) for pair in pairs]
    return [math.log(late / early) for late, early in values if late and early]


def _of_pairs(
    pairs: Sequence[Pair], field: PairField, side: Literal["now", "before"]
) -> list[float]:
    values = [getattr(getattr(pair, side), field) for pair in pairs]
    return [value for value in values if value is not None]


def _values(runs: Sequence[RunSample], field: Field) -> list[float]:
    values = [getattr(run, field) for run in runs]
    return [value for value in values if value]  # None: not known; 0 has no logarithm


def _spread(values: Sequence[float]) -> float:
    """Return the variance of the mean of values, which that of the shift is close to."""
    return variance(values) / len(values)


def _pct(logarithm: float) -> float:
    return 100 * math.expm1(logarithm)
