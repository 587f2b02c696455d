"""A Triton server process: start it, wait until its models are ready, measure it, stop it."""

from __future__ import annotations

import contextlib
import errno
import filecmp
import http.client
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from forge import sealed
from forge.environments import Installed
from forge.errors import (
    ConfigurationError,
    LoadFailedError,
    ModelAbandonedError,
    NoRunnerError,
    PortTakenError,
    StepFailedError,
)
from forge.serving.repository.spec import Spec
from forge.serving.triton import containment
from forge.serving.triton.connector import NamespaceConnector, connector, get
from forge.serving.triton.containment import Containment, Needs
from forge.serving.triton.ports import HOST, Ports, choose_ports, port_taken
from forge.serving.triton.processes import Usage, listens, usage, waits_for_child

__all__ = ["Ports", "TritonServer", "command_line", "last_reasons", "started"]

DATA_FILES: Final = ("supervisor.py",)  # part of a step's key
_LOG: Final = "triton.log"
_MODELS: Final = "models"
_BACKENDS: Final = "backends"
_HOME: Final = "home"
_TEMPORARY: Final = "tmp"
_INSIDE: Final = Ports(8000, 8002)  # in a network namespace, where they are always free
_POLL_S: Final = 0.1
_REQUEST_TIMEOUT_S: Final = 5.0
_GRACE_S: Final = 10.0
_STUB_FAILED_S: Final = 10.0
_PROGRAM: Final = "tritonserver"
_TRIES: Final = 4
_NO_MORE_FILES: Final = (errno.EMFILE, errno.ENFILE)
# Variables that a server inherits: no credentials, no PYTHON… settings.
_KEPT = re.compile(
    "PATH|HOME|TMPDIR|LANG|LC_.*|TZ|LD_LIBRARY_PATH|(CUDA|NVIDIA|OMP|OPENVINO|OV)_.*"
)
_LOG_TAIL_BYTES: Final = 64 * 1024
_REASONS: Final = 6
# Triton's own log: E1124 04:18:00.1 123 file.cc:12] "text", with \n for a new line.
_TRITON_ERROR = re.compile(r'^[EF]\d{4} .*?\] "?(.*?)"?$')
_STUB_MODE: Final = 0o755
_STUB_ERROR = re.compile(r'Failed to (?:pre)?initialize Python stub: (.*?)"?$', re.MULTILINE)
# What ends Triton where the model's process was stopped while it held their common lock.
_LOCK_LOST: Final = "boost::interprocess::lock_exception"
_OTHER_ERROR = re.compile(r"^(?:error|Traceback|\w*Error\b)", re.IGNORECASE)
_FORBIDDEN: Final = "it is tried again; restart the agent if the machine forbids it since its start"
_WITHOUT_GPU = ("CudaDriverHelper has not been initialized", "Failed to initialize NVML")


@dataclass(slots=True)
class _ModelProcess:
    """Detects that the process of a model ended while the models were loaded.

    Triton 2.51 then waits without end. Between two processes of a model, the one that reads its
    configuration and the one that serves, there is none for a moment.

    Attributes:
        wanted: number of processes: Triton and one for each model.
    """

    wanted: int
    _was_there: bool = False
    _gone_since: float | None = None

    def is_gone(self, processes: int | None, now: float) -> bool:
        """Return whether the process was there and has been gone for a while.

        Args:
            processes: of the server with its models; None: unknown now.
            now: monotonic seconds.
        """
        if processes is None:
            return False
        if processes >= self.wanted:
            self._was_there, self._gone_since = True, None
        elif self._was_there and self._gone_since is None:
            self._gone_since = now
        return self._gone_since is not None and now - self._gone_since >= _STUB_FAILED_S


@dataclass(slots=True)
class _ModelWait:
    """Detects that Triton gave up on a model's process and waits for its end.

    While a model loads, Triton 2.51 asks its process each second for a sign of life, which a thread
    of the process gives every 0.3 s. Where that thread gets no processor for a second (a machine
    under load, a suspended container), Triton counts the process as dead and waits for its end
    before it logs anything; but the process lives, loads its model and waits for Triton. A process
    that really failed is waited for, too, but not for long.

    Source: ReceiveMessageFromStub and TerminateStub in stub_launcher.cc of Triton's python_backend,
    r24.10; reproduced by stopping the process for 3 s (tests/faults/test_serving_faults.py).
    """

    _since: float | None = None

    def is_endless(self, now: float, *, waits: bool) -> bool:
        """Return whether Triton has waited for a while.

        Args:
            now: monotonic seconds.
            waits: whether it waits now.
        """
        if not waits:
            self._since = None
        elif self._since is None:
            self._since = now
        return self._since is not None and now - self._since >= _STUB_FAILED_S


