"""Integrate samples of power over time. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

__all__ = ["MAX_GAP_S", "PowerSample", "integrate_j"]

MAX_GAP_S: Final = 5.0
"""A gap between two samples over which nothing is said about the power."""


@dataclass(frozen=True, slots=True)
class PowerSample:
    """Power at a time of a monotonic clock in s; `watts` is None where it was not known."""

    at: float
    watts: float | None


def integrate_j(
    samples: Sequence[PowerSample], begin: float, end: float, max_gap_s: float = MAX_GAP_S
) -> float | None:
    """Return the energy between two times by the trapezoidal rule; None if it is not known.

    Before the first and after the last sample the power is taken to be theirs.

    Args:
        samples: in the order of their times.
        begin: s.
        end: s.
        max_gap_s: longest time without a sample; a longer one makes the energy unknown.
    """
    known = [(one.at, one.watts) for one in samples if one.watts is not None]
    if not known or end <= begin:
        return None
    inside = [(at, watts) for at, watts in known if begin < at < end]
    near = [
        *[at for at, _ in known if at <= begin][-1:],
        *[at for at, _ in inside],
        *[at for at, _ in known if at >= end][:1],
    ]
    edges = [min(begin, near[0]), *near, max(end, near[-1])]
    if any(late - early > max_gap_s for early, late in pairwise(edges)):
        return None
    line = [(begin, _at(known, begin)), *inside, (end, _at(known, end))]
    return sum((t1 - t0) * (w0 + w1) / 2 for (t0, w0), (t1, w1) in pairwise(line))


def _at(known: Sequence[tuple[float, float]], at: float) -> float:
    """Return the power at a time, by linear interpolation between two samples."""
    before = [one for one in known if one[0] <= at]
    after = [one for one in known if one[0] >= at]
    if not before or not after:
        return (before[-1] if before else after[0])[1]
    (t0, w0), (t1, w1) = before[-1], after[0]
    return w0 if t1 == t0 else w0 + (w1 - w0) * (at - t0) / (t1 - t0)
