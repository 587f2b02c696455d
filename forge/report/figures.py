"""The tables of a report as text: the HTML page and the Markdown show the same ones. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from forge.accuracy.receipt import Receipt
from forge.progress import bytes_text
from forge.report.report import (
    DownloadSize,
    ProfileReport,
    ReleaseReport,
    VersionFigures,
)
from forge.smoke.result import Level, RequestStatistics, interval

__all__ = [
    "NOT_STATED",
    "ReportTable",
    "accuracy",
    "accuracy_gate",
    "build_steps",
    "count",
    "downloads",
    "facts",
    "gate",
    "gate_missing",
    "licences",
    "measured",
    "measured_on",
    "moment",
    "overview",
    "packages",
    "proofs",
    "verdicts",
    "versions",
]

NOT_STATED: Final = "not stated"
_NONE: Final = "—"
_DIGEST: Final = 12
_MOMENT: Final = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d(?::\d\d)?)(?:\.\d+)?(?:Z|\+00:00)")


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A table.

    Attributes:
        header: titles of the columns.
        rows: as many cells as titles.
        numbers: columns whose cells are aligned to the right.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()

    def without_empty_columns(self) -> ReportTable:
        """Return the table without the columns that are empty in each row."""
        kept = [n for n in range(len(self.header)) if any(row[n] for row in self.rows)]
        return ReportTable(
            tuple(self.header[n] for n in kept),
            tuple(tuple(row[n] for n in kept) for row in self.rows),
            frozenset(place for place, n in enumerate(kept) if n in self.numbers),
        )


def overview(report: ReleaseReport) -> ReportTable:
    """Return a row for each profile."""
    header = ("profile", "platform", "runtime", "size", "first token", "output", "accuracy", "gate")
    rows = tuple(_overview(one) for one in report.profiles)
    return ReportTable(header, rows, frozenset({3, 4, 5}))


def _overview(one: ProfileReport) -> tuple[str, ...]:
    now, before = one.current, one.previous
    smoke = now.manifest.smoke
    was = before.manifest.smoke if before and now.comparable(before) else None
    first = _changed(smoke.ttft_ms_p50, was.ttft_ms_p50 if was else None, "ms")
    rate = was.output_tokens_per_s if was else None
    output = _changed(smoke.output_tokens_per_s, rate, "tokens/s")
    return (
        one.name,
        one.manifest.fit.platform,
        _pairs(one.manifest.fit.runtime),
        bytes_text(one.manifest.tree.size),
        first,
        output,
        _worst(now.receipt),
        _passed(one),
    )


def _passed(one: ProfileReport) -> str:
    """Return what the gates said; proofs are signed only after they passed."""
    said = [found.passed for found in (one.gates.smoke, one.gates.accuracy) if found is not None]
    if not said:
        return "not stored any more" if one.gates.steps else "none in the chain"
    return "passed" if all(said) else "failed"


def _changed(value: float, before: float | None, unit: str) -> str:
    shown = f"{_digits(value)} {unit}"
    return f"{shown} ({(value / before - 1) * 100:+.1f} %)" if before else shown


def facts(one: ProfileReport) -> ReportTable:
    """Return what a profile's manifest says, a fact in each row."""
    manifest, fit = one.manifest, one.manifest.fit
    needs = [f"{fit.memory_mib} MiB memory", f"{fit.free_disk_mib} MiB disk"]
    needs += [f"driver ≥ {fit.driver_min}"] if fit.driver_min else []
    needs += [f"JetPack {', '.join(fit.jetpack)}"] if fit.jetpack else []
    needs += [f"power mode {fit.power_mode}"] if fit.power_mode else []
    match = {key: str(value) for key, value in fit.match.model_dump(exclude_none=True).items()}
    serving = manifest.serving
    environments = {name: digest[:_DIGEST] for name, digest in serving.environments.items()}
    capability = f"sm {fit.compute_capability}" if fit.compute_capability else ""
    rows = (
        ("published", moment(manifest.created)),
        ("files", f"{manifest.tree.files} in {bytes_text(manifest.tree.size)}"),
        ("tree", manifest.tree.digest),
        ("manifest", one.manifest_sha256),
        ("platform", ", ".join(filter(None, (fit.platform, capability)))),
        ("chosen by", _pairs(match) if match else "name only"),
        ("runtime", _pairs(fit.runtime)),
        ("requires", ", ".join(needs)),
        ("activation", f"{serving.activation}, within {serving.start_timeout_s:g} s"),
        ("environment", _pairs(environments)),
        ("images", _pairs(serving.images)),
        ("heat", _heat(one)),
    )  # fmt: skip
    return ReportTable(("", ""), tuple(row for row in rows if row[1] != _NONE))


