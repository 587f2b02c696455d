"""What is left of a plan, cut into cells: jobs for native runners that share only the store.

A **cell** is the work of one profile on one kind of runner; `forge run PIPELINE --only CELL` does
it. Cells of one **round** run side by side, because CI jobs of one matrix cannot wait for each
other. A step goes

    to the runner it declares       its labels, else its platform on a hosted runner
    to where its inputs are made    when it declares neither
    a round later                   when an input is made on another kind of runner

A hosted cell makes what it shares with others (the checkpoint) itself: the first to come holds the
lease, the others wait for that one step. A labelled runner is scarce and is kept for what needs it,
so shared work is done a round before. Steps that act on the outside or that sign, and all that
follows from them, are in no cell: they belong to the one job that has the keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from forge.errors import NoRunnerError
from forge.plan import Planned, Status
from forge.steps import Step, placeholders

__all__ = ["Cell", "Matrix", "Refused", "cut"]

_HOSTED: Final[Mapping[str | None, str]] = {
    None: "ubuntu-24.04",
    "linux/amd64": "ubuntu-24.04",
    "linux/arm64": "ubuntu-24.04-arm",
}
_TO_DO: Final = {Status.RUN, Status.WAITS, Status.EFFECT}


@dataclass(frozen=True, slots=True)
class Cell:
    """One job.

    Attributes:
        id: what `--only` takes: the cell's last steps, separated by commas.
        name: for people: the profile and the runner.
        runs_on: labels of the CI's runner.
        labels: what the steps ask of the runner beside its platform; empty on a hosted one.
        steps: ids of the cell's own steps, makers before users.
        shared: ids of the steps it makes too unless another cell was there first.
    """

    id: str
    name: str
    runs_on: tuple[str, ...]
    labels: tuple[str, ...]
    steps: tuple[str, ...]
    shared: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """One object of a GitHub matrix; `labels` as FORGE_RUNNER_LABELS takes them."""
        return {
            "id": self.id,
            "name": self.name,
            "runs-on": list(self.runs_on),
            "labels": ",".join(self.labels),
            "steps": list(self.steps),
            "shared": list(self.shared),
        }


@dataclass(frozen=True, slots=True)
class Refused:
    """A step that no runner can run, or that needs one."""

    step: str
    reason: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """All that is left to do: cells by round, then the steps of the job with the keys."""

    rounds: tuple[tuple[Cell, ...], ...]
    finish: tuple[str, ...]
    refused: tuple[Refused, ...]

    def fit(self, rounds: int) -> None:
        """Raise NoRunnerError if more than `rounds` rounds of jobs are left."""
        if len(self.rounds) > rounds:
            left = ", ".join(cell.id for cells in self.rounds for cell in cells)
            raise NoRunnerError(
                f"What is left needs {len(self.rounds)} rounds of jobs, not {rounds}",
                why=f"still to do: {left}",
                hint="run those jobs first, or add a round to the workflow: docs/ci.md",
            )

    def table(self) -> list[tuple[str, str, str]]:
        """When, which job, which steps; shared ones in brackets."""
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
        """`rounds[N]` is a matrix of GitHub Actions: its `include` is one object a job."""
        return {
            "rounds": [{"include": [cell.as_json() for cell in cells]} for cells in self.rounds],
            "finish": list(self.finish),
            "refused": [{"step": one.step, "reason": one.reason} for one in self.refused],
        }


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a step runs. `movable`: any runner could as well, and all it needs."""

    runs_on: tuple[str, ...]
    round: int
    movable: bool


def cut(rows: Sequence[Planned]) -> Matrix:
    """Cut what is left to do into cells. Pure; `rows` are those of `forge.plan.resolve`."""
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
        return f"no hosted runner is {step.platform}: its profile must name runner.labels"
    return ""


def _needs_the_outside(step: Step) -> bool:
    """Whether a step acts on the outside or signs: its command is told where the keys are."""
    return step.effect or any(kind == "keys" for kind, _ in placeholders(step.argv))


def _place(step: Step, before: Sequence[_Place]) -> _Place:
    if step.labels or step.platform:
        runs_on = step.labels or (_HOSTED[step.platform],)
        first = max((_round(step, runs_on, one) for one in before), default=0)
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
    """The first round in which `step` finds or can make an input that is made at `before`."""
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
    """The cells of one round: one a profile and runner, and one for shared work nobody takes."""
    carried = _needed_by([step for step in steps if _profile(step)])
    groups: dict[tuple[str, tuple[str, ...]], list[Step]] = {}
    for step in steps:
        if _profile(step) or step.id not in carried:
            groups.setdefault((_profile(step), places[step.id].runs_on), []).append(step)
    for (profile, runs_on), members in groups.items():
        needed = _needed_by(members)
        labels = next((step.labels for step in members if step.labels), ())
        yield Cell(
            id=",".join(step.id for step in members if step.id not in needed),
            name=f"{profile or members[-1].id} on {runs_on[-1]}",
            runs_on=runs_on,
            labels=labels,
            steps=tuple(step.id for step in members),
            shared=tuple(step.id for step in steps if step.id in needed and step not in members),
        )


def _needed_by(steps: Iterable[Step]) -> set[str]:
    """Ids of every step that one of `steps` descends from."""
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
