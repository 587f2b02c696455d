"""The smoke gate: compare a result with the thresholds and with the last bundle. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from forge.bundle import SmokeSummary
from forge.errors import SmokeGateError
from forge.profiles import ThresholdsSection
from forge.smoke.regression import MIN_RUNS, Comparison, compare, compare_pairs
from forge.smoke.result import Baseline, Estimate, Level, Result, interval, summary

__all__ = ["GATE_FILE", "GateCheck", "GateSettings", "Report", "gate", "require", "table"]

GATE_FILE = "gate.json"
_MEASURES = (
    # metric of SmokeSummary and Thresholds, unit, whether higher is better
    ("ttft_ms_p50", "ms", False),
    ("inter_token_ms_p50", "ms", False),
    ("output_tokens_per_s", "tokens/s", True),
    ("peak_rss_mib", "MiB", False),
)

GateVerdict = Literal["ok", "failed", "not compared"]


class _Smoke(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    thresholds: ThresholdsSection
    regression_pct: float = Field(gt=0)


class GateSettings(BaseModel):
    """The profile fields that the gate reads, and the results of the last published bundle."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    smoke: _Smoke
    baseline: Baseline | SmokeSummary | None = Field(
        default=None, description="a summary alone: of a bundle without runs, or from a file"
    )

    @property
    def last(self) -> Baseline | None:
        """Return the last published bundle."""
        if isinstance(self.baseline, SmokeSummary):
            return Baseline(summary=self.baseline)
        return self.baseline


class GateCheck(BaseModel):
    """The check of one metric."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str
    measured: str
    limit: str
    verdict: GateVerdict
    why: str = ""


class Report(BaseModel):
    """All checks, and whether the release may proceed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    passed: bool
    summary: SmokeSummary
    baseline: SmokeSummary | None
    checks: tuple[GateCheck, ...]


def gate(result: Result, settings: GateSettings) -> Report:
    """Compare a result with the thresholds and the baseline."""
    found, last = summary(result), settings.last
    checks = (
        *_thresholds(found, result.lowest, settings.smoke.thresholds),
        *_errors(result, settings.smoke.thresholds),
        *_regressions(found, result, last, settings.smoke.regression_pct),
    )
    passed = all(check.verdict != "failed" for check in checks)
    before = last.summary if last else None
    return Report(passed=passed, summary=found, baseline=before, checks=checks)


def table(report: Report) -> str:
    """Return a table of metric, measured value, limit and verdict."""
    rows = [("metric", "measured", "limit", "verdict")]
    for check in report.checks:
        verdict = f"{check.verdict}: {check.why}" if check.why else check.verdict
        rows.append((check.metric, check.measured, check.limit, verdict))
    return _aligned(rows)


def require(report: Report) -> None:
    """Raise SmokeGateError that names each failed metric."""
    failed = [check for check in report.checks if check.verdict == "failed"]
    if not failed:
        return
    lines = [f"{check.metric} is {check.measured}, limit {check.limit}" for check in failed]
    raise SmokeGateError(
        "The release did not pass the smoke gate",
        why="; ".join(lines),
        hint="nothing was published; fix the regression, or change smoke.thresholds or"
        " smoke.regression_pct in the profile",
    )


def _thresholds(
    found: SmokeSummary, lowest: Level, limits: ThresholdsSection
) -> Iterator[GateCheck]:
    intervals = _intervals(lowest)
    for metric, unit, more_is_better in _MEASURES:
        limit = getattr(limits, metric)
        if limit is None:
            continue
        value = getattr(found, metric)
        good = value >= limit if more_is_better else value <= limit
        sign = "≥" if more_is_better else "≤"
        yield GateCheck(
            metric=metric,
            measured=interval(intervals.get(metric, Estimate(mean=value)), unit),
            limit=f"{sign} {limit:g} {unit}",
            verdict="ok" if good else "failed",
        )


