"""Line and bar charts as SVG, without JavaScript. Pure: equal figures give equal bytes.

A chart is as wide as a telephone, so that its text has the same size on every screen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from forge.report.svg import document, element, escaped, shortened, text

__all__ = ["Bar", "LinePlot", "PlotPoint", "PlotSeries", "bar_plot", "line_plot", "ticks"]

_WIDTH: Final = 360
_HEIGHT: Final = 212
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 74, 24, 40
_CHAR: Final = 6.4  # width of a character of the small text, px
_LABEL_GAP: Final = 13  # between the lines of two names at the end of their series, px
_TICKS: Final = 4
_BAR_HEIGHT: Final = 30
_SMALLEST, _LARGEST = 1e-12, 1e12  # what is drawn; a float's steps are finer than a picture's


@dataclass(frozen=True, slots=True)
class PlotPoint:
    """A value with its interval.

    Attributes:
        apart: measured under other conditions than the newest point: drawn hollow.
        note: shown while a pointer rests on it.
    """

    value: float
    low: float | None = None
    high: float | None = None
    apart: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class PlotSeries:
    """A line.

    Attributes:
        name: written at its end.
        points: one for each label of the axis; None: not known.
        style: class of the style sheet: `a` to `e`, `faint` or `dashed`.
    """

    name: str
    points: tuple[PlotPoint | None, ...]
    style: str = "a"


@dataclass(frozen=True, slots=True)
class LinePlot:
    """A chart.

    Attributes:
        title: what it shows, for readers who do not see it.
        unit: of the values.
        axis: what the labels are.
        labels: below the axis.
        from_zero: whether the axis of the values begins at zero.
    """

    title: str
    unit: str
    axis: str
    labels: tuple[str, ...]
    series: tuple[PlotSeries, ...]
    from_zero: bool = True

    @property
    def empty(self) -> bool:
        """Return whether no value is known."""
        return not any(one for series in self.series for one in series.points)


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar with a text at its end. `value` None: not known, only the text is drawn."""

    label: str
    value: float | None
    text: str
    style: str = "b"


def line_plot(plot: LinePlot) -> str:
    """Return a chart; empty for one without a value that can be drawn."""
    plot = replace(plot, series=tuple(map(_finite, plot.series)))
    if plot.empty:
        return ""
    frame = _Frame.of(plot)
    parts = [
        *frame.grid(plot),
        *(part for series in plot.series for part in frame.line(series)),
        *frame.names(plot.series),
    ]
    return document(_WIDTH, _HEIGHT, plot.title, parts)


