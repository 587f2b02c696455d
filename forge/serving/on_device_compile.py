"""Compile an engine on the device, for bundles that contain only its source.

    <state>/engines/<key>/         a compiled engine with compiled.json; kept after the bundle
    <state>/engines/.tmp-<key>/    a compilation in progress; removed after a kill
    <state>/slots/<slot>/engine/   the slot's engine: hard links to the same files

The active slot serves during the compilation. The key covers all inputs of the engine, so a bundle
that is installed again reuses it.

The bundle names the compiler and its arguments, so it is contained like the model server, but for
the network: it reads the bundle and its environment, and writes to the folder of its compilation.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from forge import available_memory, canonical
from forge.errors import BundleError, StepFailedError
from forge.files import fsync_directory, write_durably
from forge.serving.triton import containment

if TYPE_CHECKING:
    from forge.serving.repository.spec import CompileOnDevice, Spec

__all__ = ["CompileJob", "Compiler", "available_mib", "command", "engine_key", "holds", "place"]

DATA_FILES: Final = ()  # for a step's key: it imports the supervisor whose file it runs
MARK: Final = "compiled.json"
_KEPT_ENGINES: Final = 3
_POLL_S: Final = 0.1
_TELL_S: Final = 5.0
_GRACE_S: Final = 5.0
_MAX_LINE: Final = 200
_LAST_BYTES: Final = 4096
# Variables of the agent that the compiler inherits: no credentials.
_PASSED: Final = re.compile(r"PATH|HOME|LANG|TMPDIR|LD_LIBRARY_PATH|(CUDA|EDGELLM|TRT|NV)\w*")
_NO_PLACES: Final = ("PATH", "HOME", "LANG", "TMPDIR")  # the others name libraries and plugins
_ENGINE: Final = "engine"
_HOME: Final = "home"
_TEMPORARY: Final = "tmp"
_WRITTEN: Final = (_ENGINE, _HOME, _TEMPORARY)
_MIB: Final = 2**20

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CompileJob:
    """One engine to compile.

    Attributes:
        wanted: the bundle's compile settings.
        source: folder that is compiled.
        runtime: exact versions of the runtimes that the machine provides.
        path: folders in which the compiler is searched, as in PATH.
        read: what the compiler reads beyond the source and its own folder.
        variables: by which the compiler sees the GPU that will serve, and no other.
    """

    wanted: CompileOnDevice
    source: Path
    runtime: Mapping[str, str]
    path: str
    read: tuple[Path, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        tree: Path,
        spec: Spec,
        wanted: CompileOnDevice,
        runtime: Mapping[str, str],
        environment: Path,
        variables: Mapping[str, str],
    ) -> Self:
        """Return the job of a rendered tree; the tools of its environment have precedence."""
        environment = environment.absolute()
        engine = tree.resolve() / spec.repository / spec.model / "1" / "engine"
        path = os.pathsep.join([str(environment / "bin"), os.environ.get("PATH", os.defpath)])
        python = (environment / "bin" / "python3").resolve()
        read = (tree.resolve(), environment, python.parent.parent)
        return cls(wanted, engine / wanted.source, runtime, path, read, variables)


def engine_key(wanted: CompileOnDevice, runtime: Mapping[str, str]) -> str:
    """Return the digest of all inputs of an engine: its source, the command, the runtime."""
    fields = [wanted.digest, wanted.tool, list(wanted.arguments), dict(runtime)]
    return canonical.digest(fields)


def command(wanted: CompileOnDevice, program: str, source: Path, engine: Path) -> list[str]:
    """Return the compiler's argv with both folders filled in."""
    places = {"${source}": str(source), "${engine}": str(engine)}
    return [program, *(places.get(word, word) for word in wanted.arguments)]