def _errors(result: Result, limits: ThresholdsSection) -> Iterator[GateCheck]:
    for measured in result.measured:
        good = measured.error_rate <= limits.error_rate
        yield GateCheck(
            metric=f"error_rate at {measured.concurrency}",
            measured=f"{measured.error_rate:g}",
            limit=f"≤ {limits.error_rate:g}",
            verdict="ok" if good else "failed",
            why="" if good else "; ".join(measured.error_examples),
        )


def _intervals(level: Level) -> dict[str, Estimate]:
    """Return those metrics of the summary that have an interval, by name."""
    found = {}
    if level.time_to_first_token:
        found["ttft_ms_p50"] = level.time_to_first_token.p50
    if gaps := level.inter_token_latency or level.inter_chunk_latency:
        found["inter_token_ms_p50"] = gaps.p50
    if level.output_token_throughput:
        found["output_tokens_per_s"] = level.output_token_throughput
    return found


def _regressions(
    found: SmokeSummary, result: Result, last: Baseline | None, refused_pct: float
) -> Iterator[GateCheck]:
    """Yield a check for each figure: by the runs of both builds, or else by their means.

    Memory does not vary between runs, so it is always compared as one number.
    """
    if last is None:
        return
    reason = _not_comparable(found, last.summary)
    compared: tuple[Comparison, ...] = ()
    if result.side_by_side is not None and len(result.side_by_side.pairs) >= MIN_RUNS:
        compared = compare_pairs(result.side_by_side.pairs, refused_pct)  # on this machine
    elif not reason and last.level is not None:
        gpu = result.machine.gpu is not None
        compared = compare(result.lowest, last.level, refused_pct, gpu=gpu)
    throttled = "; ".join(result.conditions.throttle_reasons) or "for an unknown reason"
    note = f"the machine throttled: {throttled}" if result.conditions.throttled else ""
    for one in compared:
        yield _by_runs(one, note)
    for measure in _MEASURES if not compared else _MEASURES[-1:]:
        yield _by_means(measure, found, last.summary, result.lowest, refused_pct, reason)


def _by_runs(one: Comparison, note: str) -> GateCheck:
    return GateCheck(
        metric=f"{one.field} against the last bundle",
        measured=f"{one.now:.4g} {one.unit} ({one.slower_pct:+.1f} ± {one.margin_pct:.1f} %)",
        limit=f"< {one.limit_pct:.1f} % slower than {one.before:.4g} {one.unit}",
        verdict="not compared" if one.not_compared else "failed" if one.regressed else "ok",
        why=one.not_compared or (note if one.regressed else ""),
    )


def _by_means(
    measure: tuple[str, str, bool],
    found: SmokeSummary,
    before: SmokeSummary,
    lowest: Level,
    allowed_pct: float,
    reason: str,
) -> GateCheck:
    """Compare with a bundle of which only means are known: the noise is that of these runs.

    The better end of this build's interval has to be worse than the limit.
    """
    metric, unit, more_is_better = measure
    value, was = getattr(found, metric), getattr(before, metric)
    # `regression_pct: 400` allows five times the latency, and a fifth of the rate.
    factor = 1 + allowed_pct / 100
    limit = was / factor if more_is_better else was * factor
    figure = _intervals(lowest).get(metric, Estimate(mean=value))
    best = figure.ci_high if more_is_better else figure.ci_low
    best = value if best is None else best
    good = best >= limit if more_is_better else best <= limit
    sign = "≥" if more_is_better else "≤"
    return GateCheck(
        metric=f"{metric} against the last bundle",
        measured=interval(figure, unit),
        limit=f"{sign} {limit:.4g} {unit} ({was:g} and {allowed_pct:g} %)",
        verdict="not compared" if reason else "ok" if good else "failed",
        why=reason,
    )


def _not_comparable(found: SmokeSummary, baseline: SmokeSummary) -> str:
    if found.machine != baseline.machine:
        return f"it was measured on another machine: {baseline.machine}"
    if found.concurrency != baseline.concurrency:
        return f"it was measured at concurrency {baseline.concurrency}"
    return ""


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
