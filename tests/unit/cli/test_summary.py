"""The job summary of GitHub Actions."""

from pathlib import Path

import pytest

from forge.cli import summary

HEADER = ("step", "status")


def test_nothing_is_written_where_there_is_no_summary(tmp_path: Path) -> None:
    summary.append({}, "Plan", HEADER, [("a", "run")])
    summary.append({"GITHUB_STEP_SUMMARY": ""}, "Plan", HEADER, [("a", "run")])
    assert list(tmp_path.iterdir()) == []


def test_tables_are_added_one_below_the_other(tmp_path: Path) -> None:
    file = tmp_path / "summary"
    for title in ("Plan", "Run"):
        summary.append({"GITHUB_STEP_SUMMARY": str(file)}, title, HEADER, [("a", "run")])
    table = "| step | status |\n| --- | --- |\n| a | run |\n\n"
    assert file.read_text() == f"### Plan\n\n{table}### Run\n\n{table}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        ("a\n| c |", r"a \| c \|"),
        ("<img src=x>", "&lt;img src=x>"),
        ("[here](javascript:x)", r"\[here](javascript:x)"),
        ("x" * 400, "x" * 299 + "…"),
    ],
)
def test_no_text_leaves_its_cell_or_becomes_a_link(text: str, shown: str) -> None:
    assert summary.markdown(("a",), [(text,)]).splitlines()[-1] == f"| {shown} |"


def test_long_table_says_how_much_it_leaves_out() -> None:
    assert summary.markdown(HEADER, [("a", "b")] * 502).endswith("… and 2 more\n")


def test_summary_that_cannot_be_written_does_not_fail_a_command_that_worked(tmp_path: Path) -> None:
    nowhere = tmp_path / "missing" / "summary"
    summary.append({"GITHUB_STEP_SUMMARY": str(nowhere)}, "Plan", HEADER, [("a", "run")])
    assert not nowhere.exists()


def test_summary_stays_below_what_github_takes(tmp_path: Path) -> None:
    file = tmp_path / "summary"
    file.write_bytes(b"x" * (1024 * 1024 - 10))
    summary.append({"GITHUB_STEP_SUMMARY": str(file)}, "Plan", HEADER, [("a", "run")])
    assert file.stat().st_size == 1024 * 1024 - 10
