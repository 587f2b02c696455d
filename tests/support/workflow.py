"""A GitHub Actions job on this machine: its own `run:` commands, in a clean clone, in bash.

Only what our workflows need. An expression or an action that is not known here fails the test, so
that a workflow cannot use what nobody runs.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
INSTALL = "scripts/install-forge"
ACTIONS = {"actions/checkout", "actions/setup-python"}
CREDENTIALS = "aws-actions/configure-aws-credentials"
TIMEOUT_S = 540.0
_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


class UnknownExpressionError(Exception):
    """A workflow uses what this runner does not know."""


def load(name: str) -> Any:
    """A workflow of this repository."""
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))


def evaluate(text: str, values: Mapping[str, str]) -> str:
    """Fill in `${{ a.b }}` and `${{ a.b || 'literal' }}`; anything else is an error."""

    def operand(word: str) -> str:
        if len(word) > 1 and word[0] == word[-1] == "'":
            return word[1:-1]
        if word not in values:
            raise UnknownExpressionError(word)
        return values[word]

    def value(match: re.Match[str]) -> str:
        found = [operand(word.strip()) for word in match.group(1).split("||")]
        return next((one for one in found if one), "")

    return _EXPRESSION.sub(value, str(text))


@dataclass(frozen=True)
class Result:
    """How a job ended: exit code of its last step, what it printed, its outputs and summary."""

    exit_code: int
    log: str
    outputs: dict[str, str]
    summary: str

    def statuses(self) -> dict[str, str]:
        """Status by step id, from the table that `forge run` wrote into the job's summary."""
        _, found, table = self.summary.partition("### Run of release")
        assert found, self.log
        first, _, _ = table.lstrip().partition("\n\n")  # below it is the report
        rows = [line.split(" | ") for line in first.splitlines()][2:]
        return {row[0].removeprefix("| "): row[1] for row in rows}


@dataclass(frozen=True)
class Machine:
    """A fresh runner: a clean clone of HEAD, its own cache and temporary folder.

    Shared with this checkout, to save time: the installed `.venv` and the tool environments.
    `roles` has the credentials of each role that a job may assume.
    """

    folder: Path
    roles: Mapping[str, dict[str, str]]

    def __post_init__(self) -> None:
        for name in ("temp", "cache"):
            (self.folder / name).mkdir(parents=True)
        command = ["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(self.clone)]
        subprocess.run(command, check=True, timeout=120)
        shared = ROOT / ".forge" / "environments"
        shared.mkdir(parents=True, exist_ok=True)
        (self.clone / ".forge").mkdir()
        (self.clone / ".forge" / "environments").symlink_to(shared)

    @property
    def clone(self) -> Path:
        return self.folder / "clone"

    def file(self, name: str) -> Path:
        path = self.folder / name
        path.touch()
        return path


def run_job(
    workflow: Any,
    job: str,
    machine: Machine,
    values: Mapping[str, str],
    kill_when: Callable[[], bool] | None = None,
) -> Result:
    """Run one job's steps until one fails; `kill_when` pulls the plug in the middle of one."""
    assert workflow["defaults"] == {"run": {"shell": "bash"}}
    known = {**values, "runner.temp": str(machine.folder / "temp")}
    shared = _environment(machine) | _evaluated(workflow.get("env", {}), known)
    log, exit_code = "", 0
    outputs: dict[str, str] = {}
    for step in workflow["jobs"][job]["steps"]:
        if exit_code and step.get("if") != "always()":
            continue
        if "uses" in step:
            shared |= _use(step, machine, known)
            continue
        environment = shared | _evaluated(step.get("env", {}), known)
        assert "${{" not in step["run"], "an expression in a script is an injection"
        if step["run"] == INSTALL:
            continue  # the shared .venv; tests/e2e/test_wheel.py runs the script
        code, said = _bash(step["run"], machine, environment, kill_when)
        log += said
        exit_code = exit_code or code
    for line in machine.file("output").read_text().splitlines():
        name, _, value = line.partition("=")
        outputs[name] = value
    return Result(exit_code, log, outputs, machine.file("summary").read_text())


def _use(step: Any, machine: Machine, values: Mapping[str, str]) -> Mapping[str, str]:
    """What an action adds to the environment: only the one that assumes a role adds anything."""
    action = step["uses"].partition("@")[0]
    options = _evaluated(step["with"], values)
    if action == CREDENTIALS:
        region = options["aws-region"]
        exported = {"AWS_REGION": region, "AWS_DEFAULT_REGION": region}
        return machine.roles[options["role-to-assume"]] | exported
    assert action in ACTIONS, action
    return {}


def _environment(machine: Machine) -> dict[str, str]:
    """What a runner gives every step; nothing of this test's own credentials or settings."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in {"HOME", "LANG"} or name.startswith(("UV_", "PIP_", "SSL_CERT_", "REQUESTS_CA_"))
    }
    return {
        **passed,
        "AWS_EC2_METADATA_DISABLED": "true",
        "PATH": path,
        "GITHUB_ACTIONS": "true",
        "GITHUB_OUTPUT": str(machine.file("output")),
        "GITHUB_STEP_SUMMARY": str(machine.file("summary")),
        "RUNNER_TEMP": str(machine.folder / "temp"),
        "FORGE_CACHE": str(machine.folder / "cache"),
    }


def _evaluated(mapping: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, str]:
    return {name: evaluate(text, values) for name, text in mapping.items()}


def _bash(
    script: str,
    machine: Machine,
    environment: Mapping[str, str],
    kill_when: Callable[[], bool] | None,
) -> tuple[int, str]:
    """Run a script as GitHub's `shell: bash` does; returns exit code and what was printed."""
    path = machine.folder / "step.sh"
    path.write_text(script)
    bash = shutil.which("bash") or "/bin/bash"
    log = machine.folder / "step.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [bash, "--noprofile", "--norc", "-eo", "pipefail", str(path)],
            cwd=machine.clone, env=dict(environment), stdin=subprocess.DEVNULL,
            stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + TIMEOUT_S
        try:
            while process.poll() is None:
                assert time.monotonic() < deadline, log.read_text(errors="replace")
                if kill_when is not None and kill_when():
                    break
                time.sleep(0.05)
        finally:
            _pull_the_plug(process.pid)
            process.wait()
    return process.returncode, log.read_text(errors="replace")


def _pull_the_plug(pid: int) -> None:
    """SIGKILL to the process group and to every descendant, also those in groups of their own."""
    family = [pid, *_descendants(pid)]
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    for one in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found += [int(child), *_descendants(int(child))]
    return found
