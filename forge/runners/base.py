"""What a runner is: something that carries out one step's command.

The scheduler decides what runs and when, fetches inputs and stores outputs; a runner is a module
or object that satisfies this Protocol and knows only how to run a command.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from forge.runners.view import View
from forge.steps import Link, Step

__all__ = ["Cancelled", "Execution", "Job", "Runner", "go_on", "refuse"]


class Cancelled(Exception):  # noqa: N818  not an error: somebody pressed Ctrl-C
    """The run was cancelled; the step left nothing."""


def go_on(cancelled: threading.Event) -> None:
    """Raise Cancelled when somebody pressed Ctrl-C."""
    if cancelled.is_set():
        raise Cancelled


@dataclass(frozen=True, slots=True)
class Job:
    """One step ready to run: its inputs are folders, its outputs empty folders."""

    step: Step
    folder: Path
    inputs: Mapping[str, Path]
    outputs: Mapping[str, Path]
    digests: Mapping[str, str]
    chain: tuple[Link, ...]
    store_url: str
    keys: Path
    view: View
    cancelled: threading.Event = field(compare=False)


@dataclass(frozen=True, slots=True)
class Execution:
    """How a command ended. `log` is the file that holds all it printed.

    `runner` is the name to record where it is not the runner's own: a step that ran beside it.
    """

    exit_code: int
    seconds: float
    log: Path
    runner: str = ""


class Runner(Protocol):
    """Runs commands somewhere."""

    @property
    def name(self) -> str:
        """Name and platform, as recorded in results: `local linux/amd64`."""

    @property
    def platforms(self) -> frozenset[str]:
        """Platforms it can run, e.g. {"linux/amd64"}."""

    @property
    def labels(self) -> frozenset[str]:
        """What it offers beside the platform, e.g. `gpu-sm120`."""

    @property
    def containers(self) -> bool:
        """Whether commands run in containers and not on the machine itself."""

    def runs_in(self, image: str) -> bool:
        """Whether it can run a step in this image."""

    def carrier(self, step: Step) -> str:
        """Name of what would run this step: the runner's own, or of the one beside it."""

    def execute(self, job: Job) -> Execution:
        """Run the step's command to its end. Raises Cancelled, ForgeError before it starts."""


# What GitHub gives every runner of its own accord; a step's platform says the same.
_PLATFORM_LABELS: Final = frozenset({"self-hosted", "linux", "x64", "arm64"})


def refuse(runner: Runner, step: Step) -> str:
    """Why `runner` cannot run `step`, one sentence; empty when it can."""
    if step.planned_only:
        return step.planned_only
    if step.platform is not None and step.platform not in runner.platforms:
        offered = ", ".join(sorted(runner.platforms))
        labels = f" (labels {', '.join(step.labels)})" if step.labels else ""
        return f"it needs {step.platform}{labels} and this runner is {offered}"
    missing = [label for label in step.labels if label not in runner.labels]
    if step.platform is not None:
        missing = [label for label in missing if label not in _PLATFORM_LABELS]
    if missing:
        word = "label" if len(missing) == 1 else "labels"
        offers = ", ".join(sorted(runner.labels)) or "none"
        wanted = ", ".join(missing)
        return f"it needs a runner with the {word} {wanted}; {runner.name} offers {offers}"
    if step.image is not None and not runner.runs_in(step.image):
        there = "run it by a Forge that was started in that image, or with --runner dagger"
        return f"it runs in the image {step.image}: {there}"
    return _refuse_programs(runner, step.programs)


def _refuse_programs(runner: Runner, programs: tuple[str, ...]) -> str:
    names = " and ".join(programs)
    if programs and runner.containers:
        return f"it uses {names} of the machine itself, and this runner runs containers"
    absent = [program for program in programs if shutil.which(program) is None]
    if absent:
        packages = " ".join(absent)  # Debian's packages have the programs' names
        return f"it needs {' and '.join(absent)} on this machine: apt-get install {packages}"
    return ""
