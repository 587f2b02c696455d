"""Where one step is carried out: a folder of its own, its inputs unpacked, its outputs stored.

    WORK/running/<step>-<key>-…-<pid>   while it runs
    WORK/failed/<step>-<key>            after it failed: log.txt and reproduce.sh
    WORK/trees/<digest>                 inputs and outputs, kept for later steps and runs

The result is stored last, so a step that dies at any point leaves nothing half-stored.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge.errors import (
    CorruptedError,
    NoRunnerError,
    NotInStoreError,
    StoreError,
    from_exit_code,
)
from forge.plan import input_digests
from forge.runners.base import Execution, Job, Runner, go_on, refuse
from forge.runners.kept import KeptTrees, looks_of
from forge.runners.view import View
from forge.steps import Key, Link, Step
from forge.store import ActionResult, Store

__all__ = ["DamagedInputError", "Workshop"]

_LOG_TAIL: Final = 16 * 1024
_SHOWN_LINES: Final = 25


class DamagedInputError(Exception):
    """An input cannot be had: the store has its result but not all of its bytes."""

    def __init__(self, maker: ActionResult, error: StoreError) -> None:
        super().__init__(maker.step)
        self.maker = maker
        self.error = error


@dataclass(frozen=True, slots=True)
class Workshop:
    """Carries out steps, one at a time in each thread; see `Scheduler` for the attributes."""

    store: Store
    runner: Runner
    view: View
    work: Path
    keys: Path
    clock: Callable[[], dt.datetime]

    def carry_out(
        self,
        step: Step,
        key: Key,
        results: Mapping[str, ActionResult],
        cancelled: threading.Event,
    ) -> ActionResult:
        """Run one step whose inputs are stored, and store what it wrote.

        Args:
            step: what to run.
            key: its key.
            results: of the steps before it, by step id.
            cancelled: when it is set, everything ends and nothing is stored.

        Raises:
            NoRunnerError: the runner cannot run it.
            DamagedInputError: an input's bytes are not in the store any more.
            Cancelled: `cancelled` was set.
            ForgeError: the command failed; the class says how.
        """
        reason = refuse(self.runner, step)
        if reason:
            raise NoRunnerError(f"Step {step.id} cannot run here", why=reason)
        started = self.clock()
        with self._folder(step, key) as folder:
            job = self._job(step, folder, results, cancelled)
            go_on(job.cancelled)
            execution = self.runner.execute(job)
            if execution.exit_code != 0:
                self._fail(step, key, folder, execution)
            result = self._store(step, key, job, execution, started)
        summary = " ".join(f"{name} {tree.digest[:12]}" for name, tree in result.outputs.items())
        self.view.finished(step.id, execution.seconds, summary)
        return result

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

    def clean(self) -> None:
        """Delete what killed runs left, and trees that no run asked for in a long time."""
        self._trees.trim(time.time())
        for left in (self.work / "running").glob("*"):
            pid = left.name.rpartition("-")[2]
            if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
                shutil.rmtree(left, ignore_errors=True)

    @property
    def _trees(self) -> KeptTrees:
        return KeptTrees(self.work / "trees", self.store)

    def _job(
        self,
        step: Step,
        folder: Path,
        results: Mapping[str, ActionResult],
        cancelled: threading.Event,
    ) -> Job:
        digests = input_digests(step, results) or {}
        inputs = {
            name: self._unpacked(digest, results[step.inputs[name].step.id], cancelled)
            for name, digest in digests.items()
            if name not in step.references
        }
        outputs = {name: folder / "outputs" / name for name in step.outputs}
        for output in outputs.values():
            output.mkdir(parents=True)
        chain = _chain(step, results)
        return Job(
            step, folder, inputs, outputs, digests, chain,
            self.store.url, self.keys, self.view, cancelled,
        )  # fmt: skip

    def _unpacked(self, digest: str, maker: ActionResult, cancelled: threading.Event) -> Path:
        try:
            return self._trees.get(digest, lambda: go_on(cancelled))
        except (CorruptedError, NotInStoreError) as error:
            raise DamagedInputError(maker, error) from error

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