class TritonServer:
    """One running Triton. Use `start`, then as a context manager, or call `stop`."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        spec: Spec,
        ports: Ports,
        log: Path,
        host: str = HOST,
    ) -> None:
        self._process = process
        self.spec = spec
        self.ports = ports
        self._host = host
        self.log = log
        self._was_ready = False

    @classmethod
    def start(
        cls,
        tree: Path,
        spec: Spec,
        installed: Installed,
        *,
        work: Path,
        ports: Ports | None = None,
        engine: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """Start Triton on a rendered tree and return at once.

        Args:
            tree: the rendered tree, which is only read.
            spec: its serving.json.
            installed: the environment, or this container's image, that has Triton.
            work: folder for the log (`triton.log`) and links; may be reused.
            ports: TCP ports of this machine to listen on. None: any, in a network namespace where
                one can be had (containment.py).
            engine: the engine compiled on the device, instead of the tree's `engine/`.
            environment: variables that override inherited ones, such as CUDA_VISIBLE_DEVICES.

        Raises:
            NoRunnerError: the spec requires a container, and this process runs in none.
            ConfigurationError: the environment has no Triton for its Python.
            PortTakenError: a port is taken.
            ContainmentUnknownError: what can contain it could not be found out.
            StepFailedError: the process cannot be started.
        """
        if spec.server == "container" and installed.triton is None:
            message = f"Model {spec.model!r} requires a container image; Forge runs outside one"
            raise NoRunnerError(message, hint=f"run Forge in {spec.image}, or an image based on it")
        work = work.resolve()
        work.mkdir(parents=True, exist_ok=True)
        _restore_modes(work)
        allowed, name = containment.available(), f"forge-{secrets.token_hex(12)}"
        inside = ports is None and allowed.has("network")
        chosen = _INSIDE if inside else choose_ports(ports or Ports())
        _link_backends(installed, work / _BACKENDS)
        repository = _link_repository((tree / spec.repository).resolve(), work / _MODELS)
        if engine is not None:
            link = repository / spec.model / "1" / "engine"
            link.unlink()
            link.symlink_to(engine.resolve())
        prefix = f"forge-{secrets.token_hex(6)}"
        variables = _environment(installed, {**os.environ, **(environment or {})})
        variables |= _own_folders(work, allowed)
        needs = Needs(
            (tree.resolve(), work, *containment.readable(installed, variables["LD_LIBRARY_PATH"])),
            tuple(work / one for one in (_MODELS, _HOME, _TEMPORARY)),
            listen=name if inside else "",
            ports=(chosen.http, chosen.metrics),
        )
        if engine is not None:
            needs = replace(needs, read=(*needs.read, engine.resolve()))
        argv = containment.contained(command_line(installed, chosen, prefix), needs, allowed)
        log = work / _LOG
        supervisor = [sys.executable, "-I", str(Path(__file__).with_name("supervisor.py"))]
        wrapped = [*supervisor, f"--grace={_GRACE_S}", f"--shared-memory={prefix}", "--", *argv]
        try:
            with log.open("a+b") as output:  # so that the supervisor can truncate it
                output.truncate(0)
                process = subprocess.Popen(
                    wrapped,
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=variables,
                    cwd=work,
                    start_new_session=True,
                )
        except OSError as error:
            raise StepFailedError("Triton could not be started", why=str(error)) from None
        return cls(process, spec, chosen, log, NamespaceConnector.host(name) if inside else HOST)

    @property
    def url(self) -> str:
        """Return the base URL of Triton's HTTP API."""
        return f"http://{self._host}:{self.ports.http}"

    @property
    def metrics_url(self) -> str:
        """Return the URL of Triton's own metrics."""
        return f"http://{self._host}:{self.ports.metrics}/metrics"

    @property
    def pid(self) -> int:
        """Return the id of the supervisor, which leads the server's session and process group."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the server runs and, once it was ready, the process of each model too.

        Triton 2.51 reports a model as ready whose process was killed (by the OOM killer, say), and
        does not restart it.
        """
        if self._process.poll() is not None:
            return False
        try:
            return not self._was_ready or self.usage().processes >= self._wanted
        except OSError:  # unknown: a lack of file descriptors must not stop a working server
            return True

    def is_ready(self) -> bool:
        """Whether the ready URL of each model answers 200 and its process lives.

        Triton opens its metrics port last and exits if that is in use, so that must be open too.

        Raises:
            OSError: this process cannot open more files; the state is unknown.
        """
        urls = (f"{self.url}/v2/models/{model}/ready" for model in self.spec.models)
        ready = all(_get(url) == http.client.OK for url in urls)
        ready = ready and (self._was_ready or self._has_metrics())
        self._was_ready |= ready
        return ready and self.alive

    def _has_metrics(self) -> bool:
        if self._host == HOST:
            return listens(self.pid, self.ports.metrics)
        with contextlib.suppress(ConnectionError, TimeoutError):  # no other can listen there
            connector(self._host, self.ports.metrics).connect(_REQUEST_TIMEOUT_S).close()
            return True
        return False

    def wait_ready(self, timeout_s: float, on_poll: Callable[[], None] = lambda: None) -> float:
        """Wait until the models are ready; return the seconds waited.

        Args:
            timeout_s: until they must be ready.
            on_poll: called regularly while waiting.

        Raises:
            PortTakenError: another process took a port before Triton did.
            LoadFailedError: Triton exited or was not ready in time; its log has the reason.
            ModelAbandonedError: Triton waits for the end of a process that loads its model.
            StepFailedError: the state is unknown, because this process cannot open more files.
        """
        begin = time.monotonic()
        end, stub_failed, unseen = begin + timeout_s, False, None
        model, wait = _ModelProcess(self._wanted), _ModelWait()
        while time.monotonic() < end:
            if not self.alive:
                raise self._ended()
            if model.is_gone(self._processes(), time.monotonic()):
                message = f"The process of {self._subject} ended while it loaded"
                hint = f"its log: {self.log}; a process that was killed may have lacked memory"
                raise LoadFailedError(message, why=self.reasons(), hint=hint)
            try:
                if self.is_ready():
                    return time.monotonic() - begin
                unseen = None
            except OSError as error:  # files may be closed again before the timeout
                unseen = error
            if not stub_failed and wait.is_endless(time.monotonic(), waits=self._waits()):
                raise self._abandoned("it is waited for without end")
            if not stub_failed and _STUB_ERROR.search(_tail(self.log)):
                # Triton 2.51 sometimes waits without end for a stub that logged this and exited.
                stub_failed, end = True, min(end, time.monotonic() + _STUB_FAILED_S)
            on_poll()
            time.sleep(_POLL_S)
        if unseen is not None:
            message = f"Cannot determine whether {self._subject} is ready"
            hint = "raise the limit of open files: LimitNOFILE= of the unit, or ulimit -n"
            raise StepFailedError(message, why=str(unseen), hint=hint)
        subject = self._subject[0].upper() + self._subject[1:]
        message = f"{subject} was not ready after {time.monotonic() - begin:.0f} s"
        hint = f"its log: {self.log}; or raise serving.start_timeout_s"
        raise LoadFailedError(message, why=self.reasons(), hint=hint)

    @property
    def _wanted(self) -> int:
        """Return the number of processes: Triton and one for each model."""
        return 1 + len(self.spec.models)

    @property
    def _subject(self) -> str:
        return f"model {' or '.join(map(repr, self.spec.models))}"

    def _processes(self) -> int | None:
        """Return how many processes the server has; None: unknown."""
        try:
            return self.usage().processes
        except OSError:
            return None

    def _waits(self) -> bool:
        """Return whether Triton waits for the end of a child; False: also if that is unknown."""
        try:
            return waits_for_child(self.pid, _PROGRAM)
        except OSError:
            return False

    def _abandoned(self, outcome: str) -> ModelAbandonedError:
        message = f"Triton gave up on the process of model {self.spec.model!r}, which loads"
        why = f"it gave no sign of life for a second; {outcome}"
        hint = "the machine is overloaded or was suspended: try again with less load"
        return ModelAbandonedError(message, why=why, hint=hint)

    def _ended(self) -> StepFailedError:
        hint = f"its log: {self.log}"
        if taken := port_taken(_tail(self.log)):
            ports = f"{self.ports.http} and {self.ports.metrics}"
            message = f"One of Triton's ports {ports} was taken before Triton could listen"
            return PortTakenError(message, why=taken, hint=hint)
        if self._process.returncode == containment.FAILED:
            containment.forget()
            message = "Triton's sandbox could not be put on"
            return StepFailedError(message, why=self.reasons(), hint=_FORBIDDEN)
        if _LOCK_LOST in _tail(self.log):
            return self._abandoned("Triton ended without the lock that they share")
        message = f"Triton exited with code {self._process.returncode} before it was ready"
        return LoadFailedError(message, why=self.reasons(), hint=hint)

    def reasons(self) -> str:
        """Return the relevant last lines of the log."""
        return last_reasons(_tail(self.log))

    def usage(self) -> Usage:
        """Return CPU time and memory of Triton and its model processes so far."""
        return usage(self.pid)

    def version(self) -> str:
        """Return the version that Triton reports. Raises StepFailedError."""
        return _version(self.url)

    def stop(self) -> None:
        """Stop the server and all of its processes; do nothing if it has exited."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(_GRACE_S + 10)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, 9)
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def started(
    start: Callable[[], TritonServer],
    timeout_s: float,
    on_poll: Callable[[], None] = lambda: None,
) -> tuple[TritonServer, float]:
    """Return a server whose model is ready, and the seconds it took; a failed one is stopped.

    Retried where it is not the model's failure: another process may take a port after it was chosen
    and before Triton binds it, and Triton may give up on a model that still loads.

    Args:
        start: starts it, on ports that are free by then.
        timeout_s: until the model must be ready, for each attempt.
        on_poll: called regularly while waiting.

    Raises:
        As `TritonServer.start` and `TritonServer.wait_ready`.
    """
    for last in (*(False,) * (_TRIES - 1), True):
        server = start()
        try:
            return server, server.wait_ready(timeout_s, on_poll)
        except (PortTakenError, ModelAbandonedError):
            server.stop()
            if last:
                raise
        except BaseException:
            server.stop()
            raise
    raise AssertionError


def command_line(installed: Installed, ports: Ports, prefix: str) -> list[str]:
    """Return Triton's argv: loopback only, one model, no management calls.

    Its folders are relative to the working folder: Triton 2.51 starts the stub of the Python
    backend with a line for a shell, in which a path with a space is two words.
    """
    restricted = "model-repository,shared-memory,trace,logging"
    return [
        str(_triton(installed) / "bin" / "tritonserver"),
        f"--model-repository={_MODELS}",
        f"--backend-directory={_BACKENDS}",
        f"--backend-config=python,shm-region-prefix-name={prefix}",
        "--model-control-mode=none",
        "--exit-on-error=true",
        "--strict-readiness=true",
        "--disable-auto-complete-config",
        "--exit-timeout-secs=5",
        f"--http-address={HOST}",
        f"--http-port={ports.http}",
        # A random value that is not stored, so no client can make these calls.
        f"--http-restricted-api={restricted}:forge={secrets.token_hex(16)}",
        "--allow-grpc=false",
        "--allow-metrics=true",
        f"--metrics-address={HOST}",
        f"--metrics-port={ports.metrics}",
    ]


def last_reasons(log: str) -> str:
    """Return a log's reasons why a model did not load, else its errors, else its last lines."""
    lines = [line.rstrip() for line in log.splitlines() if line.strip(" |+-")]
    errors = [text for line in lines if (text := _error_text(line))]
    models = [text for text in errors if text.startswith("failed to load '")]
    chosen = list(dict.fromkeys(models or errors or lines))[-_REASONS:]
    return "\n".join(chosen) or "it logged nothing"


