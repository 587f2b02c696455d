"""Completion of values: right in a project, empty elsewhere, never an error, never long."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from forge.cli import cli, completion, main
from forge.release.catalog import Catalog
from tests.support.small_project import SmallProject, small_project


@pytest.fixture(scope="module")
def project(module_folder: Path) -> SmallProject:
    return small_project(module_folder)


@pytest.fixture
def inside(project: SmallProject, monkeypatch: pytest.MonkeyPatch) -> SmallProject:
    monkeypatch.chdir(project.root)
    return project


def completed(line: str) -> list[str]:
    *words, last = line.split(" ")
    shell = ShellComplete(cli, {}, "forge", completion.COMPLETION)
    return [one.value for one in shell.get_completions(words, last)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bun", ["bundle"]),
        ("plan --profile tes", ["tesla-p40"]),
        ("plan --profile development,tes", ["development,tesla-p40"]),
        ("profile show dev", ["development"]),
        ("why release smoke@d", ["smoke@development"]),
        ("plan --profile tesla-p40 --only ", ["engine@tesla-p40", "smoke@tesla-p40"]),
        ("bundle show ", ["1.1.0", "1.0.0"]),
        ("bundle show 1.0.0 --profile ", ["development"]),
        ("bundle list --st", ["--store"]),
        ("diff ", ["1.1.0", "1.0.0", "canary", "stable"]),
        ("diff 1.0.0 st", ["stable"]),
        ("diff 1.0.0 1.1.0 --profile ", ["development"]),
        ("affected aiohttp --channel st", ["stable"]),
        ("plan --against st", ["stable"]),
        ("vex 1.", ["1.1.0", "1.0.0"]),
        ("promote 1.0.0 s", ["stable"]),
        ("promote 1.0.0 stable --name d", ["demo"]),
        ("device provision --store artifacts --name ", ["demo"]),
        ("device provision --store artifacts --name demo --channel c", ["canary"]),
        ("images update tri", ["triton-25.09", "triton-26.07-trtllm"]),
        ("keys rotate ch", ["channels"]),
        ("help bundle s", ["show"]),
        ("help nothing ", []),
    ],
)
@pytest.mark.usefixtures("inside")
def test_values_are_completed(line: str, expected: list[str]) -> None:
    assert completed(line) == expected


@pytest.mark.parametrize("line", ["bundle show ", "profile show ", "device run --profile "])
def test_outside_a_project_nothing_is_completed(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert completed(line) == []


def test_an_error_prints_nothing_into_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(completion.COMPLETION, "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "forge plan --profile ")
    monkeypatch.setenv("COMP_CWORD", "3")
    assert main([]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("inside")
def test_a_store_that_does_not_answer_completes_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(_catalog: Catalog) -> list[str]:
        time.sleep(30)
        return ["late"]

    monkeypatch.setattr(completion, "_LIMIT_S", 0.05)
    monkeypatch.setattr(Catalog, "names", hang)
    assert completed("channels --name ") == []
