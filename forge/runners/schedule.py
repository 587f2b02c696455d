"""The scheduler: walks a plan, takes what the store has, and gives the rest to a runner.

For every step, as soon as its inputs are known: key → look-up → lease → look-up again → run →
store the outputs → store the result. The result is written last, so a run that dies at any point
leaves nothing half-stored.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from forge.errors import NoRunnerError
from forge.plan import Plan, Planned, Status, resolve, resolve_one
from forge.runners.base import Cancelled, Runner, refuse
from forge.runners.view import View
from forge.runners.workshop import DamagedInputError, Workshop
from forge.steps import Key, Step
from forge.store import ActionResult, Store
from forge.store.leases import LeaseCancelledError

__all__ = ["Done", "Scheduler"]

_LEASE_WAIT_S: Final = 4 * 3600.0


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one step in this run."""

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
        runner: what runs the commands.
        view: who watches.
        work: folder for running steps, failed steps and unpacked trees (`.forge` of the project).
        keys: folder of the signing keys, for steps that sign.
        owner: who this is, for leases.
        jobs: how many steps at once.
        clock: UTC now.
    """

    store: Store
    runner: Runner
    view: View
    work: Path
    keys: Path
    owner: str
    jobs: int = 2
    clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)

    def run(self, plan: Plan, chosen: Mapping[str, bool]) -> tuple[Done, ...]:
        """Carry out what is chosen and not in the store; steps in plan order.

        Raises:
            NoRunnerError: the runner cannot run a step that is needed.
            StepFailedError, SmokeGateError, …: by the exit code of a failed command; steps already
                running are finished and stored first.
            KeyboardInterrupt: after every child has ended.
        """
        self.refuse_early(plan, chosen)
        self._workshop.clean()
        healed: set[str] = set()
        with self.view.live():
            while True:
                try:
                    return self._pass(plan, chosen)
                except DamagedInputError as damaged:
                    self._heal(damaged, healed)

    def _pass(self, plan: Plan, chosen: Mapping[str, bool]) -> tuple[Done, ...]:
        """One walk over the plan; what an earlier one did is found in the store."""
        state = _State()
        with ThreadPoolExecutor(max(1, self.jobs)) as pool:
            try:
                self._drive(plan, chosen, state, pool)
            except BaseException:
                state.cancelled.set()
                raise
        return tuple(state.done[step.id] for step in plan.steps)

    def _heal(self, damaged: DamagedInputError, healed: set[str]) -> None:
        """Forget a result whose bytes are damaged, so that its step runs again, once."""
        maker = damaged.maker
        if maker.key in healed:
            raise damaged.error
        healed.add(maker.key)
        self.view.note(maker.step, f"what is stored is damaged and made again: {damaged.error.why}")
        self.store.forget(maker.key)

    def refuse_early(self, plan: Plan, chosen: Mapping[str, bool]) -> None:
        """Raise NoRunnerError before anything runs if a step that is not stored cannot run here."""
        refused = {step.id: refuse(self.runner, step) for step in plan.steps}
        if not any(refused[step.id] and chosen[step.id] for step in plan.steps):
            return
        for row in resolve(plan, self.look_up, chosen):
            reason = refused[row.step.id]
            if reason and row.status in {Status.RUN, Status.WAITS, Status.EFFECT}:
                there = f"run it there against this store: --only '{row.step.id}'"
                ways = (there, row.step.alternative, f"leave it out: --skip '{row.step.id}'")
                hint = "; or ".join(filter(None, ways))
                raise NoRunnerError(f"Step {row.step.id} cannot run here", why=reason, hint=hint)

    def look_up(self, key: str) -> ActionResult | None:
        """A stored result whose output trees exist."""
        result = self.store.action(key)
        if result is None:
            return None
        outputs = result.outputs.values()
        return result if all(self.store.has_tree(tree.digest) for tree in outputs) else None

    def _drive(
        self, plan: Plan, chosen: Mapping[str, bool], state: _State, pool: ThreadPoolExecutor
    ) -> None:
        running: dict[Future[Done], Step] = {}
        waiting = list(plan.steps)
        failure: BaseException | None = None
        while (waiting and failure is None) or running:
            for step in list(waiting) if failure is None else []:
                if self._settle(step, state):
                    waiting.remove(step)
                elif self._may_start(step, state, running):
                    waiting.remove(step)
                    running[pool.submit(self._one, step, state, may_run=chosen[step.id])] = step
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                step = running.pop(future)
                error = future.exception()
                if error is None:
                    self._record(future.result(), state)
                else:
                    failure = failure or error
        if failure is not None:
            raise failure

    def _settle(self, step: Step, state: _State) -> bool:
        """Mark a step as skipped when one it needs was skipped."""
        for artifact in step.inputs.values():
            before = state.done.get(artifact.step.id)
            if before is not None and before.status is Status.SKIPPED:
                reason = f"needs {before.step.id}"
                state.done[step.id] = Done(step, Status.SKIPPED, 0.0, None, reason)
                return True
        return False

    def _may_start(self, step: Step, state: _State, running: Mapping[Future[Done], Step]) -> bool:
        if len(running) >= self.jobs or any(other.exclusive for other in running.values()):
            return False
        if step.exclusive and running:
            return False
        return all(artifact.step.id in state.results for artifact in step.inputs.values())

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
        """Be the one that makes this key. Raises Cancelled while it waits for another."""

        def waiting(holder: str, until: float) -> None:
            at = dt.datetime.fromtimestamp(until, dt.UTC)
            self.view.note(step.id, f"waiting for {holder}, who has it until {at:%H:%M:%S} UTC")

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

    def _not_run(self, row: Planned) -> Done:
        if row.status is Status.HIT:
            self.view.hit(row.step.id, row.reason)
        return Done(row.step, row.status, 0.0, row.result, row.reason)

    def _carry_out(self, step: Step, key: Key, state: _State) -> Done:
        result = self._workshop.carry_out(step, key, state.results, state.cancelled)
        status = Status.EFFECT if step.effect else Status.RUN
        return Done(step, status, result.seconds, result)

    @property
    def _workshop(self) -> Workshop:
        return Workshop(self.store, self.runner, self.view, self.work, self.keys, self.clock)
