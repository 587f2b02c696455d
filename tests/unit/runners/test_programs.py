"""Programs that a step needs of the machine itself."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from forge.runners.base import refuse
from forge.runners.local import LocalRunner
from forge.steps import Step


@dataclass(frozen=True)
class InContainers(LocalRunner):
    """The local runner, saying that its commands run in containers."""

    @property
    def containers(self) -> bool:
        return True


STEP = Step("image", ("true",), programs=("sh", "forge-no-such-program"))


def test_step_is_refused_with_what_is_missing_and_how_to_get_it(tmp_path: Path) -> None:
    reason = refuse(LocalRunner(cache=tmp_path, environment={}), STEP)
    assert reason == (
        "it needs forge-no-such-program on this machine: apt-get install forge-no-such-program"
    )


def test_step_is_taken_where_its_programs_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "forge-no-such-program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert refuse(LocalRunner(cache=tmp_path, environment={}), STEP) == ""


def test_runner_of_containers_says_that_the_program_is_the_machines(tmp_path: Path) -> None:
    reason = refuse(InContainers(cache=tmp_path, environment={}), STEP)
    assert "this runner runs containers" in reason
