"""Which figures of a profile are drawn, and how. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from forge.progress import bytes_text
from forge.report.figures import count
from forge.report.plots import Bar, LinePlot, PlotPoint, PlotSeries, bar_plot, line_plot
from forge.report.report import ProfileReport, VersionFigures
from forge.smoke.result import Estimate, Level, RequestStatistics, interval

__all__ = ["Figure", "profile_figures"]

_STYLES: Final = ("a", "b", "c", "d", "e")
_EARLIER: Final = 3  # versions that are compared with at each concurrency
_Statistics = Callable[[Level], RequestStatistics | None]
_Estimate = Callable[[Level], Estimate | None]


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture with what it shows.

    Attributes:
        picture: SVG; empty where nothing is known.
        missing: what is said instead of an empty picture.
    """

    title: str
    caption: str
    picture: str
    missing: str = ""


def profile_figures(one: ProfileReport) -> tuple[Figure, ...]:
    """Return the pictures of a profile."""
    return (
        _latency(one, "First token", lambda level: level.time_to_first_token),
        _latency(one, "Between tokens", _between),
        _by_version(one, "Output", "tokens/s", lambda level: level.output_token_throughput),
        _by_version(one, "Energy", "J/token", lambda level: level.energy_per_output_token),
        _divergence(one),
        _same_token(one),
        _sizes(one),
        _memory(one),
        _downloads(one),
    )


def _between(level: Level) -> RequestStatistics | None:
    return level.inter_token_latency or level.inter_chunk_latency  # schema 1 has gaps only


def _latency(one: ProfileReport, title: str, of: _Statistics) -> Figure:
    """Return a latency against concurrency: p50 and p99, and the p50 of earlier versions."""
    current = one.current
    levels = current.result.levels if current.result else ()
    at = tuple(level.concurrency for level in levels)
    earlier = [
        past for past in one.history[:-1] if past.result is not None and current.comparable(past)
    ][-_EARLIER:]

    def p50(level: Level) -> Estimate | None:
        found = of(level)
        return found.p50 if found else None

    def p99(level: Level) -> Estimate | None:
        found = of(level)
        return found.p99 if found else None

    def line(past: VersionFigures, pick: _Estimate, name: str, style: str) -> PlotSeries:
        points = (_at(past, concurrency, pick, "ms") for concurrency in at)
        return PlotSeries(name, tuple(points), style)

    series = [line(past, p50, "", "faint") for past in earlier]
    series += [line(current, p99, "p99", "b"), line(current, p50, "p50", "a")]
    plot = LinePlot(
        f"{title}, by concurrency", "ms", "requests at once", tuple(map(str, at)), tuple(series)
    )
    names = " and ".join([", ".join(p.version for p in earlier[:-1]), earlier[-1].version]
                         if len(earlier) > 1 else [p.version for p in earlier])  # fmt: skip
    caption = f"Grey: p50 of {names}." if earlier else "No earlier version to compare with."
    missing = "The benchmark's result was not published, or is not stored any more."
    return Figure(f"{title}, by concurrency", caption, line_plot(plot), missing)


def _by_version(one: ProfileReport, title: str, unit: str, of: _Estimate) -> Figure:
    """Return a figure over the versions, a line for each concurrency of this version."""
    result = one.current.result
    at = [level.concurrency for level in result.levels][: len(_STYLES)] if result else []
    series = tuple(
        PlotSeries(
            count(concurrency, "request"),
            tuple(
                _at(past, concurrency, of, unit, apart=not one.current.comparable(past))
                for past in one.history
            ),
            style,
        )
        for concurrency, style in zip(at, _STYLES, strict=False)
    )
    plot = LinePlot(f"{title}, by version", unit, "version", _labels(one), series)
    missing = f"No {title.lower()} is known of these versions."
    return Figure(f"{title}, by version", _whiskers(one), line_plot(plot), missing)


