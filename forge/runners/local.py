"""The local runner: the command of a step runs as a child process.

Its tools are virtual environments made from the same lock files as the images. A supervisor runs
the command in its own process group and terminates the group when the step is cancelled or this
process is killed, so that no build continues in the background.
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
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import forge.serving.triton
from forge import canonical, environments
from forge.container import RunningImage
from forge.errors import ForgeError
from forge.files import write_durably
from forge.runners.base import Execution, Job, raise_if_cancelled, show_line
from forge.serving.triton.containment import available, hidden_from
from forge.steps import Step, substitute, uses_keys

__all__ = ["LocalRunner", "host_platform", "write_documents"]

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
# Run as a separate program, so that the command line does not import it.
_SUPERVISOR: Final = Path(forge.serving.triton.__path__[0]) / "supervisor.py"
_GRACE_S: Final = 10.0
_POLL_S: Final = 0.05
# Environment variables that a child gets in addition to its declared secrets.
_PASSED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TERM", "FORGE_CACHE")
_SECRET_FILES: Final = (
    "FORGE_PASSPHRASE_FILE",
    "FORGE_BUILDER_KEY",
    "FORGE_BUILDER_PASSPHRASE_FILE",
)
# Network settings; their values may contain credentials and are never written to files.
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
    """Return `linux/amd64` or `linux/arm64` for a `uname -m` name."""
    name = machine or platform.machine()
    return f"linux/{_ARCHITECTURES.get(name, name)}"


@dataclasses.dataclass(frozen=True, slots=True)
class LocalRunner:
    """Runs commands on this machine.

    Attributes:
        cache: folder for tool environments.
        environment: the caller's environment variables.
        labels: labels of this machine, e.g. `gpu-sm120`.
        image: container image that this process runs in, or None.
    """

    cache: Path
    environment: Mapping[str, str]
    labels: frozenset[str] = frozenset()
    image: RunningImage | None = None

    @property
    def name(self) -> str:
        """Return `local linux/amd64`."""
        return f"local {host_platform()}"

    def carrier(self, step: Step) -> str:  # noqa: ARG002 - the Protocol's signature
        """Return the name of this runner."""
        return self.name

    @property
    def platforms(self) -> frozenset[str]:
        """Return the platform of this machine."""
        return frozenset({host_platform()})

    @property
    def containers(self) -> bool:
        """Return False: commands run on this machine."""
        return False

    def runs_in(self, image: str) -> bool:
        """Return whether this process runs in the image."""
        return self.image is not None and self.image.is_the_image(image)

    def execute(self, job: Job) -> Execution:
        """Run the command; its output goes to `log.txt` in the job's folder and to the view."""
        argv = self._command(job)
        hidden = _hidden(job, self.environment)
        child_environment = self._child_environment(job, hidden)
        _write_reproduce(job, argv, child_environment)
        job.view.started(job.step.id, shlex.join(argv))
        log = job.folder / "log.txt"
        started = time.monotonic()
        with log.open("wb") as file:
            sandboxed = _contained(job, argv, hidden, self.environment)
            exit_code = _run(job, sandboxed, child_environment, file.fileno(), log)
        return Execution(exit_code, time.monotonic() - started, log)

    def _command(self, job: Job) -> list[str]:
        watch = environments.Watch(
            report=lambda text: job.view.note(job.step.id, text),
            progress=lambda text: job.view.progress(job.step.id, text),
            command=lambda text: job.view.line(job.step.id, text),
            check=lambda: raise_if_cancelled(job.cancelled),
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

    def _child_environment(self, job: Job, hidden: Sequence[Path]) -> dict[str, str]:
        passed = {
            name: value
            for name, value in self.environment.items()
            if name in _PASSED or _about_networks(name)
        }
        secrets = {
            name: self.environment[name] for name in job.step.secrets if name in self.environment
        }
        own = {"TMPDIR": str(temporary)} if (temporary := _temporary(job, hidden)) else {}
        return {**passed, **own, **secrets, **job.step.env, "PYTHONUNBUFFERED": "1"}


def _needs_all(step: Step) -> bool:
    """Whether a step signs, or uses programs that make namespaces and mounts themselves."""
    return bool(step.programs) or uses_keys(step)


def _hidden(job: Job, environment: Mapping[str, str]) -> list[Path]:
    """Return what a step may not read: the keys, the builder's too, and files of passphrases."""
    if _needs_all(job.step):
        return []
    files = [environment.get(name, "") for name in _SECRET_FILES]
    files += [
        pair.partition("=")[2]
        for pair in environment.get("FORGE_KEY_PASSPHRASE_FILES", "").split(os.pathsep)
    ]
    # A key may be `file:PATH`; the URI of a KMS is left out below.
    paths = [Path(one.removeprefix("file:")).expanduser() for one in files if one]
    found = [job.keys, *paths]
    needed = (job.folder, *job.inputs.values(), *job.outputs.values(), Path(sys.prefix))
    return [
        one
        for one in found
        if one.exists() and not any(path.is_relative_to(one.absolute()) for path in needed)
    ]


def _contained(
    job: Job, argv: list[str], hidden: Sequence[Path], environment: Mapping[str, str]
) -> list[str]:
    """Return the command without access to keys, passphrases and this process's environment."""
    if _needs_all(job.step):
        return argv
    if hidden and (home := environment.get("HOME")):
        # A step can make nothing in a folder above a hidden one, and libraries want this one.
        with contextlib.suppress(OSError):
            (Path(home) / ".cache").mkdir(exist_ok=True)
    return hidden_from(argv, hidden, available(environment))


def _temporary(job: Job, hidden: Sequence[Path]) -> Path | None:
    """Make a folder for temporary files if keys lie below the usual one, which is closed then."""
    usual = Path(tempfile.gettempdir())
    if not any(one.absolute().is_relative_to(usual) for one in hidden):
        return None
    folder = job.folder / "tmp"
    folder.mkdir(exist_ok=True)
    return folder


def _about_networks(name: str) -> bool:
    return name.upper().startswith(_PASSED_PREFIXES)


def write_documents(job: Job, folder: Path) -> dict[str, Path]:
    """Write the JSON files of `${settings}`, `${digests}` and `${chain}`; return paths by name."""
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
    """Write a script that runs the command manually; secrets must be set in the environment."""
    lines = ["#!/bin/sh", f"# Runs step {job.step.id} manually, as Forge ran it.", "set -eu"]
    for name, value in child_environment.items():
        if _about_networks(name):
            lines.append(f"# {name} was set, too; it is taken from the environment.")
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
            stdin=subprocess.PIPE,  # the supervisor terminates the command when it is closed
            stdout=log_fd,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        what = f"Step {job.step.id} could not be started"
        raise ForgeError(what, why=str(error), hint=f"see {job.folder}/reproduce.sh") from None
    try:
        with log.open("rb") as reader:
            started = b""  # the command is still writing this line
            while True:
                ended = child.poll() is not None
                *lines, started = (started + reader.read()).split(b"\n")
                _show(job, [*lines, started] if ended and started else lines)
                if ended:
                    return int(child.returncode)
                job.cancelled.wait(_POLL_S)
                raise_if_cancelled(job.cancelled)
    finally:
        _end(child)


def _show(job: Job, lines: Sequence[bytes]) -> None:
    for line in lines:
        show_line(job, line.decode(errors="replace").rstrip("\r"))


def _end(child: subprocess.Popen[bytes]) -> None:
    """Let the supervisor terminate the process group; kill the supervisor if it does not exit."""
    assert child.stdin is not None, "opened as a pipe"  # noqa: S101
    child.stdin.close()
    try:
        child.wait(2 * _GRACE_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
