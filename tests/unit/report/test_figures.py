"""Cells of the tables: units, unknown values, what is compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from forge.report import checks, figures
from forge.report.figures import ReportTable
from forge.report.gather import gather
from forge.report.report import DownloadSize, GateResults, ProfileReport, ReleaseReport
from tests.support.receipts import receipt
from tests.support.report_world import ReportWorld, Version, result_of
from tests.support.smoke_results import GPU


@pytest.fixture(scope="module")
def report(module_folder: Path) -> ReleaseReport:
    world = ReportWorld(module_folder)
    world.publish(Version("1.0.0", 0, environments={"triton": "a" * 64}))
    world.publish(Version("1.1.0", 1, environments={"triton": "b" * 64}))
    return gather(world.store, world.root, "demo", "1.1.0", now=world.now)


def cells(table: ReportTable) -> list[dict[str, str]]:
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]


def elsewhere(one: ProfileReport) -> ProfileReport:
    """The profile whose last version but one was measured on another machine."""
    before = one.history[0]
    smoke = before.manifest.smoke.model_copy(update={"machine": GPU.describe()})
    moved = replace(before, manifest=before.manifest.model_copy(update={"smoke": smoke}))
    return replace(one, history=(moved, one.current))


def test_change_is_shown_only_where_both_were_measured_on_one_machine(
    report: ReleaseReport,
) -> None:
    (one,) = report.profiles
    assert " %)" in cells(figures.overview(report))[0]["output"]
    (moved,) = cells(figures.overview(replace(report, profiles=(elsewhere(one),))))
    assert moved["output"].endswith("tokens/s")
    assert moved["first token"].endswith(" ms")
    (first,) = cells(
        figures.overview(replace(report, profiles=(replace(one, history=(one.current,)),)))
    )
    assert first["output"] == moved["output"]


def test_a_version_measured_elsewhere_has_a_remark_and_the_column_is_left_out_else(
    report: ReleaseReport,
) -> None:
    (one,) = report.profiles
    assert "remark" not in figures.versions(one).header
    rows = cells(figures.versions(elsewhere(one)))
    assert [bool(row["remark"]) for row in rows] == [False, True]


def test_column_that_is_left_out_does_not_move_the_alignment_of_others() -> None:
    table = ReportTable(("a", "b", "c"), (("1", "", "3"), ("4", "", "6")), frozenset({1, 2}))
    assert table.without_empty_columns() == ReportTable(
        ("a", "c"), (("1", "3"), ("4", "6")), frozenset({1})
    )


@pytest.mark.parametrize(
    ("size", "share"),
    [(None, "—"), (0, "0.0%"), (500, "50.0%"), (1000, "100.0%")],
)
def test_share_of_what_a_new_device_fetches(
    report: ReleaseReport, size: int | None, share: str
) -> None:
    (one,) = report.profiles
    found = (
        DownloadSize(None, 1000, environment_changed=True),
        DownloadSize("1.0.0", size, environment_changed=False, note="why"),
    )
    whole, update = cells(figures.downloads(replace(one, downloads=found)))
    assert (whole["share"], whole["packages"]) == ("100.0%", "installed")
    assert (update["share"], update["packages"]) == (share, "kept")
    assert (update["fetches"] == "why") == (size is None)


def test_packages_of_a_bundle_without_an_environment(report: ReleaseReport) -> None:
    (one,) = report.profiles
    assert [row["packages"] for row in cells(figures.downloads(one))] == ["installed"] * 2
    serving = one.manifest.serving.model_copy(update={"environments": {}})
    bare = replace(one, manifest=one.manifest.model_copy(update={"serving": serving}))
    assert [row["packages"] for row in cells(figures.downloads(bare))] == ["none"] * 2


@pytest.mark.parametrize(
    ("smoke", "accuracy", "said"),
    [
        (True, True, "passed"),
        (False, True, "failed"),
        (True, False, "failed"),
        (None, True, "passed"),
    ],
)
def test_gate_has_passed_only_if_all_that_are_stored_have(
    report: ReleaseReport, *, smoke: bool | None, accuracy: bool, said: str
) -> None:
    (one,) = report.profiles
    assert one.gates.smoke is not None
    assert one.gates.accuracy is not None
    first = None if smoke is None else one.gates.smoke.model_copy(update={"passed": smoke})
    second = one.gates.accuracy.model_copy(update={"passed": accuracy})
    gates = replace(one.gates, smoke=first, accuracy=second)
    changed = replace(report, profiles=(replace(one, gates=gates),))
    assert cells(figures.overview(changed))[0]["gate"] == said


def test_no_gate_and_one_that_is_not_stored_are_told_apart(report: ReleaseReport) -> None:
    (one,) = report.profiles
    lost = replace(one, gates=GateResults(None, None, one.gates.steps))
    none = replace(one, gates=GateResults(None, None, {}))
    overviews = [figures.overview(replace(report, profiles=(each,))) for each in (lost, none)]
    said = [cells(each)[0]["gate"] for each in overviews]
    assert list(zip(said, map(figures.gate_missing, (lost, none)), strict=True)) == [
        ("not stored any more", "The checks of the smoke gate are not stored any more."),
        ("none in the chain", "The chain of this version has no gate."),
    ]


def test_without_a_result_the_manifest_s_summary_is_shown(report: ReleaseReport) -> None:
    (one,) = report.profiles
    bare = replace(one, history=(replace(one.current, result=None, receipt=None),))
    (row,) = cells(figures.measured(bare))
    assert row["concurrency"] == "1"
    assert row["output"].startswith(f"{result_of(1).lowest.output_token_throughput.mean:.3g}")  # type: ignore[union-attr]
    assert row["energy"] == "—"
    assert figures.measured_on(bare) == one.manifest.smoke.machine
    assert figures.accuracy(bare) is None


def test_figures_that_are_not_finite_are_said_to_be_so(report: ReleaseReport) -> None:
    (one,) = report.profiles
    broken = receipt(kl_mean=None, same_top=None)
    changed = replace(one, history=(replace(one.current, receipt=broken),))
    assert (
        "not finite" in cells(figures.overview(replace(report, profiles=(changed,))))[0]["accuracy"]
    )
    table = figures.accuracy(changed)
    assert table is not None
    assert {row["KL mean"] for row in cells(table)} == {"not finite"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-11-24T04:00:00Z", "2026-11-24 04:00:00 UTC"),
        ("2026-11-24T04:00:00.123456+00:00", "2026-11-24 04:00:00 UTC"),
        ("2026-11-24T04:00:00+01:00", "2026-11-24T04:00:00+01:00"),
        ("yesterday", "yesterday"),
    ],
)
def test_times_in_utc(text: str, shown: str) -> None:
    assert figures.moment(text) == shown


def test_every_command_to_check_a_release_is_one_of_forge(report: ReleaseReport) -> None:
    from forge.cli import cli

    names = [one.command.split() for one in checks.commands(report)]
    own = [words[1] for words in names if words[0] == "forge"]
    assert len(own) == 4
    assert set(own) <= set(cli.list_commands(None))  # type: ignore[arg-type]  # as in any context


@pytest.mark.parametrize(("number", "text"), [(0, "0 files"), (1, "1 file"), (2, "2 files")])
def test_singular_and_plural(number: int, text: str) -> None:
    assert figures.count(number, "file") == text
