"""The Markdown of a report: the same figures, short enough for GitHub, no text that is markup."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from forge.report import checks, figures
from forge.report.gather import gather
from forge.report.markdown import MAX_CHARACTERS, markdown
from forge.report.report import ReleaseReport, SbomPackage
from tests.support.report_world import ReportWorld, Version, sbom_of


@pytest.fixture(scope="module")
def report(module_folder: Path) -> ReleaseReport:
    world = ReportWorld(module_folder)
    for number in range(3):
        world.publish(Version(f"1.{number}.0", number), "development", "jetson-agx-orin")
    return gather(world.store, world.root, "demo", "1.2.0", now=world.now)


def rows(text: str) -> list[list[str]]:
    """The cells of every line of a table."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [
        [cell.replace("\\", "") for cell in re.split(r"(?<!\\) \| ", line[2:-2])] for line in lines
    ]


def test_it_has_the_cells_of_the_tables_of_the_page(report: ReleaseReport) -> None:
    found = rows(markdown(report))
    expected = [figures.overview(report), checks.metadata(report)]
    for one in report.profiles:
        expected += [figures.measured(one), figures.versions(one), figures.downloads(one)]
        expected += [figures.facts(one), figures.build_steps(one), figures.licences(one)]
        maybe = (figures.gate(one), figures.accuracy_gate(one), figures.proofs(one))
        expected += [table for table in maybe if table is not None]
    for table in expected:
        assert list(table.header) in found
        for row in table.rows:
            assert [" ".join(cell.split()) for cell in row] in found


def test_a_table_has_as_many_cells_in_each_row(report: ReleaseReport) -> None:
    for block in re.split(r"\n\n", markdown(report)):
        assert len({len(row) for row in rows(block)}) <= 1, block


def test_it_begins_with_the_version_and_ends_with_how_to_check_it(report: ReleaseReport) -> None:
    text = markdown(report)
    assert text.startswith("## demo 1.2.0\n")
    assert "on channel canary" in text
    assert "$ forge report demo 1.2.0 " in text[text.index("### How to check it") :]
    assert text.count("<details>") == text.count("</details>") > 0


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "| a | b |",
        "[x](javascript:1)",
        "`x` **y**\n\n# z",
        "</details>",
    ],
)
def test_no_text_becomes_markup(report: ReleaseReport, text: str) -> None:
    def lines(package: str) -> list[str]:
        (one, *_) = report.profiles
        assert one.sbom is not None
        assert one.proofs is not None
        sbom = replace(one.sbom, packages=(SbomPackage("a", "1", package),))
        proofs = replace(one.proofs, files=(replace(one.proofs.files[0], name=package),))
        profile = replace(one, sbom=sbom, proofs=proofs)
        return markdown(replace(report, profiles=(profile,))).splitlines()

    plain, hostile = lines("x"), lines(text)
    assert len(plain) == len(hostile)
    changed = [line for line, was in zip(hostile, plain, strict=True) if line != was]
    assert len(changed) == 2
    for line in changed:
        assert line.startswith("| ")
        assert not re.search(r"<|(?<!\\)[`*\[]", line)
        assert len(rows(line)[0]) in (2, 4)


def test_nobody_is_notified_by_the_name_of_a_package(tmp_path: Path) -> None:
    world = ReportWorld(tmp_path)
    world.publish(Version("1.0.0", 0, sbom=sbom_of(("a",), ("see @someone",))))
    text = markdown(gather(world.store, world.root, "demo", "1.0.0", now=world.now))
    assert "@someone" not in text
    assert "someone" in text
    assert "gate@development" in text  # the name of a step


def test_what_has_no_room_is_left_out_whole_and_the_end_stays(report: ReleaseReport) -> None:
    (one, *_) = report.profiles
    many = tuple(
        replace(one, manifest=one.manifest.model_copy(update={"profile": f"profile-{number}"}))
        for number in range(40)
    )
    text = markdown(replace(report, profiles=many))
    assert 0.8 * MAX_CHARACTERS < len(text) <= MAX_CHARACTERS
    assert "### How to check it" in text
    assert "The rest has no room here" in text
    assert text.count("<details>") == text.count("</details>")