def holds(folder: Path, key: str) -> bool:
    """Whether a folder has the engine of this key; not after an upgrade of the machine."""
    try:
        document = json.loads((folder / MARK).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.get("key") == key


def place(compiled: Path, target: Path) -> None:
    """Hard-link a compiled engine to `target`, which is complete or absent at any time."""
    new = target.with_name(f".{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(compiled, new, copy_function=os.link)
    shutil.rmtree(target, ignore_errors=True)
    new.rename(target)
    fsync_directory(target.parent)


class Compiler:
    """The compiled engines of a device.

    Args:
        folder: contains them by key.
        log: file for the compiler's output.
        say: gets a line of progress every few seconds.
        meminfo: /proc/meminfo, for the available memory; see `available_mib`.
    """

    def __init__(
        self, folder: Path, log: Path, say: Say, meminfo: Path = Path("/proc/meminfo")
    ) -> None:
        self._folder = folder.absolute()  # the compiler runs in another folder
        self._log = log
        self._say = say
        self._meminfo = meminfo

    def ensure(self, job: CompileJob, on_poll: Callable[[], float]) -> Path:
        """Return the folder of the compiled engine; compile it if this machine does not have it.

        Args:
            job: what to compile.
            on_poll: called regularly; returns the seconds until the next call.

        Raises:
            BundleError: the compiler failed, timed out or wrote no engine; attributed to the
                bundle.
            StepFailedError: no compiler, too little memory or disk space: a retry may succeed.
        """
        key = engine_key(job.wanted, job.runtime)
        target = self._folder / key
        if holds(target, key):
            os.utime(target)
            self._say(f"engine {key[:12]} is compiled already")
            return target
        program = self._program(job)
        self._check_room(job.wanted)
        work = self._folder / f".tmp-{key}"
        for left in (work, target):
            shutil.rmtree(left, ignore_errors=True)
        try:
            for name in _WRITTEN:
                (work / name).mkdir(parents=True)
            seconds = self._run(job, program, work, on_poll)
            self._finish(job, work / _ENGINE, seconds)
            (work / _ENGINE).rename(target)
            fsync_directory(self._folder)
        except OSError as error:
            raise StepFailedError("The engine could not be stored", why=str(error)) from None
        finally:
            shutil.rmtree(work, ignore_errors=True)
        self._say(f"compiled engine {key[:12]} in {seconds:.0f} s")
        self._prune(target)
        return target

    def _program(self, job: CompileJob) -> str:
        program = shutil.which(job.wanted.tool, path=job.path)
        if program is None:
            message = f"The engine's compiler {job.wanted.tool!r} is not installed on this device"
            raise StepFailedError(message, hint="docs/how-to/add-a-sku.md says how to install it")
        return os.path.abspath(program)  # noqa: PTH100 - a link decides where libraries are

    def _check_room(self, wanted: CompileOnDevice) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._folder).free // _MIB
        if free < wanted.disk_mib:
            message = f"The engine needs {wanted.disk_mib} MiB of disk space, {free} MiB are free"
            raise StepFailedError(message, hint=f"free space in {self._folder}")
        available = available_mib(self._meminfo)
        if available is not None and available < wanted.memory_mib:
            message = (
                f"Compiling needs {wanted.memory_mib} MiB of memory, {available} MiB are available"
            )
            hint = "stop other programs; Forge retries automatically"
            raise StepFailedError(message, hint=hint)

    def _run(
        self, job: CompileJob, program: str, work: Path, on_poll: Callable[[], float]
    ) -> float:
        begin = time.monotonic()
        self._say(f"compiling the engine with {job.wanted.tool}; log: {self._log}")
        argv, environment = self._contained(job, program, work)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with (
            self._log.open("wb") as output,
            _supervised(argv, environment, work / _TEMPORARY, output.fileno()) as child,
        ):
            code = self._watch(child, begin + job.wanted.timeout_s, on_poll)
        seconds = time.monotonic() - begin
        if code == 0:
            return seconds
        why = _tail(self._log)
        if code == containment.FAILED and containment.NOT_PUT_ON in why:
            containment.forget()  # the next attempt does without what this machine does not allow
            raise StepFailedError("The compiler could not be contained", why=why)
        ended = f"timed out after {seconds:.0f} s" if code is None else f"exited with code {code}"
        hint = f"its log: {self._log}; publish a bundle this device can compile"
        raise BundleError(f"{job.wanted.tool} {ended}", why=why, hint=hint)

    def _contained(
        self, job: CompileJob, program: str, work: Path
    ) -> tuple[list[str], dict[str, str]]:
        """Return the contained compiler's command and its variables; say what is missing."""
        allowed = containment.available()
        if not allowed.has("files"):
            why = allowed.missing.get("files", "unknown")
            self._say(f"the compiler is not contained, it can open any file: {why}")
        environment = {name: value for name, value in os.environ.items() if _PASSED.fullmatch(name)}
        places = [
            Path(one)
            for name, value in environment.items()
            if name not in _NO_PLACES
            for one in value.split(os.pathsep)
            if one.startswith("/")
        ]
        environment |= job.variables
        if allowed.has("files"):
            environment |= containment.environment_inside(work / _HOME, work / _TEMPORARY)
        own = (Path(program).parent, Path(program).resolve().parent)  # the second behind a link
        needs = containment.Needs(
            (job.source, *job.read, *own, *places), tuple(work / name for name in _WRITTEN)
        )
        argv = command(job.wanted, program, job.source, work / _ENGINE)
        return containment.contained(argv, needs, allowed), environment

    def _watch(
        self, child: subprocess.Popen[bytes], deadline: float, on_poll: Callable[[], float]
    ) -> int | None:
        """Wait for the compiler; return its exit code, None after a timeout."""
        told = due = time.monotonic()
        line = ""
        with self._log.open("rb") as reader:
            while time.monotonic() < deadline:
                code = child.poll()
                line = _last_line(reader.read()) or line
                now = time.monotonic()
                if line and (now - told >= _TELL_S or code is not None):
                    self._say(f"compiling: {line}")
                    told, line = now, ""
                if code is not None:
                    return code
                if now >= due:
                    due = now + on_poll()
                time.sleep(_POLL_S)
        return None

    def _finish(self, job: CompileJob, engine: Path, seconds: float) -> None:
        wanted = job.wanted
        if missing := [name for name in wanted.produces if not (engine / name).is_file()]:
            message = f"{wanted.tool} succeeded and did not write {', '.join(missing)}"
            raise BundleError(message, why=_tail(self._log), hint=f"its log: {self._log}")
        for path in engine.rglob("*"):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                # The agent would hard-link the file behind a link to where the model can read it.
                name = path.relative_to(engine)
                message = f"{wanted.tool} wrote {str(name)!r}, neither a file nor a folder"
                raise BundleError(message, hint=f"its log: {self._log}")
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        facts: dict[str, canonical.Json] = {
            "key": engine_key(wanted, job.runtime),
            "source": wanted.digest,
            "command": [wanted.tool, *wanted.arguments],
            "runtime": dict(job.runtime),
            "seconds": round(seconds, 1),
        }
        write_durably(engine / MARK, canonical.dumps(facts) + b"\n")

    def _prune(self, newest: Path) -> None:
        """Delete the oldest engines; slots have their own hard links, so they keep theirs."""
        others = [path for path in self._folder.glob("[!.]*") if path != newest]
        others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in others[_KEPT_ENGINES - 1 :]:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _supervised(
    argv: list[str], environment: Mapping[str, str], folder: Path, output: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the compiler under Triton's supervisor, so that it ends with this process."""
    import forge.serving.triton.supervisor

    supervisor = [
        sys.executable,
        "-I",
        forge.serving.triton.supervisor.__file__,
        f"--grace={_GRACE_S}",
    ]
    child = subprocess.Popen(
        [*supervisor, "--", *argv],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        env=environment,
        cwd=folder,
        start_new_session=True,
    )
    try:
        yield child
    finally:
        if child.stdin is not None:
            child.stdin.close()
        try:
            child.wait(2 * _GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, 9)
            child.wait()


def available_mib(meminfo: Path) -> int | None:
    """Return the available memory, in MiB, as `forge.available_memory` counts it; None if unknown.

    Args:
        meminfo: /proc/meminfo; self/cgroup next to it names the control groups.
    """
    return available_memory.available_mib(meminfo.parent)


def _last_line(data: bytes) -> str:
    lines = [line.strip() for line in data.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:_MAX_LINE] if lines else ""


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LAST_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(line[:_MAX_LINE] for line in lines[-5:]) or "it printed nothing"