def _error_text(line: str) -> str:
    if any(usual in line for usual in _WITHOUT_GPU):
        return ""
    if match := _TRITON_ERROR.match(line) or _STUB_ERROR.search(line):
        parts = match.group(1).replace("\\n", "\n").splitlines()
        return "\n".join(part for part in parts if part.strip())
    return line if _OTHER_ERROR.match(line.strip()) else ""


def _environment(installed: Installed, inherited: Mapping[str, str]) -> dict[str, str]:
    packages = installed.site_packages
    libraries = [str(installed.library_folder)]
    if installed.triton is None:
        libraries.append(str(packages / "nvidia_pytriton.libs"))
    kept = {name: value for name, value in inherited.items() if _KEPT.fullmatch(name)}
    if earlier := kept.get("LD_LIBRARY_PATH"):
        libraries.append(earlier)
    return kept | {
        # Triton's Python finds its packages by the `python3` here: those of a virtual environment
        # that the user activated must not be mixed in.
        "PATH": os.pathsep.join([str(installed.root / "bin"), kept.get("PATH", os.defpath)]),
        "LD_LIBRARY_PATH": ":".join(libraries),
        "FORGE_SITE_PACKAGES": str(packages),
    }


def _triton(installed: Installed) -> Path:
    return installed.triton or installed.site_packages / "pytriton" / "tritonserver"


