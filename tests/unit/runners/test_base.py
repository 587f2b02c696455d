"""What a runner refuses: platforms, labels, images, programs; and cancelled runs."""

import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from forge.runners.base import Cancelled, raise_if_cancelled, refuse
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
        "it requires forge-no-such-program on this machine: apt-get install forge-no-such-program"
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


@dataclass(frozen=True)
class Other(LocalRunner):
    """A runner of linux/arm64 that offers `gpu-sm110` and `big`."""

    @property
    def name(self) -> str:
        return "other"

    @property
    def platforms(self) -> frozenset[str]:
        return frozenset({"linux/arm64"})


OTHER = Other(cache=Path("/none"), environment={}, labels=frozenset({"gpu-sm110", "big"}))


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (Step("a", ("true",)), ""),
        (Step("a", ("true",), platform="linux/arm64"), ""),
        (Step("a", ("true",), labels=("big",)), ""),
        # What GitHub gives every runner is said by the platform.
        (Step("a", ("true",), platform="linux/arm64", labels=("self-hosted", "linux", "x64")), ""),
        (Step("a", ("true",), planned_only="no wheel yet"), "no wheel yet"),
        (
            Step("a", ("true",), platform="linux/amd64"),
            "it requires linux/amd64, but this runner is linux/arm64",
        ),
        (
            Step("a", ("true",), platform="linux/amd64", labels=("gpu-sm120",)),
            "it requires linux/amd64 (labels gpu-sm120), but this runner is linux/arm64",
        ),
        (
            Step("a", ("true",), labels=("gpu-sm120",)),
            "it requires a runner with the label gpu-sm120; other offers big, gpu-sm110",
        ),
        (
            Step("a", ("true",), labels=("x", "big", "self-hosted")),
            "it requires a runner with the labels x, self-hosted; other offers big, gpu-sm110",
        ),
    ],
)
def test_runner_refuses_a_step_for_the_first_thing_that_it_lacks(step: Step, reason: str) -> None:
    assert refuse(OTHER, step) == reason


def test_runner_without_labels_says_so() -> None:
    step = Step("a", ("true",), labels=("big",))
    assert refuse(LocalRunner(Path("/none"), {}), step).endswith(" offers none")


def test_step_of_an_image_is_refused_outside_of_it() -> None:
    reason = refuse(OTHER, Step("a", ("true",), image="nvcr.example/x:1"))
    assert reason.startswith("it requires the image nvcr.example/x:1: ")
    assert "--runner dagger" in reason


def test_cancelled_run_raises_and_another_does_not() -> None:
    cancelled = threading.Event()
    raise_if_cancelled(cancelled)
    cancelled.set()
    with pytest.raises(Cancelled):
        raise_if_cancelled(cancelled)
