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
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from forge.errors import NoRunnerError, from_exit_code
from forge.plan import Plan, Planned, Status, input_digests, resolve, resolve_one
from forge.runners.base import Execution, Job, Runner, refuse
from forge.runners.view import View
from forge.steps import Key, Link, Step
from forge.store import ActionResult, Store

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
        state = _State()
        with self.view.live(), ThreadPoolExecutor(max(1, self.jobs)) as pool:
            try:
                self._drive(plan, chosen, state, pool)
            except BaseException:
                state.cancelled.set()
                raise
        return tuple(state.done[step.id] for step in plan.steps)

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
        with self.store.lease(key.digest, owner=self.owner, wait_s=_LEASE_WAIT_S):
            row = resolve_one(step, state.results, self.look_up, may_run=may_run)
            if row.status is Status.HIT:
                return self._not_run(row)
            return self._execute(step, key, state)

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
            execution = self.runner.execute(job)
            if execution.exit_code != 0:
                self._fail(step, key, folder, execution)
            result = self._store(step, key, job, execution, started)
        summary = " ".join(f"{name} {tree.digest[:12]}" for name, tree in result.outputs.items())
        self.view.finished(step.id, execution.seconds, summary)
        return Done(step, Status.EFFECT if step.effect else Status.RUN, execution.seconds, result)

    @contextlib.contextmanager
    def _folder(self, step: Step, key: Key) -> Iterator[Path]:
        folder = self.work / "running" / f"{step.id}-{key.digest[:12]}-{os.getpid()}"
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _job(self, step: Step, folder: Path, state: _State) -> Job:
        digests = input_digests(step, state.results) or {}
        inputs = {
            name: self._unpacked(digest)
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

    def _unpacked(self, digest: str) -> Path:
        """The folder of a stored tree, unpacked once and kept for later steps and runs."""
        folder = self.work / "trees" / digest
        if not folder.is_dir() or not self._whole(folder, digest):
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            self.store.unpack(digest, folder)
        os.utime(folder)
        return folder

    def _whole(self, folder: Path, digest: str) -> bool:
        """Whether a kept tree still has every file at its size."""
        for entry in self.store.tree(digest).entries:
            try:
                if (folder / entry.path).stat().st_size != entry.size:
                    return False
            except OSError:
                return False
        return True

    def _store(
        self, step: Step, key: Key, job: Job, execution: Execution, started: dt.datetime
    ) -> ActionResult:
        outputs = {name: self.store.put_tree(folder) for name, folder in job.outputs.items()}
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
            runner=self.runner.name,
        )
        if not step.effect:
            self.store.put_action(result)
        for name, folder in job.outputs.items():
            kept = self.work / "trees" / outputs[name].digest
            kept.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):  # another run keeps the same tree already
                folder.rename(kept)
        return result

    def _fail(self, step: Step, key: Key, folder: Path, execution: Execution) -> None:
        kept = self.work / "failed" / f"{step.id}-{key.digest[:12]}"
        shutil.rmtree(kept, ignore_errors=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        _repoint(folder / "reproduce.sh", folder, kept)
        folder.rename(kept)
        code = execution.exit_code
        how = f"was killed by signal {-code}" if code < 0 else f"failed with exit code {code}"
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
