"""Divide the remaining steps of a plan into cells: jobs for native runners that share the store.

A **cell** is the work of one profile on one kind of runner, run by `forge run PIPELINE --only
CELL`. Cells of one **round** run in parallel, because jobs of one CI matrix cannot wait for each
other. A step is assigned

    to the runner it declares        its labels, else its platform on a hosted runner
    to the runner of its inputs      if it declares neither
    to the next round                if an input is made on another kind of runner

A hosted cell also runs the steps that it shares with others (the checkpoint): the first cell holds
the lease, and the others wait for that step. Labelled runners are scarce, so shared steps run on
hosted runners in the round before. A workflow runs round 0 with the role of hosted runners, so work
for self-hosted runners is in round 1 at the earliest. Steps that have effects outside the store or
that sign, and the steps after them, are in no cell: they run in the one job that has the keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from forge.errors import NoRunnerError
from forge.plan import PlannedStep, Status
from forge.steps import Step, uses_keys

__all__ = ["Cell", "Matrix", "Refused", "cut"]

_HOSTED: Final[Mapping[str | None, str]] = {
    None: "ubuntu-24.04",
    "linux/amd64": "ubuntu-24.04",
    "linux/arm64": "ubuntu-24.04-arm",
}
_FIRST_OF_OWN_RUNNERS: Final = 1
_TO_DO: Final = {Status.RUN, Status.WAITS, Status.EFFECT}


@dataclass(frozen=True, slots=True)
class Cell:
    """One job.

    Attributes:
        id: value for `--only`: the cell's last steps, separated by commas.
        name: name to display: the profile and the runner.
        runs_on: labels of the CI runner.
        labels: labels that the steps require in addition to the platform; empty if hosted.
        steps: ids of the cell's own steps, in order of dependency.
        shared: ids of shared steps, which it runs unless another cell has run them.
        profile: whose steps they are; empty: of none.
    """

    id: str
    name: str
    runs_on: tuple[str, ...]
    labels: tuple[str, ...]
    steps: tuple[str, ...]
    shared: tuple[str, ...] = ()
    profile: str = ""

    def as_json(self) -> dict[str, object]:
        """Return an object of a GitHub matrix; `labels` is in the form of FORGE_RUNNER_LABELS."""
        return {
            "id": self.id,
            "name": self.name,
            "profile": self.profile,
            "runs-on": list(self.runs_on),
            "labels": ",".join(self.labels),
            "steps": list(self.steps),
            "shared": list(self.shared),
        }


@dataclass(frozen=True, slots=True)
class Refused:
    """A step that no runner can run, or that depends on such a step."""

    step: str
    reason: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """The remaining work: cells by round, then the steps of the job with the keys."""

    rounds: tuple[tuple[Cell, ...], ...]
    finish: tuple[str, ...]
    refused: tuple[Refused, ...]

    def fit(self, rounds: int) -> None:
        """Raise NoRunnerError if more than `rounds` rounds of jobs are left."""
        if len(self.rounds) > rounds:
            left = ", ".join(cell.id for cells in self.rounds for cell in cells)
            raise NoRunnerError(
                f"The remaining steps require {len(self.rounds)} rounds of jobs, not {rounds}",
                why=f"remaining: {left}",
                hint="run those jobs first, or add a round: docs/how-to/github-actions.md",
            )

    def table(self) -> list[tuple[str, str, str]]:
        """Return rows of round, job and steps; shared steps are in brackets."""
        rows = [
            (
                f"round {number}",
                cell.name,
                " ".join([*map("({})".format, cell.shared), *cell.steps]),
            )
            for number, cells in enumerate(self.rounds)
            for cell in cells
        ]
        if self.finish:
            rows.append(("last", "the job with the keys", " ".join(self.finish)))
        return rows + [("refused", one.step, one.reason) for one in self.refused]

    def as_json(self) -> dict[str, object]:
        """Return the JSON object of `forge matrix`; `rounds[N]` is a matrix of GitHub Actions."""
        return {
            # GitHub refuses a matrix without jobs: a workflow asks whether a round is null.
            "rounds": [
                {"include": [cell.as_json() for cell in cells]} if cells else None
                for cells in self.rounds
            ],
            "finish": list(self.finish),
            "refused": [{"step": one.step, "reason": one.reason} for one in self.refused],
        }


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a step runs. `movable`: any runner can run it and all of its inputs."""

    runs_on: tuple[str, ...]
    round: int
    movable: bool


_Group: TypeAlias = tuple[str, tuple[str, ...]]  # profile, and labels of the CI runner