def _heat(one: ProfileReport) -> str:
    operating = one.manifest.operating
    if operating is None:
        return _NONE
    thermal = operating.thermal
    return f"less load from {thermal.throttle_c:g} °C, least from {thermal.critical_c:g} °C"


def measured_on(one: ProfileReport) -> str:
    """Return the machine of the benchmark, and what held on it."""
    result = one.current.result
    if result is None:
        return one.manifest.smoke.machine
    throttled = {None: "throttling not known", True: "throttled", False: "not throttled"}
    reasons = ", ".join(result.conditions.throttle_reasons)
    runs = f"{result.settings.runs} runs of {result.settings.requests} requests"
    state = throttled[result.conditions.throttled] + (f" ({reasons})" if reasons else "")
    return f"{result.machine.describe()}; {runs}; {state}"


def measured(one: ProfileReport) -> ReportTable:
    """Return a row for each concurrency; the manifest's summary where there is no result."""
    header = ("concurrency", "first token p50", "p99", "between tokens p50", "p99", "output",
              "requests", "energy", "errors")  # fmt: skip
    result = one.current.result
    numbers = frozenset(range(len(header)))
    if result is not None:
        return ReportTable(header, tuple(map(_level, result.levels)), numbers)
    smoke = one.manifest.smoke
    row = (str(smoke.concurrency), f"{_digits(smoke.ttft_ms_p50)} ms", _NONE,
           f"{_digits(smoke.inter_token_ms_p50)} ms", _NONE,
           f"{_digits(smoke.output_tokens_per_s)} tokens/s", _NONE, _NONE,
           f"{smoke.error_rate:.1%}")  # fmt: skip
    return ReportTable(header, (row,), numbers)


def _level(level: Level) -> tuple[str, ...]:
    first = level.time_to_first_token
    between = level.inter_token_latency or level.inter_chunk_latency
    return (
        str(level.concurrency),
        *_percentiles(first),
        *_percentiles(between),
        interval(level.output_token_throughput, "tokens/s"),
        interval(level.request_throughput, "requests/s"),
        interval(level.energy_per_output_token, "J/token"),
        f"{level.error_rate:.1%}",
    )


def _percentiles(found: RequestStatistics | None) -> tuple[str, str]:
    if found is None:
        return _NONE, _NONE
    return interval(found.p50, "ms"), interval(found.p99, "ms")


def versions(one: ProfileReport) -> ReportTable:
    """Return a row for each version, newest first."""
    header = ("version", "published", "size", "memory", "first token", "output", "energy",
              "KL divergence", "same token", "remark")  # fmt: skip
    rows = tuple(_version(one.current, past) for past in reversed(one.history))
    numbers = frozenset({2, 3, 4, 5, 6, 7, 8})
    return ReportTable(header, rows, numbers).without_empty_columns()


def _version(current: VersionFigures, past: VersionFigures) -> tuple[str, ...]:
    smoke = past.manifest.smoke
    energy = past.result.lowest.energy_per_output_token if past.result else None
    worst = past.receipt.worst() if past.receipt else None
    remark = [past.note] if past.note else []
    if not current.comparable(past):
        remark.append("measured on another machine or at another concurrency")
    return (
        past.version,
        past.manifest.created[:10],
        bytes_text(past.manifest.tree.size),
        f"{smoke.peak_rss_mib:.0f} MiB",
        f"{_digits(smoke.ttft_ms_p50)} ms",
        f"{_digits(smoke.output_tokens_per_s)} tokens/s",
        interval(energy, "J/token"),
        _NONE if worst is None else _nats(worst.kl_mean),
        _NONE if worst is None else _share(worst.same_top),
        "; ".join(remark),
    )


def downloads(one: ProfileReport) -> ReportTable:
    """Return what a device fetches from nothing and from each earlier version."""
    rows = tuple(_download(one, found) for found in one.downloads)
    return ReportTable(("device has", "fetches", "share", "packages"), rows, frozenset({1, 2}))


