"""The local runner: a step's command as a child process of this one.

Its tools are virtual environments made from the same locks the images are made of. A supervisor
runs the command in a process group of its own and ends all of it when the step is cancelled, and
also when this process is killed: nothing goes on building unseen.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import forge.serving
from forge import canonical, environments
from forge.container import RunningImage
from forge.errors import ForgeError
from forge.files import write_durably
from forge.runners.base import Execution, Job, go_on
from forge.steps import WARNING, Step, substitute

__all__ = ["LocalRunner", "host_platform", "write_documents"]

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
# A program of its own: importing it would cost every start of the command line.
_SUPERVISOR: Final = Path(forge.serving.__path__[0]) / "supervisor.py"
_GRACE_S: Final = 10.0
_POLL_S: Final = 0.05
# What a child may see of the caller's environment beside its declared secrets.
_PASSED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TERM", "FORGE_CACHE")
# How to reach networks; the values may hold credentials, so none is ever written down.
_PASSED_PREFIXES: Final = (
    "UV_",
    "PIP_",
    "SSL_CERT_",
    "REQUESTS_CA_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "HF_ENDPOINT",
)


def host_platform(machine: str | None = None) -> str:
    """`linux/amd64` or `linux/arm64` for a `uname -m` name."""
    name = machine or platform.machine()
    return f"linux/{_ARCHITECTURES.get(name, name)}"


@dataclasses.dataclass(frozen=True, slots=True)
class LocalRunner:
    """Runs commands on this machine.

    Attributes:
        cache: folder for tool environments.
        environment: the caller's environment variables.
        labels: what this machine offers, e.g. `gpu-sm120`.
        image: the container image around this process, if there is one.
    """

    cache: Path
    environment: Mapping[str, str]
    labels: frozenset[str] = frozenset()
    image: RunningImage | None = None

    @property
    def name(self) -> str:
        """`local linux/amd64`."""
        return f"local {host_platform()}"

    def carrier(self, step: Step) -> str:  # noqa: ARG002 - the Protocol's signature
        """This machine, for every step."""
        return self.name

    @property
    def platforms(self) -> frozenset[str]:
        """This machine's own platform."""
        return frozenset({host_platform()})

    @property
    def containers(self) -> bool:
        """It runs commands beside this process."""
        return False

    def runs_in(self, image: str) -> bool:
        """Only in the image this process is in itself."""
        return self.image is not None and self.image.is_the_image(image)

    def execute(self, job: Job) -> Execution:
        """Run the command, its output to `log.txt` in the job's folder and to the view."""
        argv = self._command(job)
        child_environment = self._child_environment(job)
        _write_reproduce(job, argv, child_environment)
        job.view.started(job.step.id, shlex.join(argv))
        log = job.folder / "log.txt"
        started = time.monotonic()
        with log.open("wb") as file:
            exit_code = _run(job, argv, child_environment, file.fileno(), log)
        return Execution(exit_code, time.monotonic() - started, log)

    def _command(self, job: Job) -> list[str]:
        watch = environments.Watch(
            say=lambda text: job.view.note(job.step.id, text),
            go_on=lambda: go_on(job.cancelled),
        )
        tools = {
            environment.name: environments.ensure(
                environment.name,
                environment.lock,
                python=environment.python,
                cache=self.cache,
                watch=watch,
            )
            for environment in job.step.environments
        }
        locks = {environment.name: environment.lock for environment in job.step.locks}
        sources = {source.name: source.path for source in job.step.sources}
        documents = write_documents(job, job.folder)
        folders: dict[str, Mapping[str, Path]] = {
            "inputs": job.inputs,
            "outputs": job.outputs,
            "tools": tools,
            "lock": locks,
            "source": sources,
        }
        values = {"python": sys.executable, "store": job.store_url, "keys": str(job.keys)}

        def value(kind: str, name: str | None) -> str:
            if name is not None:
                return str(folders[kind][name])
            return values.get(kind) or str(documents[kind])

        return substitute(job.step.argv, value)

    def _child_environment(self, job: Job) -> dict[str, str]:
        passed = {
            name: value
            for name, value in self.environment.items()
            if name in _PASSED or _about_networks(name)
        }
        secrets = {
            name: self.environment[name] for name in job.step.secrets if name in self.environment
        }
        return {**passed, **secrets, **job.step.env, "PYTHONUNBUFFERED": "1"}


def _about_networks(name: str) -> bool:
    return name.upper().startswith(_PASSED_PREFIXES)


def write_documents(job: Job, folder: Path) -> dict[str, Path]:
    """Write the JSON files of `${settings}`, `${digests}` and `${chain}`; path by name."""
    documents = {
        "settings": canonical.dumps(dict(job.step.settings)),
        "digests": canonical.dumps(dict(job.digests)),
        "chain": json.dumps([dataclasses.asdict(link) for link in job.chain], indent=1).encode(),
    }
    paths = {}
    for name, data in documents.items():
        paths[name] = folder / f"{name}.json"
        paths[name].write_bytes(data)
    return paths


def _write_reproduce(job: Job, argv: list[str], child_environment: Mapping[str, str]) -> None:
    """A script that runs the command by hand; secrets are asked for, never written."""
    lines = ["#!/bin/sh", f"# Runs step {job.step.id} by hand, as Forge ran it.", "set -eu"]
    for name, value in child_environment.items():
        if _about_networks(name):
            lines.append(f"# {name} was set too; it is taken from where you run this.")
        elif name in job.step.secrets:
            lines.append(f': "${{{name}:?set it first: it is a secret and not stored here}}"')
        else:
            lines.append(f"export {name}={shlex.quote(value)}")
    lines += [f"cd {shlex.quote(str(job.folder))}", shlex.join(argv), ""]
    write_durably(job.folder / "reproduce.sh", "\n".join(lines).encode(), mode=0o700)


def _run(job: Job, argv: list[str], env: dict[str, str], log_fd: int, log: Path) -> int:
    supervised = [sys.executable, "-I", str(_SUPERVISOR), f"--grace={_GRACE_S}", "--", *argv]
    try:
        child = subprocess.Popen(
            supervised,
            cwd=job.folder,
            env=env,
            stdin=subprocess.PIPE,  # when it closes, the supervisor ends the command
            stdout=log_fd,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        what = f"Step {job.step.id} could not be started"
        raise ForgeError(what, why=str(error), hint=f"see {job.folder}/reproduce.sh") from None
    try:
        with log.open("rb") as reader:
            while True:
                ended = child.poll() is not None
                _show(job, reader.read())
                if ended:
                    return int(child.returncode)
                job.cancelled.wait(_POLL_S)
                go_on(job.cancelled)
    finally:
        _end(child)


def _show(job: Job, data: bytes) -> None:
    for line in data.decode(errors="replace").splitlines():
        if line.startswith(WARNING):  # of Forge's own commands: shown without --verbose, too
            job.view.note(job.step.id, line.removeprefix(WARNING))
        else:
            job.view.line(job.step.id, line)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Let the supervisor end the command and all it started; SIGKILL if it does not."""
    assert child.stdin is not None, "it was asked for"  # noqa: S101
    child.stdin.close()
    try:
        child.wait(2 * _GRACE_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