def cut(rows: Sequence[PlannedStep]) -> Matrix:
    """Divide the remaining steps into cells. Pure; `rows` are those of `forge.plan.resolve`."""
    steps = [row.step for row in rows if row.status in _TO_DO]
    refused: dict[str, str] = {}
    finish: dict[str, None] = {}
    places: dict[str, _Place] = {}
    for step in steps:
        before = [artifact.step.id for artifact in step.inputs.values()]
        blocked = [one for one in before if one in refused]
        if reason := _refusal(step, blocked):
            refused[step.id] = reason
        elif _needs_the_outside(step) or any(one in finish for one in before):
            finish[step.id] = None
        else:
            places[step.id] = _place(step, [places[one] for one in before if one in places])
    placed = [step for step in steps if step.id in places]
    return Matrix(
        rounds=_rounds(placed, places),
        finish=tuple(finish),
        refused=tuple(Refused(*item) for item in refused.items()),
    )


def _refusal(step: Step, blocked: Sequence[str]) -> str:
    if step.planned_only or blocked:
        return step.planned_only or f"needs {blocked[0]}"
    if not step.labels and step.platform not in _HOSTED:
        return f"no hosted runner has platform {step.platform}: set runner.labels in its profile"
    return ""


def _needs_the_outside(step: Step) -> bool:
    """Return whether a step has effects outside the store or signs with the keys."""
    return step.effect or uses_keys(step)


def _place(step: Step, before: Sequence[_Place]) -> _Place:
    if step.labels or step.platform:
        runs_on = step.labels or (_HOSTED[step.platform],)
        first = max((_round(step, runs_on, one) for one in before), default=0)
        if step.labels and not set(runs_on) <= set(_HOSTED.values()):
            first = max(first, _FIRST_OF_OWN_RUNNERS)
        return _Place(runs_on, first, movable=False)
    bound = [one for one in before if not one.movable]
    if not bound:
        return _Place((_HOSTED[None],), 0, movable=True)
    last = max(one.round for one in bound)
    homes = {one.runs_on for one in bound if one.round == last}
    if len(homes) == 1:
        return _Place(homes.pop(), last, movable=False)
    return _Place((_HOSTED[None],), last + 1, movable=False)


def _round(step: Step, runs_on: tuple[str, ...], before: _Place) -> int:
    """Return the first round in which `step` can use or make an input that is made at `before`."""
    if before.runs_on == runs_on or (before.movable and not step.labels):
        return before.round
    return before.round + 1


def _rounds(steps: Sequence[Step], places: Mapping[str, _Place]) -> tuple[tuple[Cell, ...], ...]:
    count = max((place.round for place in places.values()), default=-1) + 1
    return tuple(
        tuple(_cells([step for step in steps if places[step.id].round == number], places))
        for number in range(count)
    )


def _cells(steps: Sequence[Step], places: Mapping[str, _Place]) -> Iterable[Cell]:
    """Return the cells of one round: one per profile and runner, and one for other shared steps."""
    carried = _needed_by([step for step in steps if _profile(step)])
    groups: dict[_Group, list[Step]] = {}
    chosen: dict[str, _Group] = {}
    for step in steps:
        if _profile(step) or step.id not in carried:
            group = _labelled_input(step, chosen) or (_profile(step), places[step.id].runs_on)
            groups.setdefault(group, []).append(step)
            chosen[step.id] = group
    for (profile, runs_on), members in groups.items():
        needed = _needed_by(members)
        shared = [step for step in steps if step.id in needed and step not in members]
        labels = next((step.labels for step in (*members, *shared) if step.labels), ())
        yield Cell(
            id=",".join(step.id for step in members if step.id not in needed),
            name=f"{profile or members[-1].id} on {runs_on[-1]}",
            runs_on=runs_on,
            labels=labels,
            steps=tuple(step.id for step in members),
            shared=tuple(step.id for step in shared),
            profile=profile,
        )


def _labelled_input(step: Step, chosen: Mapping[str, _Group]) -> _Group | None:
    """Return the group of an input of the same round that requires a label, if there is one.

    Another cell would not offer the label, and be refused while the input is not made.
    """
    inputs = [artifact.step for artifact in step.inputs.values()]
    return next((chosen[one.id] for one in inputs if one.labels and one.id in chosen), None)


def _needed_by(steps: Iterable[Step]) -> set[str]:
    """Return the ids of all steps that `steps` depend on."""
    found: set[str] = set()
    left = [artifact.step for step in steps for artifact in step.inputs.values()]
    while left:
        step = left.pop()
        if step.id not in found:
            found.add(step.id)
            left += [artifact.step for artifact in step.inputs.values()]
    return found


def _profile(step: Step) -> str:
    return step.id.partition("@")[2]
