"""--runner and FORGE_RUNNER: which runner, and that Forge never needs Dagger to say so."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from forge.errors import ConfigurationError
from forge.runners.open_runner import RUNNERS, open_runner

ROOT = Path(__file__).resolve().parents[3]


def forge(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "forge", *arguments],
        cwd=project, capture_output=True, text=True, check=False,
        env=os.environ | {"FORGE_DAGGER_ENGINES": "", "FORGE_RUNNER": "local"} | environment,
    )  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("pipelines", "stages", "profiles", "dockerfiles"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignore)
    return tmp_path


@pytest.mark.parametrize("name", RUNNERS)
def test_each_name_opens_its_runner(tmp_path: Path, name: str) -> None:
    assert open_runner(name, tmp_path, tmp_path / ".forge", {}).name.startswith(name)


def test_wrong_configuration_is_no_matter_to_the_local_runner(tmp_path: Path) -> None:
    (tmp_path / "forge.yaml").write_text("runners: 7")
    open_runner("local", tmp_path, tmp_path, {})
    with pytest.raises(ConfigurationError):
        open_runner("dagger", tmp_path, tmp_path, {})


@pytest.mark.parametrize("how", [("--runner", "dagger"), ()])
def test_plan_names_the_runner_that_option_or_variable_chose(
    project: Path, how: tuple[str, ...]
) -> None:
    environment = {} if how else {"FORGE_RUNNER": "dagger"}
    done = forge(project, "plan", "release", "--profile", "development", *how, **environment)
    assert done.returncode == 0, done.stderr
    where = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert " dagger linux/" in where["engine@development"]
    assert " local linux/" in where["publish"]  # it has the store


def test_run_without_an_engine_ends_with_exit_code_4_and_says_what_to_do(project: Path) -> None:
    engines = '{"linux/amd64": "unix:///nowhere/a", "linux/arm64": "unix:///nowhere/b"}'
    program = {"_EXPERIMENTAL_DAGGER_CLI_BIN": "/bin/true"}
    done = forge(
        project, "run", "release", "--profile", "development", "--runner", "dagger",
        "--only", "engine@development", FORGE_DAGGER_ENGINES=engines, **program,
    )  # fmt: skip
    assert done.returncode == 4
    assert "No Dagger engine at unix:///nowhere/" in done.stderr
    assert "--runner local" in done.stderr


def test_doctor_says_where_no_engine_answers_and_what_to_install(project: Path) -> None:
    engines = {"FORGE_DAGGER_ENGINES": '{"linux/amd64": "unix:///nowhere/a"}'}
    done = forge(project, "doctor", "--json", _EXPERIMENTAL_DAGGER_CLI_BIN="/bin/true", **engines)
    # A machine with a folder of docker or podman has a row about its disk, too.
    row, *_ = [row for row in json.loads(done.stdout) if row["needed_by"] == "dagger runner"]
    assert not row["ok"]
    assert "unix:///nowhere/a" in row["found"]
    assert "engine v0.21.8" in row["fix"]


def test_runner_is_there_without_the_sdk() -> None:
    program = (
        "import sys; sys.modules['dagger'] = None;"  # an import of it fails
        "from forge.runners.open_runner import open_runner; from pathlib import Path;"
        "print(open_runner('dagger', Path('.'), Path('.'), {}).name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("dagger linux/")
