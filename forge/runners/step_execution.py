"""Execute one step in its own folder: unpack its inputs, run it, store its outputs.

    WORK/running/<step>-<key>-…-<pid>   folder of a running step
    WORK/failed/<step>-<key>            folder of a failed step: log.txt and reproduce.sh
    WORK/trees/<digest>                 cached inputs and outputs

The result is stored last, so a step that dies at any point leaves nothing half-stored.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
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
from forge.progress import ProgressMeter
from forge.runners.base import Execution, Job, Runner, raise_if_cancelled, refuse
from forge.runners.results import Results, StoredResults
from forge.runners.tree_cache import TreeCache, file_states
from forge.runners.view import View
from forge.runners.work_folder import WorkFolder
from forge.steps import Key, Link, Step
from forge.store import ActionResult, Store
from forge.store.progress import Progress

__all__ = ["DamagedInputError", "Workshop"]

_LOG_TAIL: Final = 16 * 1024
_SHOWN_LINES: Final = 25
_DOWNLOAD = re.compile(r"[a-z0-9]+:\S+#sha256=[0-9a-f]{64}\S*")


class DamagedInputError(Exception):
    """An input cannot be unpacked: the store has its result but not all of its bytes."""

    def __init__(self, maker: ActionResult, error: StoreError) -> None:
        super().__init__(maker.step)
        self.maker = maker
        self.error = error


@dataclass(frozen=True, slots=True)
class Workshop:
    """Executes steps, one at a time per thread; see `Scheduler` for the attributes."""

    store: Store
    runner: Runner
    view: View
    work: Path
    keys: Path
    clock: Callable[[], dt.datetime]
    results: Results | None = None

    def carry_out(
        self,
        step: Step,
        key: Key,
        results: Mapping[str, ActionResult],
        cancelled: threading.Event,
    ) -> ActionResult:
        """Run one step whose inputs are stored, and store its outputs.

        Args:
            step: the step.
            key: key of the step.
            results: results of the steps before it, by step id.
            cancelled: when set, the step is terminated and nothing is stored.

        Raises:
            NoRunnerError: the runner cannot run it.
            DamagedInputError: the bytes of an input are missing in the store or damaged.
            Cancelled: `cancelled` was set.
            ForgeError: the command failed; its exit code decides the class.
        """
        reason = refuse(self.runner, step) or self._results.refuse(step)
        if reason:
            raise NoRunnerError(f"Step {step.id} cannot run here", why=reason)
        started = self.clock()
        with self._folder(step, key) as folder:
            job = self._job(step, folder, results, cancelled)
            raise_if_cancelled(job.cancelled)
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
        # The process id in the name lets a later run detect that the process has ended.
        prefix, suffix = f"{step.id}-{key.digest[:12]}-", f"-{os.getpid()}"
        folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=running))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def clean(self) -> None:
        """Delete the folders of killed runs and of steps that failed long ago."""
        WorkFolder(self.work).bound(time.time(), "running", "failed")

    @property
    def _results(self) -> Results:
        return self.results or StoredResults(self.store)

    @property
    def _trees(self) -> TreeCache:
        return TreeCache(self.work / "trees", self.store)

    def _job(
        self,
        step: Step,
        folder: Path,
        results: Mapping[str, ActionResult],
        cancelled: threading.Event,
    ) -> Job:
        digests = input_digests(step, results) or {}
        inputs = {
            name: self._unpacked(step.id, digest, results[step.inputs[name].step.id], cancelled)
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

    def _unpacked(
        self, step_id: str, digest: str, maker: ActionResult, cancelled: threading.Event
    ) -> Path:
        progress = self._report(step_id, f"fetching the result of {maker.step}", cancelled)
        try:
            return self._trees.get(digest, progress)
        except (CorruptedError, NotInStoreError) as error:
            raise DamagedInputError(maker, error) from error

    def _report(self, step_id: str, what: str, cancelled: threading.Event) -> Progress:
        """Return a callback that reports bytes, rate and time left, and cancels the transfer."""
        meter = ProgressMeter()

        def progress(done: int, total: int) -> None:
            raise_if_cancelled(cancelled)
            self.view.progress(step_id, f"{what}: {meter.text(done, total)}")

        return progress

    def _store(
        self, step: Step, key: Key, job: Job, execution: Execution, started: dt.datetime
    ) -> ActionResult:
        states = {name: file_states(folder) for name, folder in job.outputs.items()}
        outputs = {
            name: self.store.put_tree(
                folder, progress=self._report(step.id, f"storing {name}", job.cancelled)
            )
            for name, folder in job.outputs.items()
        }
        result = ActionResult(
            key=key.digest,
            step=step.id,
            fields=dict(key.fields),
            inputs=dict(job.digests),
            outputs=outputs,
            parents=tuple(link.key for link in job.chain),
            # Masking finds a secret as it is, not in base64 or reversed, and others read the store.
            log_tail="" if step.secrets else _tail(execution.log),
            seconds=round(execution.seconds, 3),
            started=started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            runner=execution.runner or self.runner.name,
        )
        if not step.effect:
            result = self._results.put(step, result)
        for name, folder in job.outputs.items():
            self._trees.adopt(outputs[name].digest, folder, states[name])
        return result

    def _fail(self, step: Step, key: Key, folder: Path, execution: Execution) -> None:
        kept = self.work / "failed" / f"{step.id}-{key.digest[:12]}"
        shutil.rmtree(kept, ignore_errors=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        _repoint(folder / "reproduce.sh", folder, kept)
        folder.rename(kept)
        code = execution.exit_code
        signal_number = -code if code < 0 else code - 128  # shells return 128 + n
        killed = 0 < signal_number < 65  # noqa: PLR2004  the highest signal of Linux is 64
        how = f"was killed by signal {signal_number}" if killed else f"failed with exit code {code}"
        self.view.failed(step.id, execution.seconds, how)
        lines = _tail(kept / "log.txt").rstrip().splitlines()[-_SHOWN_LINES:]
        raise from_exit_code(code)(
            f"Step {step.id} {how}",
            # Once: a view that displays what commands print has shown these lines already.
            why="" if self.view.shows_output else "\n".join(["", *(f"  | {one}" for one in lines)]),
            hint=f"full log: {kept}/log.txt\nto run the step manually: {kept}/reproduce.sh",
        )


def _chain(step: Step, results: Mapping[str, ActionResult]) -> tuple[Link, ...]:
    """Return all stored steps that `step` depends on, in order of dependency."""
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
                builder=result.builder,
                materials=_materials(result),
            )

    visit(step)
    return tuple(links.values())


def _materials(result: ActionResult) -> dict[str, str]:
    """Return the locks, images and pinned downloads that are fields of a result's key."""
    found = {}
    for name, value in result.fields.items():
        kind, _, rest = name.partition(" ")
        if kind == "environment" and not rest.endswith(" python"):
            found[f"dockerfiles/{rest}/requirements.lock"] = value
        elif name == "image":
            found[f"image of {result.step}"] = value
        elif kind.startswith("argv[") and _DOWNLOAD.fullmatch(value):
            scheme, _, place = value.partition(":")
            # A path of the machine that built it says nothing elsewhere.
            found[f"download of {result.step}"] = (
                f"file:{Path(place).name}" if scheme == "file" else value
            )
    return found


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - _LOG_TAIL))
        return file.read().decode(errors="replace")


def _repoint(script: Path, old: Path, new: Path) -> None:
    """Update the paths in the script of a failed step, whose folder was moved."""
    if script.is_file():
        script.write_text(script.read_text().replace(str(old), str(new)))
