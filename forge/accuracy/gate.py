"""The accuracy gate: compare a receipt with the limits of its precision and the last bundle.

Pure. Limits by precision: the published mean divergences of llama.cpp's quantisations from fp16 are
0.0003 (Q8_0), 0.005 (Q5_K_M) and 0.02 to 0.05 (4 bits) nats for models of 7 to 8 billion parameters
on English text (llama.cpp, tools/perplexity/README.md). Small models and rare scripts diverge more,
and so does arithmetic in bfloat16, which OpenVINO chooses on processors that have it: right engines
of SmolLM2-135M have 0.004 (16 bits) and 0.009 (8 bits) on this text, and the least damage that was
tried has 0.27 (docs/results/accuracy.md). The limits lie between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from forge.accuracy.receipt import Receipt, ReceiptSection
from forge.accuracy.weights import WeightsComparison
from forge.errors import SmokeGateError
from forge.profiles import AccuracySection

__all__ = [
    "GATE_FILE",
    "NOISE",
    "AccuracyCheck",
    "AccuracyReport",
    "AccuracySettings",
    "gate",
    "limits_of",
]

GATE_FILE: Final = "accuracy.json"


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest mean divergence in nats, smallest share of equal top tokens, perplexity ratio."""

    kl_mean: float
    same_top: float
    perplexity_ratio: float


_EXACT: Final = Limits(kl_mean=0.008, same_top=0.90, perplexity_ratio=1.02)
_EIGHT: Final = Limits(kl_mean=0.02, same_top=0.87, perplexity_ratio=1.04)
_SIX: Final = Limits(kl_mean=0.03, same_top=0.85, perplexity_ratio=1.06)
_FOUR: Final = Limits(kl_mean=0.05, same_top=0.80, perplexity_ratio=1.10)

# As tools name them: Forge's own, ModelOpt's, torch's, ggml's, OpenVINO's.
_BY_PRECISION: Final = {
    **dict.fromkeys(("fp32", "fp16", "bf16", "float32", "float16", "bfloat16"), _EXACT),
    **dict.fromkeys(("f32", "f16"), _EXACT),
    **dict.fromkeys(("int8", "fp8", "q8_0", "u8", "i8"), _EIGHT),
    **dict.fromkeys(("q6_k", "q5_k", "q5_0", "q5_1"), _SIX),
    **dict.fromkeys(("int4", "int4_awq", "nvfp4", "q4_0", "q4_1", "q4_k"), _FOUR),
    **dict.fromkeys(("u4", "i4", "nf4"), _FOUR),
}
WEIGHTS: Final = "weights"  # the section of the checks of single weights
# A difference this small is noise of rounding, also if the last bundle had none.
NOISE: Final = 0.0005


class AccuracySettings(BaseModel):
    """The profile fields that the gate reads, and the receipt of the last published bundle."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    accuracy: AccuracySection
    baseline: Receipt | None = None


class AccuracyCheck(BaseModel):
    """The check of one figure of one section."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    section: str
    figure: str
    measured: float | None
    limit: float
    passed: bool
    why: str = Field(default="", description="what the limit comes from")


