"""A container plan as calls of the SDK, recorded by a client that has no engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import dagger
import pytest

from forge.errors import EngineError, StepFailedError
from forge.runners.dagger.container import ContainerPlan, Mount, ToolImage
from forge.runners.dagger.exec import Ended, run
from tests.support.dagger_failures import REPORTED, Reported, exec_error, query_error

PLAN = ContainerPlan(
    step="engine@a",
    platform="linux/arm64",
    engine=None,
    image="python:3.11-slim",
    tools=(),
    folders=(Mount(Path("/trees/a"), "/forge/inputs/a"),),
    files=(Mount(Path("/p/tool.py"), "/forge/sources/tool.py"),),
    outputs={"/forge/outputs/engine": Path("/work/engine")},
    env={"A": "1"},
    secrets={"HF_TOKEN": "secret"},
    argv=("compile", "--out", "/forge/outputs/engine"),
    gpu=False,
)


@dataclass
class Engine:
    """What the recorded calls answer, and where they fail."""

    code: int = 0
    output: str = "printed"
    fails: Callable[[tuple[str, ...]], bool] = lambda _: False
    error: Exception = field(default_factory=lambda: query_error("the engine said no"))
    exported: dict[str, str] = field(default_factory=dict)


class Node:
    """An object of the API: every method returns a node that knows the calls that led to it."""

    def __init__(self, engine: Engine, calls: tuple[tuple[Any, ...], ...] = ()) -> None:
        self._engine = engine
        self.calls = calls

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name in {"sync", "exit_code", "combined_output", "export"}:
            return lambda *given: self._ask(name, *given)
        return lambda *given, **named: Node(self._engine, (*self.calls, (name, *given, named)))

    async def _ask(self, name: str, *given: Any) -> Any:
        names = tuple(str(call[0]) for call in self.calls)
        if self._engine.fails(names):
            raise self._engine.error
        match name:
            case "exit_code":
                return self._engine.code
            case "combined_output":
                return self._engine.output
            case "export":
                self._engine.exported[self.calls[-1][1]] = given[0]
        if "with_workdir" in names:
            Recorded.calls = self.calls
        return self


class Recorded:
    """Calls of the last container that ran something."""

    calls: tuple[tuple[Any, ...], ...] = ()


def executed(plan: ContainerPlan, engine: Engine | None = None) -> tuple[Ended, list[str]]:
    notes: list[str] = []
    client = cast("dagger.Client", Node(engine or Engine()))
    return asyncio.run(run(client, plan, notes.append)), notes


def of(name: str) -> list[tuple[Any, ...]]:
    return [call[1:-1] for call in Recorded.calls if call[0] == name]


def test_command_runs_in_the_image_of_the_platform_in_the_work_folder() -> None:
    ended, notes = executed(PLAN)
    assert (ended.exit_code, ended.output) == (0, "printed")
    assert ended.seconds >= 0
    assert notes == []
    assert Recorded.calls[0] == ("container", {"platform": "linux/arm64"})
    assert of("from_") == [("python:3.11-slim",)]
    assert of("with_workdir") == [("/forge",)]


def test_both_streams_of_the_command_are_one_and_any_exit_code_is_taken() -> None:
    executed(PLAN)
    ((argv, named),) = [call[1:] for call in Recorded.calls if call[0] == "with_exec"]
    assert argv == ["sh", "-c", 'exec "$@" 2>&1', "sh", *PLAN.argv]
    assert named == {"expect": dagger.ReturnType.ANY}


def test_inputs_sources_outputs_variables_and_secrets_are_there() -> None:
    executed(PLAN)
    assert [path for path, _ in of("with_mounted_directory")] == ["/forge/inputs/a"]
    assert [path for path, _ in of("with_mounted_file")] == ["/forge/sources/tool.py"]
    assert [path for path, _ in of("with_directory")] == ["/forge/outputs/engine"]
    assert of("with_env_variable") == [("A", "1")]
    ((name, secret),) = of("with_secret_variable")
    assert name == "HF_TOKEN"
    assert secret.calls[-1][1:3] == ("HF_TOKEN", "secret")
    assert all("secret" not in str(call) for call in of("with_env_variable"))


def test_input_is_sent_whole_and_only_forges_own_package_without_compiled_python() -> None:
    own = Mount(Path("/site/forge"), "/forge/source/forge", exclude=("**/__pycache__",))
    executed(replace(PLAN, folders=(*PLAN.folders, own)))
    (_, tree), (_, package) = of("with_mounted_directory")
    assert tree.calls[-1] == ("directory", "/trees/a", {"exclude": []})
    assert package.calls[-1] == ("directory", "/site/forge", {"exclude": ["**/__pycache__"]})


def cache_volumes(calls: tuple[tuple[Any, ...], ...]) -> set[str]:
    return {call[2].calls[-1][1] for call in calls if call[0] == "with_mounted_cache"}


def test_caches_of_installers_are_of_one_environment_and_no_step_sees_them(tmp_path: Path) -> None:
    def volumes(lock: str, plan: ContainerPlan = PLAN) -> set[str]:
        path = tmp_path / "requirements.lock"
        path.write_text(lock)
        tools = (ToolImage("forge", path, "3.11"),)
        executed(replace(plan, tools=tools))
        assert of("with_mounted_cache") == []
        return cache_volumes(of("with_mounted_directory")[0][1].calls)

    mine = volumes("click==8.1.0")
    assert len(mine) == 2
    assert volumes("click==8.1.0") == mine
    for other in (
        volumes("click==8.2.0"),
        volumes("click==8.1.0", replace(PLAN, platform="linux/amd64")),
        volumes("click==8.1.0", replace(PLAN, image="python:3.12-slim")),
    ):
        assert not mine & other


@pytest.mark.parametrize("gpu", [False, True])
def test_gpus_are_asked_for_where_the_plan_needs_them(gpu: object) -> None:
    executed(replace(PLAN, gpu=bool(gpu)))
    assert (of("experimental_with_all_gp_us") != []) is gpu


@pytest.mark.parametrize("code", [0, 1, 5, 137])
def test_outputs_are_exported_only_of_a_command_that_succeeded(code: int) -> None:
    engine = Engine(code=code)
    ended, _ = executed(PLAN, engine)
    assert ended.exit_code == code
    expected = {"/forge/outputs/engine": "/work/engine"} if code == 0 else {}
    assert engine.exported == expected


def test_environment_is_made_from_its_lock_and_mounted(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==2.1.0 --hash=sha256:00\n")
    tool = ToolImage("openvino", lock, "3.11", packages_path="/forge/source")
    _, notes = executed(replace(PLAN, tools=(tool,)))
    assert notes == ["installing environment openvino, unless the engine has cached it"]
    path, made = of("with_mounted_directory")[0]
    assert path == "/opt/openvino"
    calls = made.calls
    assert ("with_new_file", "/forge/lock", lock.read_text(), {}) in calls
    commands = [call[1] for call in calls if call[0] == "with_exec"]
    assert commands[0] == ["python3", "-m", "venv", "/opt/uv"]
    assert commands[2] == ["/opt/uv/bin/uv", "venv", "--python", "3.11", "/opt/openvino"]
    assert {"--require-hashes", "--only-binary", "/forge/lock"} <= set(commands[3])
    assert "/forge/source" in commands[4][-1]
    assert calls[-1][:2] == ("directory", "/opt/openvino")


def test_only_variables_about_networks_reach_the_making_of_an_environment(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("")
    tools = (ToolImage("openvino", lock, "3.11"),)
    executed(replace(PLAN, tools=tools, secrets={"HF_TOKEN": "a", "PIP_INDEX_URL": "b"}))
    made = of("with_mounted_directory")[0][1]
    assert [call[1] for call in made.calls if call[0] == "with_secret_variable"] == [
        "PIP_INDEX_URL"
    ]


# Where a run can fail, and what could not be done there.
PLACES: tuple[tuple[Callable[[tuple[str, ...]], bool], str], ...] = (
    (lambda calls: calls[-1] == "from_", "could not use the image python:3.11-slim"),
    (
        lambda calls: calls[-1] == "directory" and "with_new_file" in calls,
        "could not install the environment openvino",
    ),
    (lambda calls: calls[-1] == "with_exec", "could not be run by Dagger"),
    (lambda calls: calls[-1] == "directory" and "with_workdir" in calls, "could not be run"),
)


@pytest.mark.parametrize(("fails", "message"), PLACES)
def test_failure_says_what_the_engine_could_not_do(
    tmp_path: Path, fails: Callable[[tuple[str, ...]], bool], message: str
) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("")
    plan = replace(PLAN, tools=(ToolImage("openvino", lock, "3.11"),))
    with pytest.raises(StepFailedError, match=f"Step engine@a {message}") as caught:
        executed(plan, Engine(fails=fails))
    assert caught.value.exit_code == 5
    assert caught.value.why == "the engine said no"
    assert "--runner local" in caught.value.hint


@pytest.fixture
def plan(tmp_path: Path) -> ContainerPlan:
    lock = tmp_path / "requirements.lock"
    lock.write_text("")
    return replace(PLAN, tools=(ToolImage("openvino", lock, "3.11"),))


@pytest.mark.parametrize("one", [one for one in REPORTED if one.failure], ids=lambda one: one.text)
@pytest.mark.parametrize("fails", [fails for fails, _ in PLACES])
def test_failure_of_the_engine_is_none_of_the_step_wherever_it_comes(
    plan: ContainerPlan, fails: Callable[[tuple[str, ...]], bool], one: Reported
) -> None:
    with pytest.raises(EngineError) as caught:
        executed(plan, Engine(fails=fails, error=query_error(one.text)))
    assert caught.value.exit_code == 4
    assert caught.value.what == "Step engine@a was not run to its end"
    assert one.text.splitlines()[0] in caught.value.why
    assert "runners.md" not in caught.value.hint


@pytest.mark.parametrize(
    "one", [one for one in REPORTED if not one.failure], ids=lambda one: one.text
)
def test_failure_of_the_image_says_what_an_image_requires(
    plan: ContainerPlan, one: Reported
) -> None:
    with pytest.raises(StepFailedError) as caught:
        executed(plan, Engine(fails=PLACES[0][0], error=query_error(one.text)))
    assert caught.value.exit_code == 5
    assert "docs/reference/runners.md" in caught.value.hint


@pytest.mark.parametrize(
    ("stderr", "exit_code"),
    [
        *((one.text, 4) for one in REPORTED if one.failure and "uv" in one.source + one.text),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
         4),
        ("/opt/uv/bin/python: No module named venv", 5),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", 5),
    ],
)  # fmt: skip
def test_installer_that_has_no_network_or_disk_is_a_failure_of_the_engine(
    plan: ContainerPlan, stderr: str, exit_code: int
) -> None:
    error = exec_error(stderr)
    assert isinstance(error, dagger.ExecError)
    with pytest.raises((EngineError, StepFailedError)) as caught:
        executed(plan, Engine(fails=PLACES[1][0], error=error))
    assert caught.value.exit_code == exit_code
    assert stderr.splitlines()[-1] in caught.value.why


@pytest.mark.parametrize("one", REPORTED, ids=lambda one: one.text)
def test_what_a_command_says_of_networks_is_its_own_failure_and_a_full_disk_the_engines(
    one: Reported,
) -> None:
    """A step's command may ask a server that does not exist: then it fails, and not the engine."""
    engine = Engine(code=1, output=f"Traceback\n{one.text}\n")
    if "no space left" in one.text or "quota" in one.text:
        with pytest.raises(EngineError) as caught:
            executed(PLAN, engine)
        assert one.text in caught.value.why
    else:
        assert executed(PLAN, engine)[0].exit_code == 1


@pytest.mark.parametrize("code", [0, 3, 6, 7, 9, 137])
def test_only_an_exit_code_that_says_nothing_is_explained_by_a_full_disk(code: int) -> None:
    ended, _ = executed(PLAN, Engine(code=code, output="No space left on device"))
    assert ended.exit_code == code


def test_engine_that_does_not_answer_is_left_to_the_session(plan: ContainerPlan) -> None:
    error = dagger.TransportError("Failed to execute request")
    with pytest.raises(dagger.TransportError):
        executed(plan, Engine(fails=PLACES[2][0], error=error))
