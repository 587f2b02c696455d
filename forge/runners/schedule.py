"""The scheduler: takes results of a plan from the store and runs the other steps on a runner.

For every step, as soon as its inputs are known: key → look-up → lease → look-up again → run →
store the outputs → store the result. The result is written last, so a run that dies at any point
leaves nothing half-stored.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final

from forge.errors import NoRunnerError
from forge.plan import NotUsed, Plan, PlannedStep, Status, resolve, resolve_one
from forge.runners.base import Cancelled, Runner, refuse
from forge.runners.results import Results, StoredResults
from forge.runners.step_execution import DamagedInputError, Workshop
from forge.runners.view import View
from forge.runners.work_folder import WorkFolder
from forge.steps import Key, Step
from forge.store import ActionResult, Store
from forge.store.locks.leases import LeaseCancelledError

__all__ = ["Done", "Scheduler"]

_LEASE_WAIT_S: Final = 4 * 3600.0


@dataclass(frozen=True, slots=True)
class Done:
    """Result of one step in this run."""

    step: Step
    status: Status
    seconds: float
    result: ActionResult | None
    reason: str = ""


@dataclass(slots=True)
class _State:
    """What is known so far; written by the scheduling thread only."""

    cancelled: threading.Event = field(default_factory=threading.Event)
    results: dict[str, ActionResult] = field(default_factory=dict)
    done: dict[str, Done] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scheduler:
    """Runs plans.

    Attributes:
        store: where results are looked up and kept.
        runner: executes the commands.
        view: displays the progress.
        work: folder for running steps, failed steps and unpacked trees (`.forge` of the project).
        keys: folder of the signing keys, for steps that sign.
        owner: name of this process, for leases.
        jobs: number of steps to run in parallel.
        clock: returns the current time in UTC.
        results: which results are used. Default: those of `store`, which are not signed.
    """

    store: Store
    runner: Runner
    view: View
    work: Path
    keys: Path
    owner: str
    jobs: int = 2
    clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
    results: Results | None = None

    def run(self, plan: Plan, chosen: Mapping[str, bool]) -> tuple[Done, ...]:
        """Run the chosen steps that are not in the store; return all steps in plan order.

        Raises:
            NoRunnerError: the runner cannot run a required step.
            StepFailedError, SmokeGateError, …: a command failed; the exit code decides the class.
                Running steps are finished and stored first.
            KeyboardInterrupt: after all child processes have ended.
        """
        self.refuse_early(plan, chosen)
        WorkFolder(self.work).check_writable()
        self._workshop.clean()
        work = WorkFolder(self.work)
        with work.used(), self.view.live():
            done = self._until_whole(plan, chosen)
        # Not before: this run has marked what it used.
        work.bound(time.time(), "environments", "trees")
        return done

    def _until_whole(self, plan: Plan, chosen: Mapping[str, bool]) -> tuple[Done, ...]:
        """Run the plan, again after a stored result was found to be damaged."""
        forgotten: set[str] = set()
        while True:
            try:
                return self._pass(plan, chosen)
            except DamagedInputError as damaged:
                self._forget_damaged(damaged, forgotten)

    def _pass(self, plan: Plan, chosen: Mapping[str, bool]) -> tuple[Done, ...]:
        """Run the plan once; results of an earlier pass are found in the store."""
        state = _State()
        with ThreadPoolExecutor(max(1, self.jobs)) as pool:
            try:
                self._drive(plan, chosen, state, pool)
            except BaseException:
                state.cancelled.set()
                raise
        return tuple(state.done[step.id] for step in plan.steps)

    def _forget_damaged(self, damaged: DamagedInputError, forgotten: set[str]) -> None:
        """Delete a result whose bytes are damaged, so that its step runs again, once."""
        maker = damaged.maker
        if maker.key in forgotten:
            raise damaged.error
        forgotten.add(maker.key)
        self.view.note(
            maker.step, f"the stored result is damaged and made again: {damaged.error.why}"
        )
        self._results.forget(maker)

    def refuse_early(self, plan: Plan, chosen: Mapping[str, bool]) -> None:
        """Raise NoRunnerError before any step runs if a step that is not stored cannot run here."""
        refused = {
            step.id: refuse(self.runner, step) or self._results.refuse(step) for step in plan.steps
        }
        if not any(refused[step.id] and chosen[step.id] for step in plan.steps):
            return
        for row in resolve(plan, self.look_up, chosen):
            reason = refused[row.step.id]
            if reason and row.status in {Status.RUN, Status.WAITS, Status.EFFECT}:
                elsewhere = f"run it on a suitable runner with this store: --only '{row.step.id}'"
                ways = (elsewhere, row.step.alternative, f"skip it: --skip '{row.step.id}'")
                hint = "; or ".join(filter(None, ways))
                raise NoRunnerError(f"Step {row.step.id} cannot run here", why=reason, hint=hint)

    def look_up(self, step: Step, key: str) -> ActionResult | NotUsed | None:
        """Return the stored result of a key if its output trees exist, None, or why not."""
        return self._results.find(step, key)

    @property
    def _results(self) -> Results:
        return self.results or StoredResults(self.store)

    def _drive(
        self, plan: Plan, chosen: Mapping[str, bool], state: _State, pool: ThreadPoolExecutor
    ) -> None:
        """Start each step once its inputs are known; raise the first failure after the last end."""
        steps = {step.id: step for step in plan.steps}
        needs = {step.id: [one.step.id for one in step.inputs.values()] for step in plan.steps}
        graph = TopologicalSorter(needs)
        graph.prepare()
        ready: list[Step] = []
        running: dict[Future[Done], Step] = {}
        failure: BaseException | None = None
        while running or (failure is None and graph.is_active()):
            ready += [steps[name] for name in graph.get_ready()]
            for step in list(ready) if failure is None else []:
                if skipped := _skipped(step, state.done):
                    ready.remove(step)
                    self._record(skipped, state)
                    graph.done(step.id)
                elif self._has_room(step, running):
                    ready.remove(step)
                    running[pool.submit(self._one, step, state, may_run=chosen[step.id])] = step
            if not running:
                continue  # skipped steps only: those after them are ready now
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                step = running.pop(future)
                error = future.exception()
                if error is None:
                    self._record(future.result(), state)
                    graph.done(step.id)
                else:
                    failure = failure or error
        if failure is not None:
            raise failure

    def _has_room(self, step: Step, running: Mapping[Future[Done], Step]) -> bool:
        if len(running) >= self.jobs or any(other.exclusive for other in running.values()):
            return False
        return not (step.exclusive and running)

    def _record(self, done: Done, state: _State) -> None:
        state.done[done.step.id] = done
        if done.result is not None:
            state.results[done.step.id] = done.result

    def _one(self, step: Step, state: _State, *, may_run: bool) -> Done:
        row = resolve_one(step, state.results, self.look_up, may_run=may_run)
        if row.status is Status.HIT or row.status is Status.SKIPPED:
            return self._not_run(row)
        key = row.key
        assert key is not None, "inputs are known, so the key is"  # noqa: S101
        if step.effect:
            return self._carry_out(step, key, state)
        with self._lease(step, key, state):
            row = resolve_one(step, state.results, self.look_up, may_run=may_run)
            if row.status is Status.HIT:
                return self._not_run(row)
            return self._carry_out(step, key, state)

    @contextlib.contextmanager
    def _lease(self, step: Step, key: Key, state: _State) -> Iterator[None]:
        """Hold the lease of a key during the body. Raises Cancelled while waiting for it."""

        def waiting(holder: str, until: float) -> None:
            at = dt.datetime.fromtimestamp(until, dt.UTC)
            self.view.note(
                step.id, f"waiting for {holder}, which holds the lease until {at:%H:%M:%S} UTC"
            )

        try:
            with self.store.lease(
                key.digest,
                owner=self.owner,
                wait_s=_LEASE_WAIT_S,
                cancelled=state.cancelled,
                waiting=waiting,
            ):
                yield
        except LeaseCancelledError:
            raise Cancelled from None

    def _not_run(self, row: PlannedStep) -> Done:
        if row.status is Status.HIT:
            self.view.hit(row.step.id, row.reason)
        return Done(row.step, row.status, 0.0, row.result, row.reason)

    def _carry_out(self, step: Step, key: Key, state: _State) -> Done:
        result = self._workshop.carry_out(step, key, state.results, state.cancelled)
        status = Status.EFFECT if step.effect else Status.RUN
        return Done(step, status, result.seconds, result)

    @property
    def _workshop(self) -> Workshop:
        return Workshop(
            self.store, self.runner, self.view, self.work, self.keys, self.clock, self.results
        )  # fmt: skip


def _skipped(step: Step, done: Mapping[str, Done]) -> Done | None:
    """Return the outcome of a step that depends on a skipped one, or None."""
    for artifact in step.inputs.values():
        before = done[artifact.step.id]
        if before.status is Status.SKIPPED:
            return Done(step, Status.SKIPPED, 0.0, None, f"needs {before.step.id}")
    return None