class AccuracyReport(BaseModel):
    """All checks, and whether the release may proceed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    passed: bool
    precision: str
    checks: tuple[AccuracyCheck, ...]


def gate(
    receipt: Receipt, settings: AccuracySettings, weights: WeightsComparison | None = None
) -> AccuracyReport:
    """Compare a receipt with the limits of its precision, the profile's and the last bundle.

    Args:
        receipt: what the engine computes.
        settings: of the profile, and the last bundle's receipt.
        weights: of the engine, compared with its checkpoint's; None where they are not.
    """
    limits, source = _limits(receipt.precision, settings.accuracy)
    checks = [
        check
        for name, section in sorted(receipt.sections.items())
        for check in (
            *_within(name, section, limits, source),
            *_not_worse(name, section, receipt, settings),
        )
    ]
    if weights is not None:
        checks.extend(_weights(weights))
    return AccuracyReport(
        passed=all(check.passed for check in checks),
        precision=receipt.precision,
        checks=tuple(checks),
    )


def limits_of(precision: str) -> Limits:
    """Return the limits of a precision; the strictest for one that is not known."""
    return _BY_PRECISION.get(precision.lower(), _EXACT)


def require(report: AccuracyReport) -> None:
    """Raise SmokeGateError that names each failed figure."""
    failed = [check for check in report.checks if not check.passed]
    if not failed:
        return
    lines = [
        f"\n{check.section}: {check.figure} {_shown(check.measured)}, limit {check.limit:.4g}"
        f" {check.why}"
        for check in failed
    ]
    if all(check.section == WEIGHTS for check in failed):
        hint = "nothing was published; build the engine again: no field of the profile allows this"
    else:
        hint = (
            "nothing was published; use a higher engine.precision, or change the limits of"
            " accuracy in the profile if you accept the difference"
        )
    raise SmokeGateError(
        "The engine does not compute what its checkpoint computes", why="".join(lines), hint=hint
    )


def table(receipt: Receipt) -> str:
    """Return a table of the receipt's sections."""
    rows = [("section", "positions", "KL mean", "KL p99", "same top", "perplexity ratio")]
    for name, section in sorted(receipt.sections.items()):
        share = "unknown" if section.same_top is None else f"{section.same_top:.1%}"
        figures = (section.kl_mean, section.kl_p99, section.perplexity_ratio)
        mean, p99, ratio = (_shown(figure) for figure in figures)
        rows.append((name, str(section.positions), mean, p99, share, ratio))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _limits(precision: str, wanted: AccuracySection) -> tuple[Limits, str]:
    default = limits_of(precision)
    chosen = Limits(
        kl_mean=default.kl_mean if wanted.kl_mean is None else wanted.kl_mean,
        same_top=default.same_top if wanted.same_top is None else wanted.same_top,
        perplexity_ratio=default.perplexity_ratio
        if wanted.perplexity_ratio is None
        else wanted.perplexity_ratio,
    )
    return chosen, f"of {precision}" if chosen == default else "of the profile"


def _within(
    name: str, section: ReceiptSection, limits: Limits, source: str
) -> Iterator[AccuracyCheck]:
    yield _check(name, "kl_mean", section.kl_mean, limits.kl_mean, source)
    yield _check(name, "same_top", section.same_top, limits.same_top, source, least=True)
    ratio = section.perplexity_ratio
    yield _check(name, "perplexity_ratio", ratio, limits.perplexity_ratio, source)


def _not_worse(
    name: str, section: ReceiptSection, receipt: Receipt, settings: AccuracySettings
) -> Iterator[AccuracyCheck]:
    """Compare with the last bundle, if it was measured on the same text with the same precision."""
    before = settings.baseline
    if (
        before is None
        or before.precision != receipt.precision
        or before.reference.text != receipt.reference.text
        or (earlier := before.sections.get(name)) is None  # type: ignore[call-overload]
        or earlier.kl_mean is None
    ):
        return
    allowed = earlier.kl_mean * (1 + settings.accuracy.regression_pct / 100) + NOISE
    yield _check(name, "kl_mean", section.kl_mean, allowed, "of the last bundle")


def _weights(weights: WeightsComparison) -> Iterator[AccuracyCheck]:
    """Check that all tensors were found and that none differs more than rounding explains."""
    why = "of rounding" if not weights.problems else f"of rounding: {'; '.join(weights.problems)}"
    value = weights.worst.of_allowed
    yield _check(WEIGHTS, "of_allowed", value, 1.0, f"of rounding ({weights.worst.tensor})")
    yield _check(WEIGHTS, "problems", float(weights.problem_count), 0.0, why)


def _check(
    section: str,
    figure: str,
    value: float | None,
    limit: float,
    source: str,
    *,
    least: bool = False,
) -> AccuracyCheck:
    passed = value is not None and (value >= limit if least else value <= limit)
    return AccuracyCheck(
        section=section, figure=figure, measured=value, limit=limit, passed=passed, why=source
    )


def _shown(value: float | None) -> str:
    return "not a finite number" if value is None else f"{value:.4g}"