def bar_plot(title: str, bars: Sequence[Bar]) -> str:
    """Return horizontal bars that begin at zero; empty without one that has a value."""
    known = [bar.value for bar in bars if bar.value is not None]
    if not known:
        return ""
    longest = max(known) or 1.0
    room = _WIDTH - 4
    parts: list[str] = []
    for number, bar in enumerate(bars):
        y = number * _BAR_HEIGHT
        width = room * (bar.value or 0) / longest
        hint = element("title", escaped(f"{bar.label}: {bar.text}"))
        parts += [
            text(2, y + 12, shortened(bar.label, 34), "small"),
            text(_WIDTH - 2, y + 12, bar.text, "value", "end"),
            element("rect", x=2, y=y + 17, width=room, height=7, rx=2, class_="track"),
            element(
                "rect", hint, x=2, y=y + 17, width=max(width, 1), height=7, rx=2,
                class_=f"fill-{bar.style}",
            ),
        ]  # fmt: skip
    return document(_WIDTH, len(bars) * _BAR_HEIGHT, title, parts)


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers that enclose two values, about four steps apart."""
    span = next(each for each in (high - low, abs(high), 1.0) if each > _SMALLEST)
    rough = span / _TICKS
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if rough <= size * factor * 1.001)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _finite(series: PlotSeries) -> PlotSeries:
    """Return a series without values and intervals that cannot be drawn."""
    points = (
        replace(one, low=_drawable(one.low), high=_drawable(one.high))
        if one is not None and _drawable(one.value) is not None
        else None
        for one in series.points
    )
    return replace(series, points=tuple(points))


def _drawable(end: float | None) -> float | None:
    return end if end is not None and abs(end) <= _LARGEST else None  # nan is neither


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where values and labels are in the picture."""

    steps: tuple[float, ...]
    places: int  # of labels on the axis

    @classmethod
    def of(cls, plot: LinePlot) -> _Frame:
        ends = [
            end
            for series in plot.series
            for one in series.points
            if one is not None
            for end in (one.value, one.low, one.high)
            if end is not None
        ]
        ends += [0.0] if plot.from_zero else []
        return cls(tuple(ticks(min(ends), max(ends))), len(plot.labels))

    def x(self, place: int) -> float:
        room = _WIDTH - _LEFT - _RIGHT
        if self.places == 1:
            return _LEFT + room / 2
        return _LEFT + 8 + (room - 16) * place / (self.places - 1)

    def y(self, value: float) -> float:
        low, high = self.steps[0], self.steps[-1]
        share = min(max((value - low) / (high - low), -0.05), 1.05)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share

    def grid(self, plot: LinePlot) -> Iterator[str]:
        yield text(2, 12, plot.unit, "small")
        for step in self.steps:
            y = self.y(step)
            yield element("line", x1=_LEFT, y1=y, x2=_WIDTH - _RIGHT, y2=y, class_="grid")
            yield text(_LEFT - 6, y + 4, _number(step), "small", "end")
        yield text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 4, plot.axis, "small", "middle")
        for place, label in self._shown(plot.labels):
            yield text(self.x(place), _HEIGHT - _BOTTOM + 16, label, "small", "middle")

    def _shown(self, labels: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Yield those labels that have room next to each other, the last one in any case."""
        short = [shortened(one, 12) for one in labels]
        room = (_WIDTH - _LEFT - _RIGHT - 16) / max(len(labels) - 1, 1)
        every = max(1, math.ceil((max(map(len, short)) * _CHAR + 8) / room))
        for place in range(len(labels)):
            if (len(labels) - 1 - place) % every == 0:
                yield place, short[place]

    def line(self, series: PlotSeries) -> Iterator[str]:
        yield element("path", d=" ".join(self._path(series.points)), class_=f"line {series.style}")
        if series.style == "faint":
            return
        for place, one in enumerate(series.points):
            if one is None:
                continue
            x, y = self.x(place), self.y(one.value)
            if one.low is not None and one.high is not None:
                ends = {"x1": x, "y1": self.y(one.low), "x2": x, "y2": self.y(one.high)}
                yield element("line", **ends, class_=f"whisker {series.style}")
            hint = element("title", escaped(one.note)) if one.note else ""
            apart = " apart" if one.apart else ""
            yield element("circle", hint, cx=x, cy=y, r=3.2, class_=f"dot {series.style}{apart}")

    def _path(self, points: Sequence[PlotPoint | None]) -> Iterator[str]:
        """Yield the parts of a line that is interrupted where a value is not known."""
        down = False
        for place, one in enumerate(points):
            if one is not None:
                letter = "L" if down else "M"
                yield f"{letter}{self.x(place):.1f},{self.y(one.value):.1f}"
            down = one is not None

    def names(self, series: Sequence[PlotSeries]) -> Iterator[str]:
        """Yield the names at the ends of the lines, moved apart where they would overlap."""
        ends = []
        for one in series:
            known = [(place, point) for place, point in enumerate(one.points) if point is not None]
            if known and one.name:
                place, point = known[-1]
                ends.append((self.y(point.value) + 4, self.x(place), one))
        floor = _HEIGHT - _BOTTOM + 8
        ends.sort(key=lambda end: end[0])
        heights = _apart([end[0] for end in ends], floor)
        for y, (_, x, one) in zip(heights, ends, strict=True):
            shown = shortened(one.name, int((_WIDTH - x - 10) / _CHAR))
            yield text(x + 8, y, shown, f"small ink-{one.style}")


def _apart(heights: Sequence[float], floor: float) -> list[float]:
    """Return ascending heights at least one line apart, the last one not below `floor`."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + _LABEL_GAP) if placed else height)
    limit = floor
    for number in range(len(placed) - 1, -1, -1):
        placed[number] = min(placed[number], limit)
        limit = placed[number] - _LABEL_GAP
    return placed


def _number(value: float) -> str:
    """Return a number of an axis in at most six characters."""
    if abs(value) >= 10_000:  # noqa: PLR2004
        return f"{value / 1000:g}k"
    return f"{round(value, 10):.4g}"
