"""Which figures are drawn: one picture each, or the reason why there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from forge.report.gather import gather
from forge.report.profile_plots import Figure, profile_figures
from forge.report.report import ProfileReport
from tests.support.html_page import parse_page
from tests.support.report_world import CONCURRENCY, ReportWorld, Version, result_of
from tests.support.smoke_results import GPU, measured, result


@pytest.fixture(scope="module")
def world(module_folder: Path) -> ReportWorld:
    made = ReportWorld(module_folder)
    moved = result_of(0).model_copy(update={"machine": GPU})
    made.publish(Version("1.0.0", 0, result=moved))
    for number in range(1, 6):
        made.publish(Version(f"1.{number}.0", number))
    return made


def profile(world: ReportWorld, version: str = "1.5.0") -> ProfileReport:
    return gather(world.store, world.root, "demo", version, now=world.now).profiles[0]


def drawn(one: ProfileReport) -> dict[str, Figure]:
    return {figure.title: figure for figure in profile_figures(one)}


def classes(figure: Figure, tag: str) -> list[str]:
    return [one.attributes["class"] for one in parse_page(figure.picture).one("svg").all(tag)]


def test_each_figure_of_a_release_is_drawn(world: ReportWorld) -> None:
    found = drawn(profile(world))
    assert list(found) == [
        "First token, by concurrency",
        "Between tokens, by concurrency",
        "Output, by version",
        "Energy, by version",
        "Divergence from the checkpoint",
        "Same most likely token",
        "Size of the bundle",
        "Memory of the server",
        "Bytes that a device fetches",
    ]
    assert all(figure.picture for figure in found.values())


def test_latency_is_compared_with_the_three_versions_before_on_the_same_machine(
    world: ReportWorld,
) -> None:
    found = drawn(profile(world))["First token, by concurrency"]
    assert classes(found, "path") == ["line faint"] * 3 + ["line b", "line a"]
    assert found.caption == "Grey: p50 of 1.2.0, 1.3.0 and 1.4.0."
    second = drawn(profile(world, "1.2.0"))["First token, by concurrency"]
    assert second.caption == "Grey: p50 of 1.1.0."  # 1.0.0 was measured elsewhere
    first = drawn(profile(world, "1.0.0"))["First token, by concurrency"]
    assert first.caption == "No earlier version to compare with."
    assert classes(first, "path") == ["line b", "line a"]


def test_a_figure_by_version_has_a_line_for_each_concurrency(world: ReportWorld) -> None:
    found = drawn(profile(world))["Output, by version"]
    assert classes(found, "path") == ["line a", "line b", "line c"]
    dots = classes(found, "circle")
    assert len(dots) == 6 * len(CONCURRENCY)
    assert sum("apart" in one for one in dots) == len(CONCURRENCY)  # of 1.0.0
    assert "Hollow" in found.caption
    assert len(classes(found, "line")) > len(dots)  # whiskers, and the grid


def test_energy_that_nobody_measured_is_said_to_be_unknown(tmp_path: Path) -> None:
    world = ReportWorld(tmp_path)
    world.publish(Version("1.0.0", 0, result=result(measured(1))))
    found = drawn(profile(world, "1.0.0"))["Energy, by version"]
    assert found.picture == ""
    assert found.missing == "No energy is known of these versions."


def test_without_predicates_the_manifests_are_drawn_and_the_rest_is_said(tmp_path: Path) -> None:
    world = ReportWorld(tmp_path)
    for number in range(2):
        world.publish(Version(f"1.{number}.0", number, predicates=False))
    found = drawn(profile(world, "1.1.0"))
    missing = {title for title, figure in found.items() if not figure.picture}
    assert missing == set(list(found)[:6])
    assert all(found[title].missing for title in missing)


def test_sizes_that_are_not_known_have_no_bar(world: ReportWorld) -> None:
    one = profile(world)
    first, second, *rest = one.downloads
    lost = replace(one, downloads=(first, replace(second, bytes=None, note="gone"), *rest))
    bars = drawn(lost)["Bytes that a device fetches"].picture
    assert "not known" in bars
    none = replace(one, downloads=tuple(replace(each, bytes=None) for each in one.downloads))
    assert drawn(none)["Bytes that a device fetches"].picture == ""
