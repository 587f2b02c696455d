"""The job summary of GitHub Actions."""

from pathlib import Path

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


def test_summary_that_cannot_be_written_does_not_fail_a_command_that_worked(tmp_path: Path) -> None:
    nowhere = tmp_path / "missing" / "summary"
    summary.append({"GITHUB_STEP_SUMMARY": str(nowhere)}, "Plan", HEADER, [("a", "run")])
    assert not nowhere.exists()


def test_summary_stays_below_what_github_takes(tmp_path: Path) -> None:
    file = tmp_path / "summary"
    file.write_bytes(b"x" * (1024 * 1024 - 10))
    summary.append({"GITHUB_STEP_SUMMARY": str(file)}, "Plan", HEADER, [("a", "run")])
    assert file.stat().st_size == 1024 * 1024 - 10


def test_text_is_added_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "summary"
    environment = {"GITHUB_STEP_SUMMARY": str(file)}
    summary.append(environment, "Plan", HEADER, [("a", "run")])
    summary.append_text(environment, "## Report")
    summary.append_text(environment, "x" * 1024 * 1024)
    assert file.read_text().endswith("| a | run |\n\n## Report\n")


def test_outputs_of_a_step_are_one_line_each(tmp_path: Path) -> None:
    file = tmp_path / "output"
    environment = {"GITHUB_OUTPUT": str(file)}
    summary.set_output(environment, "bundle", "llm")
    summary.set_output(environment, "version", "1.0.0\nbundle=other")
    summary.set_output({}, "bundle", "nowhere")
    summary.set_output({"GITHUB_OUTPUT": str(tmp_path / "no" / "output")}, "bundle", "nowhere")
    assert file.read_text() == "bundle=llm\nversion=1.0.0 bundle=other\n"
