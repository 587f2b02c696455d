"""The Protocol of a runner, which executes the command of one step.

The scheduler decides what runs and when, fetches inputs and stores outputs. A runner only executes
commands.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from forge.progress import PROGRESS
from forge.runners.view import View
from forge.steps import WARNING, Link, Step

__all__ = ["Cancelled", "Execution", "Job", "Runner", "raise_if_cancelled", "refuse",
           "show_line"]  # fmt: skip


class Cancelled(Exception):  # noqa: N818  not an error: the user interrupted the run
    """The run was cancelled. The step left no files."""


def raise_if_cancelled(cancelled: threading.Event) -> None:
    """Raise Cancelled if the run was cancelled."""
    if cancelled.is_set():
        raise Cancelled


@dataclass(frozen=True, slots=True)
class Job:
    """One step that is ready to run, with its input folders and empty output folders."""

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
    """Result of a command. `log` is the file with its output.

    `runner` is the name to record if another runner executed the step.
    """

    exit_code: int
    seconds: float
    log: Path
    runner: str = ""


class Runner(Protocol):
    """Executes the commands of steps."""

    @property
    def name(self) -> str:
        """Return name and platform, as recorded in results: `local linux/amd64`."""

    @property
    def platforms(self) -> frozenset[str]:
        """Return the supported platforms, e.g. {"linux/amd64"}."""

    @property
    def labels(self) -> frozenset[str]:
        """Return the labels that it offers in addition to the platform, e.g. `gpu-sm120`."""

    @property
    def containers(self) -> bool:
        """Return whether commands run in containers instead of on the machine itself."""

    def runs_in(self, image: str) -> bool:
        """Return whether it can run a step in this image."""

    def carrier(self, step: Step) -> str:
        """Return the name of the runner that would run this step: this one or the local runner."""

    def execute(self, job: Job) -> Execution:
        """Run the command of a step. Raises Cancelled, or ForgeError if it cannot start."""


# Labels that GitHub adds to every runner; the platform of a step implies them.
_PLATFORM_LABELS: Final = frozenset({"self-hosted", "linux", "x64", "arm64"})


def refuse(runner: Runner, step: Step) -> str:
    """Return why `runner` cannot run `step`, one sentence; empty if it can."""
    if step.planned_only:
        return step.planned_only
    if step.platform is not None and step.platform not in runner.platforms:
        offered = ", ".join(sorted(runner.platforms))
        labels = f" (labels {', '.join(step.labels)})" if step.labels else ""
        return f"it requires {step.platform}{labels}, but this runner is {offered}"
    missing = [label for label in step.labels if label not in runner.labels]
    if step.platform is not None:
        missing = [label for label in missing if label not in _PLATFORM_LABELS]
    if missing:
        word = "label" if len(missing) == 1 else "labels"
        offers = ", ".join(sorted(runner.labels)) or "none"
        wanted = ", ".join(missing)
        return f"it requires a runner with the {word} {wanted}; {runner.name} offers {offers}"
    if step.image is not None and not runner.runs_in(step.image):
        hint = "run Forge in that image, or use --runner dagger"
        return f"it requires the image {step.image}: {hint}"
    return _refuse_programs(runner, step.programs)


def _refuse_programs(runner: Runner, programs: tuple[str, ...]) -> str:
    names = " and ".join(programs)
    if programs and runner.containers:
        return f"it uses {names} of the machine, but this runner runs containers"
    absent = [program for program in programs if shutil.which(program) is None]
    if absent:
        packages = " ".join(absent)  # Debian's packages have the programs' names
        return f"it requires {' and '.join(absent)} on this machine: apt-get install {packages}"
    return ""


def show_line(job: Job, text: str) -> None:
    """Show a line that the command of a job printed; warnings and progress have marks of their own.

    Warnings of Forge's commands are shown without --verbose.
    """
    if text.startswith(WARNING):
        job.view.note(job.step.id, text.removeprefix(WARNING))
    elif text.startswith(PROGRESS):
        job.view.progress(job.step.id, text.removeprefix(PROGRESS))
    else:
        job.view.line(job.step.id, text)
