"""A plan is the graph of steps that a pipeline returns, resolved against the results in the store.

This module runs no step, opens no socket and reads no clock: the store's look-up is passed as a
function. The key of a step is computed from the digests of its inputs, so it is known once all
steps before it are cached. If a step that runs again makes equal outputs, the next step has the
same key as before and is cached (early cut-off).
"""

from __future__ import annotations

import enum
import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from forge.errors import not_found
from forge.steps import Artifact, Key, Step, key_of, walk
from forge.store import ActionResult

__all__ = [
    "Difference",
    "Explanation",
    "Lookup",
    "NotUsed",
    "Plan",
    "PlannedStep",
    "Status",
    "StepComparison",
    "StepMatch",
    "compare_published",
    "explain",
    "input_digests",
    "resolve",
    "resolve_one",
    "select",
]


@dataclass(frozen=True, slots=True)
class NotUsed:
    """A result that is stored and is not used, and why."""

    reason: str


Lookup: TypeAlias = Callable[[Step, str], ActionResult | NotUsed | None]

_MOST_NAMES: Final = 4  # steps that a row names


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps of one pipeline call, in order of dependency."""

    pipeline: str
    steps: tuple[Step, ...]

    @classmethod
    def of(cls, pipeline: str, artifacts: Iterable[Artifact], effects: Iterable[Step] = ()) -> Plan:
        """Return the plan of `artifacts`, `effects` and their inputs. Raises ConfigurationError."""
        ends = [Artifact(step, "") for step in effects]
        return cls(pipeline, tuple(walk([*artifacts, *ends])))

    def step(self, step_id: str) -> Step:
        """Return the step with an id. Raises NotFoundError."""
        for step in self.steps:
            if step.id == step_id:
                return step
        ids = [step.id for step in self.steps]
        raise not_found(f"The plan of {self.pipeline!r} has no step {step_id!r}", step_id, ids)


class Status(enum.Enum):
    """Status of a planned step."""

    HIT = "hit"
    RUN = "run"
    WAITS = "waits"
    EFFECT = "always"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One row of the plan: a step, its key if known, its status and the reason."""

    step: Step
    status: Status
    reason: str
    key: Key | None = None
    result: ActionResult | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """One field in which two keys differ; None if a key does not have the field."""

    field: str
    stored: str | None
    wanted: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a step will run: the nearest stored result and the fields that differ from it."""

    nearest: ActionResult | None
    differences: tuple[Difference, ...] = field(default=())


class StepMatch(enum.Enum):
    """How a step of a plan compares with the one that a published version was built by."""

    SAME = "same"
    REBUILT = "rebuilt"
    NEW = "new"
    GONE = "gone"
    DEPENDS = "depends"


@dataclass(frozen=True, slots=True)
class StepComparison:
    """One step, and why it would be built again.

    Attributes:
        step: its id.
        match: with the step of the published version.
        differences: of the key's fields; empty if one of both keys has no known fields.
        reason: in words, where there are no differences to show.
    """

    step: str
    match: StepMatch
    differences: tuple[Difference, ...] = ()
    reason: str = ""


def input_digests(step: Step, results: Mapping[str, ActionResult]) -> dict[str, str] | None:
    """Return the tree digest of each input, or None while an input has no result."""
    digests = {}
    for name, artifact in step.inputs.items():
        result = results.get(artifact.step.id)
        if result is None:
            return None
        digests[name] = result.outputs[artifact.output].digest
    return digests


def resolve(
    plan: Plan, look_up: Lookup, chosen: Mapping[str, bool] | None = None
) -> tuple[PlannedStep, ...]:
    """Look up every step whose key is known, with one look-up per step.

    Args:
        plan: the graph.
        look_up: returns the stored result of a step and key digest if its outputs exist, None if
            there is none, or why it is not used.
        chosen: whether each step id may run, from `select`. Default: all may run.
    """
    results: dict[str, ActionResult] = {}
    skipped: set[str] = set()
    rows = []
    for step in plan.steps:
        blocked = [a.step.id for a in step.inputs.values() if a.step.id in skipped]
        if blocked:
            row = PlannedStep(step, Status.SKIPPED, f"needs {blocked[0]}")
        else:
            row = resolve_one(step, results, look_up, may_run=chosen is None or chosen[step.id])
        if row.result is not None:
            results[step.id] = row.result
        elif row.status is Status.SKIPPED:
            skipped.add(step.id)
        rows.append(row)
    return tuple(rows)


def _some(names: Sequence[str]) -> str:
    """Return the first names and how many others there are: a plan may have thousands."""
    shown = ", ".join(names[:_MOST_NAMES])
    left = len(names) - _MOST_NAMES
    return f"{shown} and {left} more" if left > 0 else shown


def resolve_one(
    step: Step, results: Mapping[str, ActionResult], look_up: Lookup, *, may_run: bool
) -> PlannedStep:
    """Return the row of one step, given the results of the steps before it."""
    digests = input_digests(step, results)
    if digests is None:
        missing = [a.step.id for a in step.inputs.values() if a.step.id not in results]
        status = Status.WAITS if may_run else Status.SKIPPED
        return PlannedStep(step, status, f"after {_some(tuple(dict.fromkeys(missing)))}")
    key = key_of(step, digests)
    if step.effect:
        status = Status.EFFECT if may_run else Status.SKIPPED
        return PlannedStep(
            step, status, "has effects outside the store" if may_run else "not selected", key
        )
    found = look_up(step, key.digest)
    if isinstance(found, ActionResult):
        return PlannedStep(step, Status.HIT, f"stored {found.started}", key, found)
    if not may_run:
        return PlannedStep(step, Status.SKIPPED, "not selected", key)
    absent = found.reason if found is not None else "no stored result"
    return PlannedStep(step, Status.RUN, step.planned_only or absent, key)


def select(plan: Plan, only: Sequence[str] = (), skip: Sequence[str] = ()) -> dict[str, bool]:
    """Return for each step id whether it may run.

    `only` selects the steps that match one of its globs and all of their inputs; `skip` deselects
    the steps that match. Raises NotFoundError for a glob that matches no step.
    """
    ids = [step.id for step in plan.steps]
    for glob in [*only, *skip]:
        if not fnmatch.filter(ids, glob):
            raise not_found(f"No step matches {glob!r}", glob, ids)
    wanted = {step_id for step_id in ids if not only or _matches(step_id, only)}
    for step in reversed(plan.steps):
        if step.id in wanted:
            wanted |= {artifact.step.id for artifact in step.inputs.values()}
    return {step_id: step_id in wanted and not _matches(step_id, skip) for step_id in ids}


def explain(key: Key, step_id: str, stored: Iterable[ActionResult]) -> Explanation:
    """Return the stored result of the same step with the fewest differences, and these."""
    best: ActionResult | None = None
    fewest: tuple[Difference, ...] = ()
    for result in stored:
        if result.step != step_id:
            continue
        differences = _differences(result.fields, key.fields)
        if best is None or len(differences) < len(fewest):
            best, fewest = result, differences
    return Explanation(best, fewest)


def compare_published(
    rows: Sequence[PlannedStep],
    published: Mapping[str, str],
    look_up: Callable[[str], ActionResult | None],
) -> tuple[StepComparison, ...]:
    """Compare a plan with the steps that a published version was built by.

    Steps with effects are left out: they run in any case.

    Args:
        rows: the resolved plan.
        published: key digest of each step of the published version, by step id.
        look_up: returns the stored result of a key digest, with the key's fields.
    """
    planned = [row for row in rows if not row.step.effect]
    gone = published.keys() - {row.step.id for row in rows}
    return (
        *(_compare_step(row, published.get(row.step.id), look_up) for row in planned),
        *(StepComparison(one, StepMatch.GONE, reason="not in the plan") for one in sorted(gone)),
    )


def _compare_step(
    row: PlannedStep, published: str | None, look_up: Callable[[str], ActionResult | None]
) -> StepComparison:
    step = row.step.id
    if published is None:
        return StepComparison(step, StepMatch.NEW, reason="the published version has no such step")
    if row.key is None:  # an input is built again, and may come out equal
        return StepComparison(step, StepMatch.DEPENDS, reason=row.reason)
    if row.key.digest == published:
        return StepComparison(step, StepMatch.SAME)
    stored = look_up(published)
    if stored is None:
        reason = "its stored result was deleted, so what differs is not known"
        return StepComparison(step, StepMatch.REBUILT, reason=reason)
    return StepComparison(step, StepMatch.REBUILT, _differences(stored.fields, row.key.fields))


def _differences(stored: Mapping[str, str], wanted: Mapping[str, str]) -> tuple[Difference, ...]:
    return tuple(
        Difference(name, stored.get(name), wanted.get(name))
        for name in sorted({*stored, *wanted})
        if stored.get(name) != wanted.get(name)
    )


def _matches(step_id: str, globs: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(step_id, glob) for glob in globs)
