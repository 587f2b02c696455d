"""Static checks of a project, as run for a pull request.

Nothing is run or built and no server is contacted: profiles are loaded, lock files are checked, and
every pipeline is planned for every profile against an empty store.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge import dead_settings, profiles
from forge.device.hardware import rule_overlap
from forge.errors import ForgeError
from forge.plan import Plan
from forge.profiles import Profile
from forge.project import Pipeline, Project
from forge.release.attest.invocation import Invocation
from forge.release.catalog import Catalog
from forge.steps import lock_command
from forge.store import Store

__all__ = ["SCHEMA", "Finding", "check", "default_plan", "schema_text"]

SCHEMA: Final = Path("artifacts") / "schema" / "profile.schema.json"
_MAX_LOCK_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check.

    Attributes:
        what: what was checked, for example `profile development`.
        good: whether the check passed.
        detail: what was found, or what is wrong and how to fix it.
    """

    what: str
    good: bool
    detail: str


def check(project: Project, store: Store) -> list[Finding]:
    """Run all checks, also after a failure.

    Args:
        project: the project.
        store: an empty store; it is not written to.
    """
    loaded, findings = _profiles(project)
    findings += _matches(loaded)
    findings += _locks(project)
    findings += _schema(project)
    for name in project.pipelines():
        findings += _pipeline(project, name, loaded, store)
    return findings


def default_plan(
    project: Project, pipeline: Pipeline, chosen: Sequence[Profile], store: Store
) -> Plan:
    """Return the plan of a pipeline whose options are all left out.

    Args:
        project: the project.
        pipeline: one of its pipelines, without required options.
        chosen: profiles to plan for.
        store: an empty store; it is not written to.

    Raises ForgeError: the pipeline refuses to plan.
    """
    given = {
        "profiles": list(chosen),
        "catalog": Catalog(store.objects),
        "keys": project.work / "keys",
        "invocation": Invocation(pipeline=pipeline.name),
    }
    return pipeline.plan(given, {option.name: option.default for option in pipeline.options})


def schema_text() -> str:
    """Return the JSON Schema of a profile as the text of its file."""
    return json.dumps(profiles.json_schema(), indent=2, ensure_ascii=False) + "\n"


def _profiles(project: Project) -> tuple[list[Profile], list[Finding]]:
    loaded: list[Profile] = []
    findings: list[Finding] = []
    for name in profiles.names(project.profiles):
        try:
            resolved = profiles.load(name, project.profiles)
            dead_settings.check(resolved)
        except ForgeError as error:
            findings.append(Finding(f"profile {name}", False, str(error)))
        else:
            loaded.append(resolved.profile)
            findings.append(Finding(f"profile {name}", True, resolved.profile.description))
    if not findings:
        findings.append(Finding("profiles", False, f"no profiles in {project.profiles}"))
    return loaded, findings


def _matches(loaded: Sequence[Profile]) -> Iterator[Finding]:
    """Check that no machine can match two profiles: it would get neither of them."""
    by_name = {profile.name: profile for profile in loaded}
    found = list(rule_overlap.overlapping(by_name))
    for first, second, machine in found:
        sections = [by_name[name].hardware.match for name in (first, second)]
        seen = rule_overlap.phrase(machine, *sections)
        hint = "add a rule to one of them, or leave the match of one empty (chosen by name)"
        yield Finding(
            f"profiles {first} and {second}", False, f"both match a machine with {seen}; {hint}"
        )
    if len(loaded) > 1 and not found:
        yield Finding("hardware.match", True, "no machine matches two profiles")


def _locks(project: Project) -> Iterator[Finding]:
    """Check that each `requirements.in` has a lock file with a hash for every package."""
    for wanted in sorted((project.root / "dockerfiles").glob("*/requirements.in")):
        what = f"lock {wanted.parent.name}"
        lock = wanted.with_suffix(".lock")
        if not lock.is_file():
            yield Finding(
                what,
                False,
                f"requirements.in has no requirements.lock: {lock_command(wanted.parent)}",
            )
        elif lock.stat().st_size > _MAX_LOCK_BYTES:
            yield Finding(what, False, f"it is larger than {_MAX_LOCK_BYTES} bytes")
        else:
            lines = _requirements(lock.read_text(encoding="utf-8", errors="replace"))
            bare = [line.split()[0] for line in lines if "--hash=sha256:" not in line]
            detail = f"{bare[0]} has no hash" if bare else f"{len(lines)} packages"
            yield Finding(what, not bare, detail)


def _requirements(text: str) -> list[str]:
    """Return the logical lines of a lock file that name a package."""
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith(("#", "--"))]


def _schema(project: Project) -> Iterator[Finding]:
    path = project.root / SCHEMA
    if path.is_file():
        same = path.read_text(encoding="utf-8") == schema_text()
        hint = "outdated; run: forge profile schema --write"
        yield Finding("schema", same, "up to date" if same else hint)


def _pipeline(
    project: Project, name: str, loaded: Sequence[Profile], store: Store
) -> Iterator[Finding]:
    what = f"pipeline {name}"
    try:
        pipeline = project.load(name)
    except ForgeError as error:
        yield Finding(what, False, str(error))
        return
    required = [option.name for option in pipeline.options if option.required]
    if required:
        yield Finding(what, True, f"not planned: requires --{required[0].replace('_', '-')}")
        return
    for profile in loaded:
        yield _plan(f"{what} for {profile.name}", project, pipeline, [profile], store)
    if len(loaded) > 1:
        yield _plan(f"{what} for all profiles", project, pipeline, loaded, store)


def _plan(
    what: str, project: Project, pipeline: Pipeline, chosen: Sequence[Profile], store: Store
) -> Finding:
    try:
        plan = default_plan(project, pipeline, chosen, store)
    except ForgeError as error:
        return Finding(what, False, str(error))
    idle = [step for step in plan.steps if step.planned_only]
    note = f", {len(idle)} of them without a runner yet" if idle else ""
    return Finding(what, True, f"{len(plan.steps)} steps{note}")
