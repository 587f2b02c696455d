"""The chain as a picture: every row below its sources, arcs only where a record says so."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from forge.report.chain import ChainRow, arcs, build_rows, trust_rows
from forge.report.gather import gather
from forge.report.report import ReleaseReport
from tests.support.html_page import parse_page
from tests.support.report_world import ReportWorld, Version


@pytest.fixture(scope="module")
def report(module_folder: Path) -> ReleaseReport:
    world = ReportWorld(module_folder)
    world.publish(Version("1.0.0", 0))
    return gather(world.store, world.root, "demo", "1.0.0", now=world.now)


def sources(rows: list[ChainRow]) -> dict[str, set[str]]:
    return {row.name.split()[0]: {rows[at].name.split()[0] for at in row.sources} for row in rows}


def test_each_step_has_an_arc_from_the_step_whose_output_it_took(report: ReleaseReport) -> None:
    found = sources(build_rows(report.profiles[0]))
    assert found["checkpoint"] == set()
    assert found["engine@development"] == {"checkpoint"}
    assert found["repository@development"] == {
        "engine@development", "accuracy-gate@development"
    }  # fmt: skip
    assert len(found["proofs@development"]) == 6


def test_a_record_that_names_trees_of_nobody_draws_nothing(report: ReleaseReport) -> None:
    """Records are not signed: a false one may leave out an arc and not invent a digest."""
    one = report.profiles[0]
    false = tuple(replace(step, inputs={"x": "f" * 64}) for step in one.steps)
    assert all(not row.sources for row in build_rows(replace(one, steps=false)))
    lost = tuple(replace(step, inputs=None) for step in one.steps)
    assert [row.name for row in build_rows(replace(one, steps=lost))] == [s.step for s in one.steps]


def test_a_step_that_took_its_own_output_has_no_arc(report: ReleaseReport) -> None:
    one = report.profiles[0]
    own = tuple(replace(step, inputs=dict(step.outputs)) for step in one.steps)
    assert all(not row.sources for row in build_rows(replace(one, steps=own)))


def test_what_a_device_gets_is_marked(report: ReleaseReport) -> None:
    marked = {row.name for row in build_rows(report.profiles[0]) if row.strong}
    assert marked == {"repository@development", "proofs@development"}


def test_signatures_lead_from_the_root_to_the_files(report: ReleaseReport) -> None:
    rows = trust_rows(report, report.profiles[0])
    assert sources(rows) == {
        "first": set(),
        "root": {"first"},
        "timestamp": {"root"},
        "snapshot": {"root", "timestamp"},
        "targets": {"root", "snapshot"},
        "bundles": {"targets", "snapshot"},
        "channels": {"targets", "snapshot"},
        "manifest": {"bundles", "channels"},
        "files": {"manifest"},
        "proofs": {"manifest"},
    }
    without = trust_rows(replace(report, channels=()), report.profiles[0])
    assert sources(without)["manifest"] == {"bundles"}


def test_rows_have_their_digests_and_do_not_overlap(report: ReleaseReport) -> None:
    one = report.profiles[0]
    svg = parse_page(arcs("Build", build_rows(one))).one("svg")
    for step in one.steps:
        for name, digest in step.outputs.items():
            assert f"{name} {digest[:12]}" in svg.text
    heights = [float(text.attributes["y"]) for text in svg.all("text")]
    assert heights == sorted(heights)
    assert min(b - a for a, b in pairwise(heights)) >= 12


def test_long_names_are_shortened_in_the_middle_and_whole_in_the_hint() -> None:
    name = "accuracy-gate@" + "x" * 60 + "-end"
    svg = parse_page(arcs("Build", [ChainRow(name)])).one("svg")
    (shown,) = svg.all("text", class_="name")
    assert len(shown.text) < 40
    assert shown.text.startswith("accuracy-gate@")
    assert shown.text.endswith("-end")
    assert svg.one("circle").one("title").text == name


def test_no_rows_are_no_picture() -> None:
    assert arcs("Build", []) == ""
