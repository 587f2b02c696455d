"""Steps that name an image: who runs them, and what the others say. Labels that say nothing new."""

from dataclasses import replace
from pathlib import Path

import pytest

from forge.container import RunningImage, Statement
from forge.runners.base import refuse
from forge.runners.local import LocalRunner, host_platform
from forge.steps import Step

DIGEST = f"sha256:{'a' * 64}"
STATEMENT = Statement(
    name="serving", platform=host_platform(), base="registry/triton:1", base_digest=DIGEST,
    version="1",
)  # fmt: skip
STEP = Step("smoke", ("true",), image=f"registry/triton@{DIGEST}")


@pytest.fixture
def runner(tmp_path: Path) -> LocalRunner:
    return LocalRunner(cache=tmp_path, environment={})


def test_step_of_an_image_is_refused_outside_of_it_with_both_ways(runner: LocalRunner) -> None:
    reason = refuse(runner, STEP)
    assert str(STEP.image) in reason
    assert "--runner dagger" in reason
    assert "run Forge in that image" in reason


def test_step_of_an_image_is_taken_by_who_is_in_it(runner: LocalRunner) -> None:
    assert refuse(replace(runner, image=RunningImage(STATEMENT)), STEP) == ""
    other = STATEMENT.model_copy(update={"base_digest": f"sha256:{'b' * 64}"})
    assert refuse(replace(runner, image=RunningImage(other)), STEP)


def test_labels_that_repeat_the_platform_are_asked_of_nobody(runner: LocalRunner) -> None:
    """GitHub gives them to every runner; a machine of a terminal has none."""
    labels = ("self-hosted", "linux", "x64", "gpu-sm120")
    step = Step("smoke", ("true",), platform=host_platform(), labels=labels)
    assert refuse(replace(runner, labels=frozenset({"gpu-sm120"})), step) == ""
    assert "the label gpu-sm120; " in refuse(runner, step)
    assert "self-hosted" in refuse(runner, replace(step, platform=None))
