"""`forge report`, and the reports of a run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from forge.cli import main, pipeline
from forge.cli.report import report, report_run
from forge.cli.run_result import Publication, PublishedPart, RunResult, print_result
from forge.report.gather import DEFAULT_VERSIONS
from tests.support.html_page import parse_page
from tests.support.report_world import ReportWorld, Version
from tests.support.small_project import small_project

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def world(module_folder: Path) -> ReportWorld:
    made = ReportWorld(module_folder, memory=False)
    for number in range(2):
        made.publish(Version(f"1.{number}.0", number))
    return made


def place(world: ReportWorld) -> str:
    return str(world.world.folder / "store")


def publication(world: ReportWorld, version: str = "1.1.0", name: str = "demo") -> Publication:
    part = PublishedPart(profile="development", tree="0" * 64, bytes=1)
    return Publication(store=place(world), name=name, version=version, channel="canary",
                       points_to=version, parts=(part,))  # fmt: skip


def test_page_and_markdown_are_written_and_named(
    world: ReportWorld, tmp_path: Path, capsys: Capture
) -> None:
    folder = tmp_path / "new" / "report"
    assert main(["report", "demo", "1.1.0", "-o", str(folder), "--store", place(world)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["index.html", "report.md"]
    page = parse_page((folder / "index.html").read_text())
    assert page.one("h1").text == "demo 1.1.0"
    assert (folder / "report.md").read_text().startswith("## demo 1.1.0\n")
    out = capsys.readouterr().out
    assert str(folder / "index.html") in out
    assert str(folder / "report.md") in out


def test_json_names_the_files(world: ReportWorld, tmp_path: Path, capsys: Capture) -> None:
    command = ["report", "demo", "1.1.0", "-o", str(tmp_path), "--store", place(world), "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out) == {
        "name": "demo",
        "version": "1.1.0",
        "html": str(tmp_path / "index.html"),
        "markdown": str(tmp_path / "report.md"),
        "proofs": [],
    }


def test_proofs_are_those_of_the_store_and_sha256sum_checks_them(
    tmp_path: Path, capsys: Capture
) -> None:
    world = ReportWorld(tmp_path / "world", memory=False)
    made = world.publish(Version("1.0.0", 0), "development", "tesla-p40")
    folder = tmp_path / "report"
    command = ["report", "demo", "1.0.0", "-o", str(folder), "--store", place(world)]
    assert main([*command, "--proofs"]) == 0
    assert str(folder / "SHA256SUMS") in capsys.readouterr().out
    stored = {
        f"demo-1.0.0-{one.profile}.{file.path}": world.store.read_file(
            one.proofs.digest, file.path, max_bytes=1_000_000
        )
        for one in made
        for file in world.store.tree(one.proofs.digest).entries
    }
    assert {name.rpartition("demo-1.0.0-")[2] for name in stored} >= {
        "development.sbom.cdx.json", "tesla-p40.provenance.dsse.json", "tesla-p40.model.sig",
    }  # fmt: skip
    copies = {path.name: path.read_bytes() for path in folder.iterdir()}
    checked = subprocess.check_output(
        ["sha256sum", "--strict", "--check", "SHA256SUMS"], cwd=folder, text=True
    )
    assert {line.removesuffix(": OK") for line in checked.splitlines()} == {
        "index.html", "report.md", *stored,
    }  # fmt: skip
    assert {name: copies[name] for name in stored} == stored
    assert set(copies) == {"index.html", "report.md", "SHA256SUMS", *stored}


def test_it_is_the_job_summary_too(
    world: ReportWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    folder = tmp_path / "report"
    assert main(["report", "demo", "1.1.0", "-o", str(folder), "--store", place(world)]) == 0
    assert (tmp_path / "summary").read_text() == (folder / "report.md").read_text() + "\n"


def test_number_of_versions_to_compare(world: ReportWorld, tmp_path: Path) -> None:
    command = ["report", "demo", "1.1.0", "-o", str(tmp_path), "--store", place(world)]
    assert main([*command, "--versions", "1"]) == 0
    assert "1.0.0" not in parse_page((tmp_path / "index.html").read_text()).one("main").text
    assert main(command) == 0
    assert "1.0.0" in parse_page((tmp_path / "index.html").read_text()).one("main").text


def test_default_number_of_versions_is_that_of_the_report() -> None:
    (option,) = (one for one in report.params if one.name == "versions_")
    assert option.default == DEFAULT_VERSIONS


def test_a_device_s_root_is_verified_from(
    world: ReportWorld, tmp_path: Path, capsys: Capture
) -> None:
    own, other = tmp_path / "root.json", tmp_path / "other.json"
    own.write_bytes(world.root)
    other.write_bytes(ReportWorld(tmp_path / "other").root)
    command = ["report", "demo", "1.1.0", "--store", place(world), "-o", str(tmp_path / "out")]
    assert main([*command, "--root", str(other)]) == 7
    assert not (tmp_path / "out").exists()
    assert main([*command, "--root", str(own)]) == 0
    (tmp_path / "text").write_text("no metadata")
    assert main([*command, "--root", str(tmp_path / "text")]) == 7
    assert "root metadata" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["demo", "1.1.1"], 2, "known: 1.1.0, 1.0.0"),
        (["dema", "1.1.0"], 2, "did you mean 'demo'?"),
        (["demo", "1.1.0", "--root", "nowhere.json"], 2, "nowhere.json"),
        (["demo", "1.1.0", "--versions", "0"], 2, "--versions"),
        (["demo"], 2, "VERSION"),
    ],
)
def test_what_does_not_exist_is_named(
    world: ReportWorld, tmp_path: Path, capsys: Capture, arguments: list[str], code: int,
    message: str,
) -> None:  # fmt: skip
    command = ["report", *arguments, "-o", str(tmp_path / "out"), "--store", place(world)]
    assert main(command) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_named(
    world: ReportWorld, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "file").write_text("")
    folder = str(tmp_path / "file" / "report")
    assert main(["report", "demo", "1.1.0", "-o", folder, "--store", place(world)]) == 3
    assert folder in capsys.readouterr().err


def test_a_report_that_fails_leaves_the_earlier_one(world: ReportWorld, tmp_path: Path) -> None:
    command = ["-o", str(tmp_path), "--store", place(world)]
    assert main(["report", "demo", "1.1.0", *command]) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["report", "demo", "9.9.9", *command]) == 2
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


class TestRun:
    """At the end of a run."""

    def test_what_was_published_is_reported(
        self, world: ReportWorld, tmp_path: Path, capsys: Capture
    ) -> None:
        result = RunResult(profiles=(), published=(publication(world),))
        found, text = report_run(world.store, result, tmp_path)
        assert found.published[0].report == str(tmp_path / "index.html")
        assert text == (tmp_path / "report.md").read_text()
        print_result(found)
        assert capsys.readouterr().out.splitlines()[-1] == f"report   {tmp_path / 'index.html'}"

    def test_several_publications_have_a_folder_each(
        self, world: ReportWorld, tmp_path: Path
    ) -> None:
        both = (publication(world, "1.0.0"), publication(world))
        found, text = report_run(world.store, RunResult(profiles=(), published=both), tmp_path)
        assert [one.report for one in found.published] == [
            str(tmp_path / f"demo-{version}" / "index.html") for version in ("1.0.0", "1.1.0")
        ]
        assert text.index("## demo 1.0.0") < text.index("## demo 1.1.0")

    def test_a_report_that_cannot_be_made_is_said_and_what_is_published_stays(
        self, world: ReportWorld, tmp_path: Path, capsys: Capture
    ) -> None:
        both = (publication(world, "3.0.0"), publication(world))
        found, text = report_run(world.store, RunResult(profiles=(), published=both), tmp_path)
        assert [one.report is None for one in found.published] == [True, False]
        assert text.startswith("## demo 1.1.0")
        message = " ".join(capsys.readouterr().err.split())
        assert "demo 3.0.0 is published, but its report could not be made" in message
        assert f"forge report demo 3.0.0 -o {tmp_path / 'demo-3.0.0'}" in message

    def test_a_full_disk_is_said_too(
        self, world: ReportWorld, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*, prefix: str) -> None:  # noqa: ARG001
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("forge.report.gather.TemporaryDirectory", full)
        result = RunResult(profiles=(), published=(publication(world),))
        assert report_run(world.store, result, tmp_path) == (result, "")
        assert "No space left on device" in capsys.readouterr().err

    @pytest.mark.parametrize("report", ["", "## demo 1.1.0\n"])
    def test_summary_has_the_report_in_place_of_the_tables(
        self, world: ReportWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: str
    ) -> None:
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
        result = RunResult(profiles=(), published=(publication(world),))
        pipeline._summarise("release", [], result, report)
        text = (tmp_path / "summary").read_text()
        assert text.startswith("### Run of release\n")
        assert ("### Published in" in text) == (not report)
        assert ("## demo 1.1.0\n" in text) == bool(report)

    def test_a_run_that_publishes_nothing_says_so(self, tmp_path: Path) -> None:
        project = small_project(tmp_path)
        done = project.run("run", "--profile", "development", "--report", "report")
        assert "No report: this run has published nothing." in done.stderr
        assert not (project.root / "report").exists()