def _at(
    past: VersionFigures, concurrency: int, of: _Estimate, unit: str, *, apart: bool = False
) -> PlotPoint | None:
    """Return a figure of a version at a concurrency; None if it was not measured."""
    levels = past.result.levels if past.result else ()
    level = next((each for each in levels if each.concurrency == concurrency), None)
    found = of(level) if level else None
    if found is None:
        return None
    at_once = f"{past.version}, {count(concurrency, 'request')} at once"
    note = f"{at_once}: {interval(found, unit)}"
    return PlotPoint(found.mean, found.ci_low, found.ci_high, apart, note)


def _whiskers(one: ProfileReport) -> str:
    apart = any(not one.current.comparable(past) for past in one.history)
    hollow = " Hollow: measured on another machine." if apart else ""
    return f"Whiskers: 95 % interval over the runs.{hollow}"


def _divergence(one: ProfileReport) -> Figure:
    points = []
    for past in one.history:
        worst = past.receipt.worst().kl_mean if past.receipt else None
        points.append(_value(past, worst, lambda value: f"{value:.2g} nats"))
    title = "Divergence from the checkpoint"
    plot = LinePlot(title, "nats", "version", _labels(one), (_named(points, "{:.2g}"),))
    caption = "Mean Kullback-Leibler divergence of the worst section; less is nearer."
    return Figure(title, caption, line_plot(plot), "No version has an accuracy receipt.")


def _same_token(one: ProfileReport) -> Figure:
    points = []
    for past in one.history:
        worst = past.receipt.worst().same_top if past.receipt else None
        points.append(_value(past, worst and worst * 100, lambda value: f"{value:.1f} %"))
    title = "Same most likely token"
    plot = LinePlot(title, "%", "version", _labels(one), (_named(points, "{:.1f} %"),), False)
    caption = "Share of positions, worst section. The axis does not begin at zero."
    return Figure(title, caption, line_plot(plot), "No version has an accuracy receipt.")


def _memory(one: ProfileReport) -> Figure:
    points = [
        _value(past, past.manifest.smoke.peak_rss_mib, lambda value: f"{value:.0f} MiB",
               apart=not one.current.comparable(past))
        for past in one.history
    ]  # fmt: skip
    title = "Memory of the server"
    plot = LinePlot(title, "MiB", "version", _labels(one), (_named(points, "{:.0f}"),))
    return Figure(title, "Peak resident memory during the benchmark.", line_plot(plot))


def _sizes(one: ProfileReport) -> Figure:
    bars = [
        Bar(past.version, past.manifest.tree.size, bytes_text(past.manifest.tree.size), style)
        for past in reversed(one.history)
        for style in ("a" if past is one.current else "b",)
    ]
    title = "Size of the bundle"
    return Figure(title, "All files of the model repository, unpacked.", bar_plot(title, bars))


def _downloads(one: ProfileReport) -> Figure:
    bars = [
        Bar(
            f"from {found.version}" if found.version else "new device",
            found.bytes,
            "not known" if found.bytes is None else bytes_text(found.bytes),
            "a" if found.version else "b",
        )
        for found in one.downloads
    ]
    title = "Bytes that a device fetches"
    caption = "Content, chunk lists and proofs; without metadata and packages from an index."
    return Figure(title, caption, bar_plot(title, bars), "The files are not stored any more.")


def _labels(one: ProfileReport) -> tuple[str, ...]:
    return tuple(past.version for past in one.history)


def _named(points: list[PlotPoint | None], form: str) -> PlotSeries:
    """Return a line whose name is its last value."""
    last = points[-1]
    return PlotSeries(form.format(last.value) if last else "", tuple(points))


def _value(
    past: VersionFigures,
    value: float | None,
    show: Callable[[float], str],
    *,
    apart: bool = False,
) -> PlotPoint | None:
    if value is None:
        return None
    return PlotPoint(value, apart=apart, note=f"{past.version}: {show(value)}")
