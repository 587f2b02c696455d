"""The pipeline that `forge init --ci gitlab` writes: its own scripts, on a real release.

Not GitLab's own interpreter: rules, `extends` and `variables` are read here, scripts are run by
bash as GitLab's shell executor does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.project_world import World

pytestmark = [
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.sample,
    pytest.mark.timeout(1200),
]
INSTALL = "scripts/install-forge"
REFERENCE = re.compile(r"\$\{(\w+)\}")


class Pipeline:
    """The jobs of a file and of those that it includes, run in one folder."""

    def __init__(self, folder: Path, file: str, given: dict[str, str]) -> None:
        self.folder = folder
        pipeline = self._read(file)
        [shared] = (self._read(one["local"].removeprefix("/")) for one in pipeline["include"])
        self.jobs = shared | pipeline
        self.stages: list[str] = pipeline["stages"]
        self.variables = shared["variables"] | pipeline["variables"]
        self.given = given

    def _read(self, name: str) -> dict[str, Any]:
        return dict(yaml.safe_load((self.folder / name).read_text("utf-8")))

    def in_order(self) -> list[str]:
        """Names of the jobs, by stage."""
        names = [
            one for one, job in self.jobs.items() if "stage" in job and "script" in self.job(one)
        ]
        return sorted(names, key=lambda one: self.stages.index(self.jobs[one]["stage"]))

    def job(self, name: str) -> dict[str, Any]:
        """A job with what it extends; variables are joined, all else is replaced."""
        own = self.jobs[name]
        base = self.job(own["extends"]) if "extends" in own else {}
        variables = base.get("variables", {}) | own.get("variables", {})
        return {**base, **own, "variables": variables}

    def run(self, name: str, fails: int = 0) -> str:
        """Run a job's scripts; returns what they printed."""
        job = self.job(name)
        known = self.variables | job["variables"] | self.given  # as GitLab's precedence
        variables = {
            key: REFERENCE.sub(lambda one: known.get(one[1], ""), value)
            for key, value in known.items()
        }
        lines = [one for one in [*job.get("before_script", ()), *job["script"]] if one != INSTALL]
        program = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", "\n".join(lines)],
            cwd=self.folder,
            env={**os.environ, **variables, "PATH": program},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=540,
        )
        assert done.returncode == fails, done.stdout
        return done.stdout


@pytest.fixture
def project(world: World, tmp_path: Path) -> Path:
    """The project of the world with GitLab's files and a copy of its store."""
    folder = tmp_path / world.project.name
    shutil.copytree(world.project, folder, symlinks=True)
    template = Path(__file__).resolve().parents[3] / "forge" / "template" / "gitlab"
    (folder / ".gitlab").mkdir()
    shutil.copyfile(template / "ci.yml", folder / ".gitlab-ci.yml")
    shutil.copyfile(template / "cell.yml", folder / ".gitlab" / "cell.yml")
    return folder


def test_jobs_of_a_release_publish_and_promote_it(world: World, project: Path) -> None:
    given = {
        "VERSION": "v3.1.0",
        "FORGE_KEYS": str(world.keys),
        "FORGE_PASSPHRASE": "words of the test",
        "CI_JOB_ID": "7",
        "FORGE_BUNDLE": "chat",
    }
    release = Pipeline(project, ".gitlab-ci.yml", given)
    settings = project / "profiles" / "development.yaml"
    text = settings.read_text("utf-8")
    changed = text.replace("ttft_ms_p50: 26000", "ttft_ms_p50: 26001")  # of the gate's step only
    assert changed != text
    settings.write_text(changed, "utf-8")

    release.run("plan")
    refused = release.run("publish", fails=4)
    assert "gate@development" in refused

    child = Pipeline(project, "cells.yml", given)
    assert child.variables["PROFILES"] == "development"
    built = child.in_order()
    assert built == ["development on ubuntu-24.04"]
    for name in built:
        child.run(name)
    release.run("publish")
    (published,) = World(project).json("bundle", "show", "3.1.0", "--name", "chat")
    assert published["profile"] == "development"
    assert (project / "report" / "index.html").is_file()

    by_hand = {**given, "PROMOTE_TO": "stable", "CREATE_CHANNEL": "--yes"}
    Pipeline(project, ".gitlab-ci.yml", by_hand).run("promote")
    channels = World(project).json("channels", "--name", "chat")
    assert {row["channel"]: row["version"] for row in channels} == {
        "canary": "3.1.0", "stable": "3.1.0",
    }  # fmt: skip
    again = release.run("plan")
    assert yaml.safe_load((project / "cells.yml").read_text())["nothing to build"], again
