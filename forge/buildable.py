"""Which profiles of a project this machine can build, and what the others need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from forge import dead_settings, profiles
from forge.check import default_plan
from forge.errors import ForgeError
from forge.plan import Plan
from forge.profiles import Profile
from forge.project import Pipeline, Project
from forge.runners.base import Runner, refuse
from forge.store import Store

__all__ = ["ProfileNeeds", "profile_needs"]

_PIPELINE: Final = "release"


@dataclass(frozen=True, slots=True)
class ProfileNeeds:
    """A profile, and what this machine lacks to build all of it; empty: nothing."""

    profile: str
    needs: str


def profile_needs(project: Project, store: Store, runner: Runner) -> list[ProfileNeeds]:
    """Return what each profile of a project needs for its pipeline `release`, by name.

    Args:
        project: the project.
        store: an empty store; it is not written to.
        runner: of this machine.

    Raises:
        NotFoundError: the project has no such pipeline.
        ConfigurationError: the pipeline cannot be loaded.
    """
    pipeline = project.load(_PIPELINE)
    found = []
    for name in profiles.names(project.profiles):
        resolved = profiles.load(name, project.profiles)
        dead_settings.check(resolved)
        needs = _needs(project, pipeline, resolved.profile, store, runner)
        found.append(ProfileNeeds(name, needs))
    return found


def _needs(
    project: Project, pipeline: Pipeline, profile: Profile, store: Store, runner: Runner
) -> str:
    try:
        plan = default_plan(project, pipeline, [profile], store)
    except ForgeError as error:
        return error.what
    return _first_need(plan, runner)


def _first_need(plan: Plan, runner: Runner) -> str:
    """Return the labels of the runners that refused steps name; else the first reason."""
    refused = {step: reason for step in plan.steps if (reason := refuse(runner, step))}
    labels = dict.fromkeys(", ".join(step.labels) for step in refused if step.labels)
    if labels:
        return f"a runner with {' and one with '.join(labels)}"
    return next(iter(refused.values()), "")