def _restore_modes(work: Path) -> None:
    """Let this user in again: Landlock keeps no program from changing modes of its user's files."""
    for path in (work, work / _LOG, work / _BACKENDS, work / _BACKENDS / "python"):
        if path.is_symlink():
            path.unlink()
        elif path.exists():
            sealed.own(path)


def _link_backends(installed: Installed, folder: Path) -> Path:
    """Return a backend folder with the python backend and the stub of this Python version."""
    backend = _triton(installed) / "backends" / "python"
    name = "triton_python_backend_stub"
    stubs = _triton(installed) / "python_backend_stubs" / installed.python
    stub = backend / name if installed.triton else stubs / name
    if not stub.is_file():
        message = f"The environment has no Triton backend for Python {installed.python}"
        hint = "its lock must contain nvidia-pytriton, which supports Python 3.8 to 3.13"
        raise ConfigurationError(message, why=f"there is no {stub}", hint=hint)
    target = folder / "python"
    target.mkdir(parents=True, exist_ok=True)
    _copy_stub(stub, target / name)
    for path in (one for one in backend.iterdir() if one.name != name):
        link = target / path.name
        if not path.is_file() or (link.is_symlink() and link.readlink() == path):
            continue  # keep a correct link: on a full disk it could not be recreated
        link.unlink(missing_ok=True)
        link.symlink_to(path)
    return folder


