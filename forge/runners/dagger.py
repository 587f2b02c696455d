"""The dagger runner: each step a container on a Dagger engine.

The scheduler has looked the step up before it asks for it, so an engine is contacted for what is
left to do and for nothing else. What signs, publishes or reads this machine's files runs beside the
scheduler, by the local runner.
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
from forge.runners.base import Cancelled, Execution, Job, refuse
from forge.runners.dagger_container import ContainerPlan, container_plan, stays_here
from forge.runners.dagger_settings import DaggerSettings
from forge.runners.local import LocalRunner, host_platform, write_documents
from forge.steps import Step

__all__ = ["DaggerRunner"]

_POLL_S: Final = 0.05
# What the CLI says itself between the containers' lines: headings, its log, blank lines.
_OWN_LINES: Final = re.compile(r"▼ |\d\d:\d\d:\d\d [A-Z]{3} |$")


@dataclass(frozen=True, slots=True)
class DaggerRunner:
    """Runs commands in containers.

    Attributes:
        settings: engines by platform, base image, labels.
        environment: the caller's environment variables.
        beside: runs what stays on this machine.
    """

    settings: DaggerSettings
    environment: Mapping[str, str]
    beside: LocalRunner

    @property
    def name(self) -> str:
        """`dagger linux/amd64 linux/arm64`."""
        return " ".join(("dagger", *sorted(self.platforms)))

    @property
    def platforms(self) -> frozenset[str]:
        """The platforms an engine is named for."""
        return frozenset(self.settings.engines)

    @property
    def labels(self) -> frozenset[str]:
        """What the engines offer."""
        return self.settings.labels

    @property
    def containers(self) -> bool:
        """Every command that does not stay on this machine."""
        return True

    def runs_in(self, image: str) -> bool:  # noqa: ARG002 - the Protocol's signature
        """In any that its engine can pull."""
        return True

    def carrier(self, step: Step) -> str:
        """The engine for the step's platform, or this machine where it stays here."""
        if stays_here(step):
            return self.beside.name
        return f"dagger {self.settings.engine(step.platform, host_platform())[0]}"

    def execute(self, job: Job) -> Execution:
        """Run the command in its container, its output to `log.txt` in the job's folder.

        Raises:
            NoRunnerError: no CLI, no engine, or versions that do not go together.
            StepFailedError: the image, an environment or the export failed, not the command.
            Cancelled: somebody pressed Ctrl-C; the container has ended.
        """
        reason = stays_here(job.step)
        if reason:
            refusal = refuse(self.beside, job.step)
            if refusal:
                why = f"{reason}, so it runs beside the scheduler, and {refusal}"
                raise NoRunnerError(f"Step {job.step.id} cannot run here", why=why)
            return dataclasses.replace(self.beside.execute(job), runner=self.beside.name)
        import asyncio  # like the rest of what an engine needs: not for a plan that is all hits

        plan = self._plan(job)
        return asyncio.run(_until_cancelled(job, plan, self.environment))

    def _plan(self, job: Job) -> ContainerPlan:
        documents = job.folder / "documents"
        documents.mkdir()
        write_documents(job, documents)
        # The store is the only cache of results: Dagger's would give an old failure or an old
        # measurement for a new one. A file that is never the same keeps the exec out of it, and
        # leaves images and environments in.
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
    from forge.runners import dagger_again
    from forge.runners.dagger_session import find_cli, probe, session

    cli = find_cli(environment)
    probe(plan.engine)
    from forge.runners import dagger_exec  # the SDK takes a second to import: not for an error

    dagger_again.write(plan, cli, job.folder / "reproduce.sh")
    name = f"dagger {plan.platform}"
    job.view.started(job.step.id, f"[{name} {plan.image}] {shlex.join(plan.argv)}")

    def line(text: str) -> None:
        if not _OWN_LINES.match(text):
            job.view.line(job.step.id, text)

    async with session(cli, plan.engine, environment, line) as client:
        ended = await dagger_exec.run(client, plan, functools.partial(job.view.note, job.step.id))
    log = job.folder / "log.txt"
    log.write_text(ended.output, encoding="utf-8", errors="replace")
    return Execution(ended.exit_code, ended.seconds, log, name)