def _download(one: ProfileReport, found: DownloadSize) -> tuple[str, ...]:
    whole = one.downloads[0].bytes
    share = f"{found.bytes / whole:.1%}" if found.bytes is not None and whole else _NONE
    packages = "installed" if found.environment_changed else "kept"
    return (
        found.version or "nothing",
        found.note if found.bytes is None else bytes_text(found.bytes),
        share,
        packages if one.manifest.serving.environments else "none",
    )


def gate(one: ProfileReport) -> ReportTable | None:
    """Return the checks of the smoke gate; None if they are not stored."""
    found = one.gates.smoke
    if found is None:
        return None
    header = ("metric", "measured", "limit", "result", "remark")
    rows = tuple((c.metric, c.measured, c.limit, c.verdict, c.why) for c in found.checks)
    return ReportTable(header, rows).without_empty_columns()


def gate_missing(one: ProfileReport) -> str:
    """Return why there are no checks of the smoke gate."""
    if not one.gates.steps:
        return "The chain of this version has no gate."
    return "The checks of the smoke gate are not stored any more."


def accuracy_gate(one: ProfileReport) -> ReportTable | None:
    """Return the checks of the accuracy gate; None if they are not stored."""
    found = one.gates.accuracy
    if found is None:
        return None
    header = ("section", "figure", "measured", "limit", "result", "limit from")
    rows = tuple(
        (c.section, c.figure, _figure(c.measured), _figure(c.limit),
         "ok" if c.passed else "failed", c.why)
        for c in found.checks
    )  # fmt: skip
    return ReportTable(header, rows, frozenset({2, 3}))


def verdicts(one: ProfileReport) -> ReportTable:
    """Return the steps that had to pass before the proofs were signed."""
    rows = tuple((step, digest) for step, digest in one.gates.steps.items())
    return ReportTable(("step", "verdict"), rows)


def accuracy(one: ProfileReport) -> ReportTable | None:
    """Return the sections of the accuracy receipt; None without one."""
    receipt = one.current.receipt
    if receipt is None:
        return None
    header = ("section", "positions", "KL mean", "KL p99", "same token", "perplexity ratio")
    rows = tuple(
        (name, str(part.positions), _nats(part.kl_mean), _nats(part.kl_p99),
         _share(part.same_top), _figure(part.perplexity_ratio))
        for name, part in receipt.sections.items()
    )  # fmt: skip
    return ReportTable(header, rows, frozenset({1, 2, 3, 4, 5}))


def licences(one: ProfileReport) -> ReportTable:
    """Return the number of packages by the licence that the SBOM states, most first."""
    found = Counter(each.licence or NOT_STATED for each in one.sbom.packages) if one.sbom else {}
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    rows = tuple((licence, str(number)) for licence, number in ordered)
    return ReportTable(("licence", "packages"), rows, frozenset({1}))


def packages(one: ProfileReport) -> ReportTable:
    """Return the packages of the SBOM."""
    found = one.sbom.packages if one.sbom else ()
    rows = tuple((each.name, each.version, each.licence or NOT_STATED) for each in found)
    return ReportTable(("package", "version", "licence"), rows)


def proofs(one: ProfileReport) -> ReportTable | None:
    """Return the files of the proofs and what their verification has shown; None: not stored."""
    if one.proofs is None:
        return None
    rows = tuple(
        (each.name, bytes_text(each.size), each.sha256, each.verified) for each in one.proofs.files
    )
    return ReportTable(("file", "size", "SHA-256", "verified"), rows, frozenset({1}))


def build_steps(one: ProfileReport) -> ReportTable:
    """Return the steps of the chain with whole digests."""
    rows = tuple(
        (step.step, step.key, ", ".join(f"{name} {tree}" for name, tree in step.outputs.items()))
        for step in one.steps
    )
    return ReportTable(("step", "key", "outputs"), rows)


def count(number: int, noun: str) -> str:
    """Return a number with its noun in the singular or plural."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def moment(text: str) -> str:
    """Return a time of RFC 3339 in UTC for reading; any other text as it is."""
    found = _MOMENT.fullmatch(text)
    return f"{found[1]} {found[2]} UTC" if found else text


def _worst(receipt: Receipt | None) -> str:
    if receipt is None:
        return "no receipt"
    worst = receipt.worst()
    return f"{receipt.precision}: KL {_nats(worst.kl_mean)}, same token {_share(worst.same_top)}"


def _nats(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.2g} nats"


def _share(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.1%}"


def _figure(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"


def _digits(value: float) -> str:
    """Return at least three significant digits, without an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004


def _pairs(found: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in found.items()) or _NONE
