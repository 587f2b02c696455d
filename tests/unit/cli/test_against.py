"""`forge plan --against CHANNEL` and `forge run --dry-run`: what would run, and why."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from forge.bundle import ChainLink
from forge.canonical import digest
from forge.cli import main
from forge.release.catalog import Catalog
from forge.release.manifest import PlannedManifest
from tests.support.release_world import World
from tests.support.stores import snapshot

Capture = pytest.CaptureFixture[str]
PIPELINE = """\
from forge.plan import Plan
from forge.steps import Step


def release(profiles, *, precision: str = "fp16", extra: bool = False) -> Plan:
    first = Step(id="engine@development", argv=("sh", "-ceu", "echo made > ${outputs.engine}/f"),
                 outputs=("engine",), settings={"precision": precision})
    tested = Step(id="smoke@development", argv=("sh", "-ceu", "echo > ${outputs.o}/f"),
                  inputs={"engine": first["engine"]}, outputs=("o",))
    more = [Step(id="more", argv=("sh", "-ceu", "echo > ${outputs.o}/f"), outputs=("o",))]
    ends = [tested, *(more if extra else [])]
    return Plan.of("release", [one[one.outputs[0]] for one in ends])
"""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A project whose channel `canary` has what its pipeline builds."""
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "release.py").write_text(PIPELINE)
    (tmp_path / "stages").mkdir()
    (tmp_path / "profiles").symlink_to(Path(__file__).resolve().parents[3] / "profiles")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORGE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("FORGE_KEYS", str(tmp_path / "keys"))
    made = World(tmp_path, now=datetime.now(UTC))
    assert main(["run", "release", "--profile", "development", "--json"]) == 0
    chain = tuple(
        ChainLink(
            step=one.step,
            key=one.key,
            outputs={name: tree.digest for name, tree in one.outputs.items()},
        )
        for one in made.store.recent_actions()
    )
    planned = made.planned("1.0.0").manifest.model_copy(update={"chain": chain})
    made.publish_planned(PlannedManifest(planned, digest([planned.identity()])))
    return made


def against(capsys: Capture, *arguments: str) -> dict[str, dict[str, Any]]:
    capsys.readouterr()
    line = ["plan", "release", "--profile", "development", "--against", "canary", "--json"]
    assert main([*line, *arguments]) == 0
    return {one["step"]: one for one in json.loads(capsys.readouterr().out)["steps"]}


@pytest.mark.usefixtures("world")
def test_a_plan_without_a_change_has_the_steps_of_the_channel(capsys: Capture) -> None:
    assert main(["plan", "release", "--profile", "development", "--against", "canary"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "Against canary: demo 1.0.0", "All 2 steps are those of that version."
    ]  # fmt: skip
    found = against(capsys)
    assert {step: one["compared"] for step, one in found.items()} == {
        "engine@development": "same", "smoke@development": "same"
    }  # fmt: skip


@pytest.mark.usefixtures("world")
def test_a_changed_setting_is_named_and_what_depends_on_it_is_marked(capsys: Capture) -> None:
    found = against(capsys, "--precision", "int8", "--extra", "true")
    engine = found["engine@development"]
    assert engine["compared"] == "rebuilt"
    assert any(
        "precision" in str(one) or "settings" in one["field"] for one in engine["differences"]
    )
    assert found["smoke@development"]["compared"] == "depends"
    assert found["more"]["compared"] == "new"


def test_a_step_that_the_plan_lacks_is_gone(world: World, capsys: Capture) -> None:
    manifest = Catalog(world.objects).manifest("demo", "1.0.0", "development")
    link = ChainLink(step="old", key="0" * 64, outputs={})
    changed = manifest.model_copy(update={"version": "1.1.0", "chain": (*manifest.chain, link)})
    world.publish_planned(PlannedManifest(changed, digest([changed.identity()])))
    assert against(capsys)["old"]["compared"] == "gone"


def test_a_result_that_was_deleted_gives_no_fields(world: World, capsys: Capture) -> None:
    for file in (world.folder / "store" / "actions").rglob("*.json"):
        file.unlink()
    found = against(capsys, "--precision", "int8")["engine@development"]
    assert found["differences"] == []
    assert "deleted" in found["reason"]


@pytest.mark.usefixtures("world")
def test_markdown_is_a_comment_for_a_pull_request(capsys: Capture) -> None:
    capsys.readouterr()
    line = ["plan", "release", "--profile", "development", "--against", "canary"]
    assert main([*line, "--precision", "int8", "--markdown"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("### Against canary: demo 1.0.0\n")
    assert "| engine@development | rebuilt |" in shown
    assert "1 of 2 steps differ from those of that version; for 1 more, a result" in shown
    assert main([*line, "--precision", "int8"]) == 0
    assert "rebuilt" in capsys.readouterr().out


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--against", "canry"], "did you mean 'canary'?"),
        (["--markdown"], "--markdown requires --against"),
        (["--against", "canary", "--markdown", "--json"], "exclude each other"),
    ],
)
def test_wrong_arguments_exit_2(capsys: Capture, arguments: list[str], message: str) -> None:
    assert main(["plan", "release", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_dry_run_shows_the_plan_and_runs_nothing(world: World, capsys: Capture) -> None:
    before = snapshot(world.folder / "store")
    capsys.readouterr()
    line = ["--profile", "development", "--precision", "int8", "--json"]
    assert main(["run", "release", "--dry-run", *line]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(one["step"], one["status"]) for one in shown] == [
        ("engine@development", "run"), ("smoke@development", "waits")
    ]  # fmt: skip
    assert snapshot(world.folder / "store") == before
    assert main(["plan", "release", *line]) == 0
    assert json.loads(capsys.readouterr().out) == shown
