"""What a runner is: something that carries out one step's command.

The scheduler decides what runs and when, fetches inputs and stores outputs; a runner is a module
or object that satisfies this Protocol and knows only how to run a command.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from forge.runners.view import View
from forge.steps import Link, Step

__all__ = ["Cancelled", "Execution", "Job", "Runner", "refuse"]


class Cancelled(Exception):  # noqa: N818  not an error: somebody pressed Ctrl-C
    """The run was cancelled; the step left nothing."""


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
    """How a command ended. `log` is the file that holds all it printed."""

    exit_code: int
    seconds: float
    log: Path


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
        """Whether it can run a step in the image the step names."""

    def execute(self, job: Job) -> Execution:
        """Run the step's command to its end. Raises Cancelled, ForgeError before it starts."""


def refuse(runner: Runner, step: Step) -> str:
    """Why `runner` cannot run `step`, one sentence; empty when it can."""
    if step.planned_only:
        return step.planned_only
    if step.platform is not None and step.platform not in runner.platforms:
        offered = ", ".join(sorted(runner.platforms))
        return f"it needs {step.platform} and this runner is {offered}"
    if not runner.labels.issuperset(step.labels):
        word = "label" if len(step.labels) == 1 else "labels"
        offers = ", ".join(sorted(runner.labels)) or "none"
        wanted = ", ".join(step.labels)
        return f"it needs a runner with the {word} {wanted}; {runner.name} offers {offers}"
    if step.image is not None and not runner.containers:
        return f"it runs in the image {step.image}, and this runner runs no containers"
    return ""
