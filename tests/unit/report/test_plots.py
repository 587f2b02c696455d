"""Charts: round axes, everything inside of the picture, gaps where nothing is known."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.report.plots import Bar, LinePlot, PlotPoint, PlotSeries, bar_plot, line_plot, ticks
from tests.support.html_page import Node, parse_page

NUMBERS = st.floats(min_value=-1e12, max_value=1e12, allow_nan=False)
ANY = st.none() | st.floats()


def plot(*series: PlotSeries, labels: int = 3, from_zero: bool = True) -> Node:
    names = tuple(f"1.{n}.0" for n in range(labels))
    text = line_plot(LinePlot("title", "ms", "version", names, series, from_zero))
    return parse_page(text)


def points(*values: float | None) -> tuple[PlotPoint | None, ...]:
    return tuple(None if value is None else PlotPoint(value) for value in values)


@given(NUMBERS, NUMBERS)
def test_ticks_are_round_evenly_apart_and_enclose_the_values(one: float, other: float) -> None:
    low, high = sorted((one, other))
    found = ticks(low, high)
    slack = 1e-6 * max(abs(low), abs(high)) + 1e-10  # what is smaller is drawn as zero
    assert found[0] <= low + slack
    assert found[-1] >= high - slack
    assert 2 <= len(found) <= 8
    steps = [b - a for a, b in pairwise(found)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-3)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 100, [0, 25, 50, 75, 100]),
        (0, 172, [0, 50, 100, 150, 200]),
        (96.2, 97.2, [96, 96.25, 96.5, 96.75, 97, 97.25]),
        (0, 0, [0, 0.25]),
    ],
)
def test_ticks_of_some_values(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def coordinates(svg: Node) -> list[tuple[str, float]]:
    """Every horizontal and vertical place in a picture."""
    found = []
    for node in svg.all():
        names = {"x", "x1", "x2", "cx", "y", "y1", "y2", "cy"} & node.attributes.keys()
        found += [(name.strip("c12"), float(node.attributes[name])) for name in names]
        for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", node.attributes.get("d", "")):
            found += [("x", float(x)), ("y", float(y))]
    return found


@given(st.lists(st.lists(ANY, min_size=3, max_size=3), min_size=1, max_size=5), st.booleans())
def test_any_values_are_drawn_inside_of_the_picture(
    values: list[list[float | None]],
    from_zero: bool,  # noqa: FBT001
) -> None:
    known = [one for line in values for one in line if one is not None and abs(one) <= 1e12]
    series = [PlotSeries(f"s{n}", points(*line), "abcde"[n]) for n, line in enumerate(values)]
    page = plot(*series, from_zero=from_zero)
    assert bool(page.all("svg")) == bool(known)
    if known:
        svg = page.one("svg")
        width, height = map(float, svg.attributes["viewbox"].split()[2:])
        assert len(svg.all("circle")) == len(known)
        for axis, at in coordinates(svg):
            assert 0 <= at <= (width if axis == "x" else height)


def test_a_line_is_interrupted_where_nothing_is_known() -> None:
    page = plot(PlotSeries("", points(1, None, 3)))
    assert page.one("path").attributes["d"].count("M") == 2
    assert "L" not in page.one("path").attributes["d"]
    assert len(page.all("circle")) == 2


def test_a_value_measured_elsewhere_is_hollow_and_says_what_it_is() -> None:
    apart = PlotPoint(2, apart=True, note="1.0.0: 2 <ms>")
    first, second = plot(PlotSeries("", (apart, PlotPoint(3)))).all("circle")
    assert "apart" in first.attributes["class"]
    assert "apart" not in second.attributes["class"]
    assert first.one("title").text == "1.0.0: 2 <ms>"


def test_an_interval_is_a_whisker_from_its_low_to_its_high_end() -> None:
    page = plot(PlotSeries("", (PlotPoint(50, 25, 100),)), labels=1)
    whisker = next(one for one in page.all("line") if "whisker" in one.attributes["class"])
    dot = page.one("circle")
    low, mid, high = (float(at) for at in (
        whisker.attributes["y1"], dot.attributes["cy"], whisker.attributes["y2"]))  # fmt: skip
    assert low - mid == pytest.approx((mid - high) / 2)


def test_names_of_lines_that_end_together_do_not_overlap() -> None:
    series = [PlotSeries(f"{n} requests", points(100, 100, 100 + n), "abcde"[n]) for n in range(5)]
    page = plot(*series)
    names = [one for one in page.all("text") if one.text.endswith("requests")]
    heights = sorted(float(one.attributes["y"]) for one in names)
    assert len(heights) == 5
    assert min(b - a for a, b in pairwise(heights)) >= 13
    assert [one.text for one in sorted(names, key=lambda one: float(one.attributes["y"]))] == [
        f"{n} requests" for n in (4, 3, 2, 1, 0)
    ]


@pytest.mark.parametrize("labels", [1, 2, 5, 8, 12, 40])
def test_labels_of_the_axis_do_not_overlap_and_the_newest_is_there(labels: int) -> None:
    page = plot(PlotSeries("", points(*range(labels))), labels=labels)
    shown = [
        (float(one.attributes["x"]), one.text)
        for one in page.all("text")
        if re.fullmatch(r"1\.\d+\.0", one.text)
    ]
    assert shown[-1][1] == f"1.{labels - 1}.0"
    for (left, one), (right, other) in pairwise(shown):
        assert right - left >= 6 * (len(one) + len(other)) / 2


def test_nothing_known_is_no_picture() -> None:
    assert line_plot(LinePlot("t", "ms", "v", ("1.0.0",), (PlotSeries("", (None,)),))) == ""
    assert line_plot(LinePlot("t", "ms", "v", (), ())) == ""
    assert bar_plot("t", [Bar("a", None, "not known")]) == ""


def test_a_bar_without_a_value_has_its_text_and_no_length() -> None:
    page = parse_page(bar_plot("t", [Bar("a", 100, "100 B"), Bar("b", None, "not known")]))
    widths = [float(one.attributes["width"]) for one in page.all("rect")]
    assert widths[1] > 300
    assert widths[3] <= 1
    assert "not known" in page.text


def test_bars_of_nothing_but_zero_are_drawn() -> None:
    page = parse_page(bar_plot("t", [Bar("a", 0, "0 B")]))
    assert [float(one.attributes["width"]) <= 1 for one in page.all("rect")] == [False, True]