def _copy_stub(stub: Path, target: Path) -> None:
    """Place a copy of the stub that Triton may change.

    Triton runs the stub once without arguments and, if that does not end with status 1 (it was
    killed, or a library is missing), sets its mode to 0100. A link would let it do that to the
    environment's file, or fail to where the file is another user's.
    """
    if target.is_file() and not target.is_symlink():
        target.chmod(_STUB_MODE)  # also readable again
        if filecmp.cmp(stub, target, shallow=False):
            return  # keep a correct copy: on a full disk it could not be recreated
    target.unlink(missing_ok=True)
    new = target.with_suffix(".new")
    shutil.copyfile(stub, new)
    new.chmod(_STUB_MODE)
    new.replace(target)
    if not os.access(target, os.X_OK):  # the file system is mounted noexec
        target.unlink()
        target.symlink_to(stub)


def _link_repository(source: Path, folder: Path) -> Path:
    """Return a model repository of links to the files of the tree.

    Triton's stub ignores PYTHONDONTWRITEBYTECODE, so Python writes a __pycache__ next to model.py:
    here, and not into a tree that is verified by digest.
    """
    _clear(folder)
    for path in sorted(source.glob("*/*")):
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_dir():
            target.symlink_to(path)
            continue
        target.mkdir()
        for item in path.iterdir():
            (target / item.name).symlink_to(item)
    return folder


def _own_folders(work: Path, allowed: Containment) -> dict[str, str]:
    """Make the folders that the model may write; return the variables that name them.

    They are empty at each start: nothing of one bundle's code reaches the next one.
    """
    for name in (_HOME, _TEMPORARY):
        _clear(work / name)
        (work / name).mkdir(mode=0o700)
    if not allowed.has("files"):
        return {}
    return containment.environment_inside(work / _HOME, work / _TEMPORARY)


def _clear(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        sealed.remove(folder)  # also what its owner made read-only


def _get(url: str) -> int | None:
    """Return the status of a GET; None without a response. Raises OSError if out of files."""
    try:
        with get(url, _REQUEST_TIMEOUT_S) as response:
            return response.status
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.errno in _NO_MORE_FILES:
            raise
        return None


def _version(url: str) -> str:
    import json

    try:
        with get(f"{url}/v2", _REQUEST_TIMEOUT_S) as response:
            return str(json.loads(response.read(_LOG_TAIL_BYTES))["version"])
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        raise StepFailedError("Triton did not report its version", why=str(error)) from None


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
