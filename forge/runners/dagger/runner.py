"""The dagger runner: each step runs in a container on a Dagger engine.

The scheduler looks up a step before it runs it, so an engine is contacted only for steps that are
not cached. Steps that sign, publish or read files of this machine are run by the local runner.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import shlex
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from forge.errors import NoRunnerError
from forge.runners.base import Cancelled, Execution, Job, refuse, show_line
from forge.runners.dagger.container import ContainerPlan, container_plan, stays_here
from forge.runners.dagger.settings import DaggerSettings
from forge.runners.local import LocalRunner, host_platform, write_documents
from forge.steps import Step

__all__ = ["DaggerRunner"]

_POLL_S: Final = 0.05
# Lines of the CLI itself between those of the containers: headings, its log, blank lines.
_OWN_LINES: Final = re.compile(r"▼ |\d\d:\d\d:\d\d [A-Z]{3} |$")


@dataclass(frozen=True, slots=True)
class DaggerRunner:
    """Runs commands in containers.

    Attributes:
        settings: engines by platform, base image, labels.
        environment: the caller's environment variables.
        local: runner for the steps that run on this machine.
    """

    settings: DaggerSettings
    environment: Mapping[str, str]
    local: LocalRunner

    @property
    def name(self) -> str:
        """Return `dagger linux/amd64 linux/arm64`."""
        return " ".join(("dagger", *sorted(self.platforms)))

    @property
    def platforms(self) -> frozenset[str]:
        """Return the platforms that have an engine."""
        return frozenset(self.settings.engines)

    @property
    def labels(self) -> frozenset[str]:
        """Return the labels that the engines offer."""
        return self.settings.labels

    @property
    def containers(self) -> bool:
        """Return True: commands run in containers."""
        return True

    def runs_in(self, image: str) -> bool:  # noqa: ARG002 - the Protocol's signature
        """Return True: an engine can pull any image."""
        return True

    def carrier(self, step: Step) -> str:
        """Return the engine for the step's platform, or the local runner."""
        if stays_here(step):
            return self.local.name
        return f"dagger {self.settings.engine(step.platform, host_platform())[0]}"

    def execute(self, job: Job) -> Execution:
        """Run the command in its container, its output to `log.txt` in the job's folder.

        Raises:
            NoRunnerError: there is no CLI or engine, or their versions are not compatible.
            EngineError: the engine was lost, its disk is full, or its network broke.
            StepFailedError: the image, an environment or the export failed.
            Cancelled: the run was cancelled; the container has stopped.
        """
        reason = stays_here(job.step)
        if reason:
            refusal = refuse(self.local, job.step)
            if refusal:
                why = f"{reason}, so it runs on this machine, and {refusal}"
                raise NoRunnerError(f"Step {job.step.id} cannot run here", why=why)
            return dataclasses.replace(self.local.execute(job), runner=self.local.name)
        import asyncio  # imported late, since a fully cached plan does not need it

        plan = self._plan(job)
        return asyncio.run(_until_cancelled(job, plan, self.environment))

    def _plan(self, job: Job) -> ContainerPlan:
        documents = job.folder / "documents"
        documents.mkdir()
        write_documents(job, documents)
        # The store is the only cache of results: Dagger's cache would return an old failure or an
        # old measurement. A unique file keeps this exec out of the cache, but not images and
        # environments.
        (documents / "run").write_text(uuid.uuid4().hex)
        return container_plan(job, documents, self.settings, self.environment, host_platform())


async def _until_cancelled(
    job: Job, plan: ContainerPlan, environment: Mapping[str, str]
) -> Execution:
    import asyncio

    running = asyncio.create_task(_execute(job, plan, environment))
    while not (await asyncio.wait({running}, timeout=_POLL_S))[0]:
        if job.cancelled.is_set():
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            raise Cancelled
    return running.result()


async def _execute(job: Job, plan: ContainerPlan, environment: Mapping[str, str]) -> Execution:
    from forge.runners.dagger import reproduce
    from forge.runners.dagger.session import find_cli, probe, session
    from forge.runners.dagger.watch import until_lost

    cli = find_cli(environment)
    probe(plan.engine)
    # Imported late: the SDK takes a second to import.
    from forge.runners.dagger.exec import run as run_exec

    reproduce.write(plan, cli, job.folder / "reproduce.sh")
    name = f"dagger {plan.platform}"
    job.view.started(job.step.id, f"[{name} {plan.image}] {shlex.join(plan.argv)}")

    def line(text: str) -> None:
        if not _OWN_LINES.match(text):
            show_line(job, text)

    note = functools.partial(job.view.note, job.step.id)
    async with session(cli, plan.engine, environment, line, job.step.id) as client:
        ended = await until_lost(run_exec(client, plan, note), plan.engine)
    log = job.folder / "log.txt"
    log.write_text(ended.output, encoding="utf-8", errors="replace")
    return Execution(ended.exit_code, ended.seconds, log, name)
