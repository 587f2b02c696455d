"""The last lines of a run: figures, gates, what was published where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forge.cli.run_result import print_result, read_result
from forge.plan import Status
from forge.profiles import ThresholdsSection
from forge.runners.schedule import Done
from forge.smoke.gate import GATE_FILE, GateSettings, gate
from forge.smoke.result import RESULT_FILE
from forge.steps import Step
from forge.store import ActionResult, Store
from tests.support.release_world import World
from tests.support.smoke_results import result


def step(step_id: str, module: str, **settings: str) -> Step:
    return Step(step_id, ("${python}", "-m", module), outputs=("out",), settings=settings)


def done(store: Store, of: Step, folder: Path, **files: str) -> Done:
    """A step that wrote these files."""
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    tree = store.put_tree(folder)
    action = ActionResult(
        key="0" * 64, step=of.id, fields={}, inputs={}, outputs={"out": tree}, parents=(),
        seconds=1.0, started="2026-11-24T04:00:00Z", runner="local",
    )  # fmt: skip
    return Done(of, Status.RUN, 1.0, action)


def settings(**thresholds: float) -> GateSettings:
    limits = dict.fromkeys(ThresholdsSection.model_fields) | {"error_rate": 0.0} | thresholds
    return GateSettings.model_validate({"smoke": {"thresholds": limits, "regression_pct": 10}})


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def run_of(world: World, tmp_path: Path) -> list[Done]:
    world.publish("1.0.0", channel="canary")
    report = gate(result(), settings(ttft_ms_p50=100.0)).model_dump_json()
    return [
        done(world.store, step("smoke@a", "forge.smoke.steps.benchmark"), tmp_path / "s",
             **{RESULT_FILE: result().model_dump_json()}),
        done(world.store, step("gate@a", "forge.smoke.steps.gate"), tmp_path / "g",
             **{GATE_FILE: report}),
        done(world.store, step("publish", "forge.release.steps.publish", name="demo",
                               version="1.0.0", channel="canary"), tmp_path / "p", f="x"),
    ]  # fmt: skip


def test_the_last_lines_say_what_was_published_where(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_result(read_result(world.store, run_of(world, tmp_path)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Measured"
    assert lines[2].split()[:2] == ["a", "1"]
    assert "TTFT 330 ms" in lines[2]
    gates = lines[lines.index("Gate") + 2]
    assert gates.split()[:3] == ["a", "failed", "ttft_ms_p50"]
    published = lines[-4:]
    assert published[0] == f"Published in {world.store.url}"
    assert published[2].split()[:3] == ["demo", "1.0.0", "development"]
    assert published[3] == "channel  canary → 1.0.0"


def test_a_channel_that_is_ahead_is_said_to_stay(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.publish("2.0.0", channel="canary")
    print_result(read_result(world.store, run_of(world, tmp_path)))
    assert "canary stays at 2.0.0, which is newer" in capsys.readouterr().out


def test_json_has_the_same_at_the_step_that_made_it(world: World, tmp_path: Path) -> None:
    smoke, gated, published = steps = run_of(world, tmp_path)
    found = read_result(world.store, steps)
    assert found.of_step(smoke.step)["figures"] == {
        "1": "TTFT 330 ms, ITL 16.5 ms, 60 tokens/s",
        "2": "TTFT 990 ms, ITL 16.5 ms, 90 tokens/s",
    }
    checks = found.of_step(gated.step)["gate"]
    assert json.loads(json.dumps(checks))[0]["verdict"] == "failed"
    assert json.loads(json.dumps(found.of_step(published.step)))["published"][0]["points_to"] == (
        "1.0.0"
    )
    assert found.of_step(Step("engine@a", ("true",))) == {}


def test_a_result_that_cannot_be_read_is_left_out_and_the_run_has_succeeded(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = done(world.store, step("gate@a", "forge.smoke.steps.gate"), tmp_path / "g",
                   **{GATE_FILE: "{"})  # fmt: skip
    nothing = done(
        world.store, step("smoke@a", "forge.smoke.steps.benchmark"), tmp_path / "s", f="x"
    )
    unknown = step("publish", "forge.release.steps.publish", name="x", version="1", channel="c")
    found = read_result(world.store, [damaged, nothing, Done(unknown, Status.SKIPPED, 0, None)])
    print_result(found)
    assert capsys.readouterr().out == ""
