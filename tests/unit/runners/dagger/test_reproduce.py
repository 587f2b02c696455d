"""The script that runs a container step again."""

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from forge.errors import NoRunnerError
from forge.runners.dagger import reproduce
from forge.runners.dagger.container import ContainerPlan, Mount, ToolImage
from forge.runners.dagger.session import CLI

PLAN = ContainerPlan(
    step="engine@a",
    platform="linux/amd64",
    engine="unix:///nowhere/e.sock",
    image="python:3.11-slim",
    tools=(ToolImage("openvino", Path("/p/requirements.lock"), "3.11"),),
    folders=(Mount(Path("/trees/a"), "/forge/inputs/a"),),
    files=(),
    outputs={"/forge/outputs/engine": Path("/out put")},
    env={"A": "it's"},
    secrets={"HF_TOKEN": "hf_secret", "PIP_INDEX_URL": "https://user:password@x"},
    argv=("compile", "it's", "$HOME"),
    gpu=False,
)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "reproduce.sh"
    reproduce.write(PLAN, "/opt/a program/dagger", path)
    return path


def plan_in(script: Path) -> ContainerPlan:
    text = script.read_text().split("<<'PLAN'\n", 1)[1].split("\nPLAN\n", 1)[0]
    return TypeAdapter(ContainerPlan).validate_python(json.loads(text))


def test_script_holds_the_plan_without_the_values_of_its_secrets(script: Path) -> None:
    bare = replace(PLAN, secrets={"HF_TOKEN": "", "PIP_INDEX_URL": ""})
    assert plan_in(script) == bare
    assert "hf_secret" not in script.read_text()
    assert "password" not in script.read_text()
    assert script.stat().st_mode & 0o777 == 0o755


def test_script_is_shell_and_stops_without_the_secrets(script: Path) -> None:
    done = subprocess.run(["sh", str(script)], env={}, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "HF_TOKEN" in done.stderr
    assert "it is a secret and not stored here" in done.stderr


def test_script_names_program_and_interpreter(script: Path) -> None:
    words = script.read_text().splitlines()
    assert f"export {CLI}='/opt/a program/dagger'" in words
    start = f"{shlex.quote(sys.executable)} -m forge.runners.dagger.reproduce <<'PLAN'"
    assert start in words


class Input:
    """Standard input that holds a plan."""

    def __init__(self, plan: ContainerPlan) -> None:
        self._text = TypeAdapter(ContainerPlan).dump_json(plan).decode()

    def read(self) -> str:
        return self._text


def test_engine_that_does_not_answer_ends_with_exit_code_4(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(CLI, "/bin/true")
    monkeypatch.setattr(sys, "stdin", Input(replace(PLAN, secrets={})))
    assert reproduce.main() == NoRunnerError.exit_code == 4
    assert "No Dagger engine at unix:///nowhere/e.sock" in capsys.readouterr().err


def test_secrets_are_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []

    async def again(plan: ContainerPlan, _: object) -> int:
        seen.append(dict(plan.secrets))
        return 7

    monkeypatch.setattr(reproduce, "_rerun", again)
    monkeypatch.setattr(sys, "stdin", Input(PLAN))
    monkeypatch.setenv("HF_TOKEN", "from here")
    monkeypatch.setenv("PIP_INDEX_URL", "also here")
    assert reproduce.main() == 7
    assert seen == [{"HF_TOKEN": "from here", "PIP_INDEX_URL": "also here"}]
