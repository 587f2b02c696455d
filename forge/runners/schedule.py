"""The scheduler: walks a plan, takes what the store has, and gives the rest to a runner.

For every step, as soon as its inputs are known: key → look-up → lease → look-up again → run →
store the outputs → store the result. The result is written last, so a run that dies at any point
leaves nothing half-stored.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from forge.errors import (
    CorruptedError,
    NoRunnerError,
    NotInStoreError,
    StoreError,
    from_exit_code,
)
from forge.plan import Plan, Planned, Status, input_digests, resolve, resolve_one
from forge.runners.base import Cancelled, Execution, Job, Runner, go_on, refuse
from forge.runners.kept import KeptTrees, looks_of
from forge.runners.view import View
from forge.steps import Key, Link, Step
from forge.store import ActionResult, Store
from forge.store.leases import LeaseCancelledError

__all__ = ["Done", "Scheduler"]

_LOG_TAIL: Final = 16 * 1024
_LEASE_WAIT_S: Final = 4 * 3600.0
_SHOWN_LINES: Final = 25


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


class _DamagedInputError(Exception):
    """An input cannot be had: the store has its result but not all of its bytes."""

    def __init__(self, maker: ActionResult, error: StoreError) -> None:
        super().__init__(maker.step)
        self.maker = maker
        self.error = error


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
        self._clean()
        healed: set[str] = set()
        with self.view.live():
            while True:
                try:
                    return self._pass(plan, chosen)
                except _DamagedInputError as damaged:
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

    def _heal(self, damaged: _DamagedInputError, healed: set[str]) -> None:
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
            return self._execute(step, key, state)
        with self._lease(step, key, state):
            row = resolve_one(step, state.results, self.look_up, may_run=may_run)
            if row.status is Status.HIT:
                return self._not_run(row)
            return self._execute(step, key, state)

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

    def _execute(self, step: Step, key: Key, state: _State) -> Done:
        reason = refuse(self.runner, step)
        if reason:
            raise NoRunnerError(f"Step {step.id} cannot run here", why=reason)
        started = self.clock()
        with self._folder(step, key) as folder:
            job = self._job(step, folder, state)
            go_on(job.cancelled)
            execution = self.runner.execute(job)
            if execution.exit_code != 0:
                self._fail(step, key, folder, execution)
            result = self._store(step, key, job, execution, started)
        summary = " ".join(f"{name} {tree.digest[:12]}" for name, tree in result.outputs.items())
        self.view.finished(step.id, execution.seconds, summary)
        return Done(step, Status.EFFECT if step.effect else Status.RUN, execution.seconds, result)

    @contextlib.contextmanager
    def _folder(self, step: Step, key: Key) -> Iterator[Path]:
        running = self.work / "running"
        running.mkdir(parents=True, exist_ok=True)
        # The process id at the end lets a later run see that nobody works here any more.
        prefix, suffix = f"{step.id}-{key.digest[:12]}-", f"-{os.getpid()}"
        folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=running))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _clean(self) -> None:
        """Delete what killed runs left, and trees that no run asked for in a long time."""
        self._trees.trim(time.time())
        for left in (self.work / "running").glob("*"):
            pid = left.name.rpartition("-")[2]
            if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
                shutil.rmtree(left, ignore_errors=True)

    @property
    def _trees(self) -> KeptTrees:
        return KeptTrees(self.work / "trees", self.store)

    def _job(self, step: Step, folder: Path, state: _State) -> Job:
        digests = input_digests(step, state.results) or {}
        inputs = {
            name: self._unpacked(digest, state.results[step.inputs[name].step.id], state)
            for name, digest in digests.items()
            if name not in step.references
        }
        outputs = {name: folder / "outputs" / name for name in step.outputs}
        for output in outputs.values():
            output.mkdir(parents=True)
        chain = _chain(step, state.results)
        return Job(
            step, folder, inputs, outputs, digests, chain,
            self.store.url, self.keys, self.view, state.cancelled,
        )  # fmt: skip

    def _unpacked(self, digest: str, maker: ActionResult, state: _State) -> Path:
        try:
            return self._trees.get(digest, lambda: go_on(state.cancelled))
        except (CorruptedError, NotInStoreError) as error:
            raise _DamagedInputError(maker, error) from error

    def _store(
        self, step: Step, key: Key, job: Job, execution: Execution, started: dt.datetime
    ) -> ActionResult:
        looks = {name: looks_of(folder) for name, folder in job.outputs.items()}
        outputs = {
            name: self.store.put_tree(folder, progress=lambda _done, _all: go_on(job.cancelled))
            for name, folder in job.outputs.items()
        }
        result = ActionResult(
            key=key.digest,
            step=step.id,
            fields=dict(key.fields),
            inputs=dict(job.digests),
            outputs=outputs,
            parents=tuple(link.key for link in job.chain),
            log_tail=_tail(execution.log),
            seconds=round(execution.seconds, 3),
            started=started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            runner=execution.runner or self.runner.name,
        )
        if not step.effect:
            self.store.put_action(result)
        for name, folder in job.outputs.items():
            self._trees.adopt(outputs[name].digest, folder, looks[name])
        return result

    def _fail(self, step: Step, key: Key, folder: Path, execution: Execution) -> None:
        kept = self.work / "failed" / f"{step.id}-{key.digest[:12]}"
        shutil.rmtree(kept, ignore_errors=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        _repoint(folder / "reproduce.sh", folder, kept)
        folder.rename(kept)
        code = execution.exit_code
        signal_number = -code if code < 0 else code - 128  # 128 + n is a shell's way to say it
        killed = 0 < signal_number < 65  # noqa: PLR2004  the highest signal of Linux is 64
        how = f"was killed by signal {signal_number}" if killed else f"failed with exit code {code}"
        self.view.failed(step.id, execution.seconds, how)
        lines = _tail(kept / "log.txt").rstrip().splitlines()[-_SHOWN_LINES:]
        raise from_exit_code(code)(
            f"Step {step.id} {how}",
            why="\n" + "\n".join(f"  | {line}" for line in lines),
            hint=f"whole log: {kept}/log.txt; run it by hand: {kept}/reproduce.sh",
        )


def _chain(step: Step, results: Mapping[str, ActionResult]) -> tuple[Link, ...]:
    """Every stored step that `step` descends from, makers before users."""
    links: dict[str, Link] = {}

    def visit(current: Step) -> None:
        for artifact in current.inputs.values():
            if artifact.step.id in links:
                continue
            visit(artifact.step)
            result = results[artifact.step.id]
            links[artifact.step.id] = Link(
                step=result.step,
                key=result.key,
                inputs=dict(result.inputs),
                outputs={name: tree.digest for name, tree in result.outputs.items()},
                seconds=result.seconds,
                started=result.started,
                runner=result.runner,
            )

    visit(step)
    return tuple(links.values())


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - _LOG_TAIL))
        return file.read().decode(errors="replace")


def _repoint(script: Path, old: Path, new: Path) -> None:
    """A failed step's folder moves; its script must still find it."""
    if script.is_file():
        script.write_text(script.read_text().replace(str(old), str(new)))
