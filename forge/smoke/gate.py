"""The gate: is a result good enough, alone and against the last bundle? Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from forge.bundle import SmokeSummary
from forge.errors import SmokeGateError
from forge.profiles import Thresholds
from forge.smoke.result import Result, summary

__all__ = ["GATE_FILE", "Check", "GateSettings", "Report", "gate", "require", "table"]

GATE_FILE = "gate.json"
_MEASURES = (
    # metric of SmokeSummary and Thresholds, unit, is more better
    ("ttft_ms_p50", "ms", False),
    ("inter_token_ms_p50", "ms", False),
    ("output_tokens_per_s", "tokens/s", True),
    ("peak_rss_mib", "MiB", False),
)

Verdict = Literal["ok", "failed", "not compared"]


class _Smoke(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    thresholds: Thresholds
    regression_pct: float = Field(gt=0)


class GateSettings(BaseModel):
    """The profile fields the gate reads, and what the last published bundle measured."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    smoke: _Smoke
    baseline: SmokeSummary | None = None


class Check(BaseModel):
    """One line of the verdict."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str
    measured: str
    limit: str
    verdict: Verdict
    why: str = ""


class Report(BaseModel):
    """All lines, and whether the release may go on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    passed: bool
    summary: SmokeSummary
    baseline: SmokeSummary | None
    checks: tuple[Check, ...]


def gate(result: Result, settings: GateSettings) -> Report:
    """Hold a result against the thresholds and the baseline."""
    found = summary(result)
    checks = (
        *_thresholds(found, settings.smoke.thresholds),
        *_errors(result, settings.smoke.thresholds),
        *_regressions(found, settings.baseline, settings.smoke.regression_pct),
    )
    passed = all(check.verdict != "failed" for check in checks)
    return Report(passed=passed, summary=found, baseline=settings.baseline, checks=checks)


def table(report: Report) -> str:
    """Metric | measured | limit | verdict, aligned."""
    rows = [("metric", "measured", "limit", "verdict")]
    for check in report.checks:
        verdict = f"{check.verdict}: {check.why}" if check.why else check.verdict
        rows.append((check.metric, check.measured, check.limit, verdict))
    return _aligned(rows)


def require(report: Report) -> None:
    """Raise SmokeGateError that names each metric that fell short."""
    failed = [check for check in report.checks if check.verdict == "failed"]
    if not failed:
        return
    lines = [f"{check.metric} is {check.measured}, limit {check.limit}" for check in failed]
    raise SmokeGateError(
        "The smoke gate stopped this release",
        why="; ".join(lines),
        hint="nothing was published; find what made it worse, or change smoke.thresholds or"
        " smoke.regression_pct of the profile",
    )


def _thresholds(found: SmokeSummary, limits: Thresholds) -> Iterator[Check]:
    for metric, unit, more_is_better in _MEASURES:
        limit = getattr(limits, metric)
        if limit is None:
            continue
        value = getattr(found, metric)
        good = value >= limit if more_is_better else value <= limit
        sign = "≥" if more_is_better else "≤"
        yield Check(
            metric=metric,
            measured=f"{value:g} {unit}",
            limit=f"{sign} {limit:g} {unit}",
            verdict="ok" if good else "failed",
        )


def _errors(result: Result, limits: Thresholds) -> Iterator[Check]:
    for measured in result.measured:
        good = measured.error_rate <= limits.error_rate
        yield Check(
            metric=f"error_rate at {measured.concurrency}",
            measured=f"{measured.error_rate:g}",
            limit=f"≤ {limits.error_rate:g}",
            verdict="ok" if good else "failed",
            why="" if good else "; ".join(measured.error_examples),
        )


def _regressions(
    found: SmokeSummary, baseline: SmokeSummary | None, allowed_pct: float
) -> Iterator[Check]:
    if baseline is None:
        return
    reason = _not_comparable(found, baseline)
    for metric, unit, more_is_better in _MEASURES:
        value, before = getattr(found, metric), getattr(baseline, metric)
        # `regression_pct: 400` is a fifth of the rate as it is five times the latency.
        factor = 1 + allowed_pct / 100
        limit = before / factor if more_is_better else before * factor
        good = value >= limit if more_is_better else value <= limit
        sign = "≥" if more_is_better else "≤"
        yield Check(
            metric=f"{metric} against the last bundle",
            measured=f"{value:g} {unit}",
            limit=f"{sign} {limit:.4g} {unit} ({before:g} and {allowed_pct:g} %)",
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
