"""Compare two builds of one engine by their receipts.

Pure. The bytes of a second build may differ (TensorRT selects kernels by their time), so that two
builds are compared by what they compute. Both receipts are measured against one reference: engines
that are this near to it, by the same figures, are as near to each other.

What two honest builds differ by: docs/results/accuracy.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from forge.accuracy.gate import NOISE
from forge.accuracy.receipt import Receipt, ReceiptSection
from forge.errors import ConfigurationError

__all__ = ["BuildComparison", "FigureComparison", "compare"]

# The larger mean divergence by the smaller one, besides NOISE: the default of
# `accuracy.regression_pct`, in both directions.
KL_PCT: Final = 50.0
SAME_TOP: Final = 0.02
PERPLEXITY_RATIO: Final = 0.01

Figure = Literal["kl_mean", "same_top", "perplexity_ratio"]


class FigureComparison(BaseModel):
    """One figure of one section in both receipts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    section: str
    figure: Figure
    first: float | None
    second: float | None
    allowed: float
    """Largest difference of two builds of one engine, in the unit of the figure."""

    equal: bool


class BuildComparison(BaseModel):
    """Whether two builds compute the same, figure by figure."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    equal: bool
    precision: tuple[str, str]
    executed: tuple[str, str]
    figures: tuple[FigureComparison, ...]


def compare(first: Receipt, second: Receipt) -> BuildComparison:
    """Compare all figures of both receipts.

    Builds of different precision are never equal. A figure that is not a finite number equals none.

    Raises ConfigurationError: the receipts are not of one checkpoint, or other positions were
    measured.
    """
    _require_comparable(first, second)
    figures = tuple(
        found
        for name in sorted(first.sections)
        for found in _figures(name, first.sections[name], second.sections[name])
    )
    precision = (first.precision, second.precision)
    return BuildComparison(
        equal=precision[0] == precision[1] and all(one.equal for one in figures),
        precision=precision,
        executed=(first.executed, second.executed),
        figures=figures,
    )


def _require_comparable(first: Receipt, second: Receipt) -> None:
    if first.reference.sha256 != second.reference.sha256:
        raise ConfigurationError(
            "The builds were compared with different references",
            why=f"{first.reference.sha256[:12]} and {second.reference.sha256[:12]}: another"
            " checkpoint, another text, or the reference was computed again",
            hint="keep reference.npz of one build in references/ and use it for both",
        )
    shapes = [
        {name: (one.positions, one.batch, one.context) for name, one in receipt.sections.items()}
        for receipt in (first, second)
    ]
    if shapes[0] != shapes[1]:
        differing = sorted(dict(shapes[0].items() ^ shapes[1].items()))
        raise ConfigurationError(
            "The builds were measured on different positions",
            why=f"sections {', '.join(differing)}",
            hint="build both with the same engine.max_batch_size and engine.max_seq_len",
        )


def _figures(
    name: str, first: ReceiptSection, second: ReceiptSection
) -> Iterator[FigureComparison]:
    smaller = min(first.kl_mean or 0.0, second.kl_mean or 0.0)
    divergence = max(0.0, smaller) * KL_PCT / 100 + NOISE
    yield _figure(name, "kl_mean", first.kl_mean, second.kl_mean, divergence)
    yield _figure(name, "same_top", first.same_top, second.same_top, SAME_TOP)
    ratios = first.perplexity_ratio, second.perplexity_ratio
    yield _figure(name, "perplexity_ratio", *ratios, PERPLEXITY_RATIO)


def _figure(
    section: str, figure: Figure, first: float | None, second: float | None, allowed: float
) -> FigureComparison:
    equal = first is not None and second is not None and abs(first - second) <= allowed
    return FigureComparison(
        section=section, figure=figure, first=first, second=second, allowed=allowed, equal=equal
    )
