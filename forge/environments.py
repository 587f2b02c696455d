"""Tool environments: virtual environments made once from a hash-pinned lock by `uv`.

    ENVIRONMENT = <cache>/<name>-<first 16 of sha256(lock, python, platform)>

An environment is built in a folder of its own and renamed when it is complete, so one that a kill
left half-made is never used; `uv venv --relocatable` makes the rename harmless. A file lock keeps
two processes from making the same one twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from forge import canonical
from forge.errors import ConfigurationError, StepFailedError

__all__ = [
    "Installed",
    "Watch",
    "ensure",
    "environment_path",
    "inspect",
    "libpython_folder",
    "of_image",
]

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_PYTHON = re.compile(r"3\.\d{1,2}")
_MAX_LOCK_BYTES: Final = 8 * 1024 * 1024
_INSTALL_TIMEOUT_S: Final = 3600.0  # 5.5 GB of torch over a slow line
_INSPECT_TIMEOUT_S: Final = 60.0
_LAST_LINES: Final = 12
_POLL_S: Final = 0.1
_MAX_PURPOSE: Final = 200


def _to_stderr(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


@dataclass(frozen=True, slots=True)
class Watch:
    """Who watches while an environment is made.

    Attributes:
        say: gets a line for each thing that takes time.
        go_on: called while it waits; may raise to end that, and then nothing is left of it.
    """

    say: Callable[[str], None] = _to_stderr
    go_on: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Installed:
    """What Triton's Python backend must know of an environment.

    Attributes:
        root: the environment's folder.
        python: version of its interpreter, `3.11`.
        site_packages: where its packages lie.
        library_folder: folder of `libpython3.11.so.1.0`.
        triton: folder of a Triton that was there already, in a serving image; None: the packages
            hold one.
    """

    root: Path
    python: str
    site_packages: Path
    library_folder: Path
    triton: Path | None = None


def environment_path(name: str, lock: Path, *, python: str, cache: Path) -> Path:
    """Where `ensure` puts the environment of this lock. Raises ConfigurationError."""
    if not _NAME.fullmatch(name) or not _PYTHON.fullmatch(python):
        message = f"Environment {name!r} on Python {python!r} cannot be made"
        hint = "a name is a-z, 0-9 and '-'; a Python version looks like 3.11"
        raise ConfigurationError(message, hint=hint)
    try:
        if lock.stat().st_size > _MAX_LOCK_BYTES:
            raise ConfigurationError(f"{lock} is larger than {_MAX_LOCK_BYTES} bytes")
        content = lock.read_bytes()
    except OSError as error:
        message = f"The lock of environment {name!r} cannot be read"
        hint = f"each environment has its dockerfiles/{name}/requirements.lock"
        raise ConfigurationError(message, why=str(error), hint=hint) from None
    fields = [canonical.sha256(content), python, platform.machine(), sys.platform]
    return cache / f"{name}-{canonical.digest(fields)[:16]}"


def ensure(
    name: str,
    lock: Path,
    *,
    python: str,
    cache: Path,
    offline: bool = False,
    watch: Watch | None = None,
) -> Path:
    """The virtual environment of `lock`, made now if this machine has none yet.

    Args:
        name: the environment's name, a folder of `dockerfiles/`.
        lock: requirements with a version and hashes for every package.
        python: version of the interpreter, `3.11`.
        cache: folder that holds all environments.
        offline: use only what uv has in its own cache.
        watch: who is told and may end it; standard error, and nobody.

    Raises:
        ConfigurationError: no such lock, a package without a hash or with another one, no such
            Python version.
        StepFailedError: uv is missing or failed for another reason (network, disk).
    """
    target = environment_path(name, lock, python=python, cache=cache)
    if _complete(target):
        return target
    watch = watch or Watch()
    with _only_one(target, watch):
        if not _complete(target):
            _make(name, lock, python, target, offline=offline, watch=watch)
    return target


def inspect(root: Path) -> Installed:
    """Read the facts of an environment from its own interpreter.

    Raises:
        ConfigurationError: no environment there, or its libpython is not installed.
    """
    return _inspect(root, root / "bin" / "python", None)


def of_image(triton: Path) -> Installed:
    """The Triton of a serving image, whose Python backend uses the image's own Python.

    Forge itself runs from a virtual environment that was made with that Python.

    Raises:
        ConfigurationError: the image has no Triton there, or no libpython.
    """
    if not (triton / "bin" / "tritonserver").is_file():
        message = f"This image has no Triton in {triton}"
        raise ConfigurationError(message, hint="build it on a base of Triton: forge run images")
    root = Path(sys.base_prefix)
    return _inspect(root, root / "bin" / "python3", triton)


def _inspect(root: Path, interpreter: Path, triton: Path | None) -> Installed:
    python, site_packages, _, _ = _facts(interpreter)
    library_folder = libpython_folder(interpreter)
    return Installed(root, python, Path(site_packages), library_folder, triton)


def libpython_folder(interpreter: Path) -> Path:
    """Folder of the shared library of an interpreter, which Triton's Python backend loads.

    Raises ConfigurationError that names the package to install.
    """
    python, _, folders, library = _facts(interpreter)
    for folder in map(Path, folders):
        if ".so" in library and (folder / library).is_file():
            return folder
    message = f"Python {python} at {interpreter} has no shared library"
    why = f"{library} is in none of {', '.join(folders)}; Triton's Python backend loads it"
    raise ConfigurationError(message, why=why, hint=f"apt-get install libpython{python}")


def _facts(interpreter: Path) -> tuple[str, str, list[str], str]:
    """Version, site-packages, folders its library may be in, and the library's name."""
    program = (
        "import json, sysconfig as s;"
        "v = s.get_config_var;"
        "print(json.dumps([s.get_python_version(), s.get_path('purelib'),"
        " [f\"{v('LIBDIR')}/{v('MULTIARCH')}\", v('LIBDIR')], v('INSTSONAME')]))"
    )
    try:
        done = subprocess.run(
            [interpreter, "-I", "-c", program],
            capture_output=True,
            check=True,
            timeout=_INSPECT_TIMEOUT_S,
        )
        python, site_packages, folders, library = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        message = f"{interpreter} is no working Python"
        hint = f"remove the environment, it is made again: rm -r {interpreter.parent.parent}"
        raise ConfigurationError(message, why=str(error), hint=hint) from None
    return python, site_packages, folders, library


def _complete(target: Path) -> bool:
    # The interpreter is a link to the machine's Python, which an upgrade may have taken away.
    return (target / "environment.json").is_file() and (target / "bin" / "python").exists()


@contextlib.contextmanager
def _only_one(target: Path, watch: Watch) -> Iterator[None]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = (target.parent / f".{target.name}.lock").open("w")
    except OSError as error:
        message = f"The cache of environments {target.parent} cannot be written"
        raise StepFailedError(message, why=str(error), hint="make it writable") from None
    with lock:
        told = False
        while not _try_lock(lock):
            if not told:
                watch.say(f"waiting for another process that makes {target.name}")
                told = True
            watch.go_on()
            time.sleep(_POLL_S)
        yield


def _try_lock(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _make(name: str, lock: Path, python: str, target: Path, *, offline: bool, watch: Watch) -> None:
    for left in target.parent.glob(f".{target.name}.tmp-*"):  # of a killed process
        shutil.rmtree(left)
    for broken in [target] if target.exists() else []:
        shutil.rmtree(broken)
    watch.say(
        f"installing environment {name} (Python {python}) from {lock.parent.name}/{lock.name}"
    )
    if purpose := _purpose(lock):
        watch.say(purpose)
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.tmp-", dir=target.parent))
    try:
        uv = functools.partial(_uv, name=name, offline=offline, watch=watch)
        uv("venv", "--relocatable", "--python", _interpreter(python), folder / "v")
        uv(
            *("pip", "sync", "--require-hashes", "--compile-bytecode", "--only-binary", ":all:"),
            *("--python", folder / "v" / "bin" / "python", lock),
        )
        facts = {"name": name, "python": python, "lock_sha256": canonical.sha256(lock.read_bytes())}
        (folder / "v" / "environment.json").write_bytes(canonical.dumps(facts))
        os.sync()  # or a power cut may leave the name and not the files
        (folder / "v").rename(target)
    finally:
        shutil.rmtree(folder)
    watch.say(f"environment {name} is there after {time.monotonic() - started:.0f} s")


def _purpose(lock: Path) -> str:
    """What the environment is for: the first line of the file its lock is made from."""
    try:
        with (lock.with_suffix(".in")).open(encoding="utf-8") as file:
            line = file.readline(_MAX_PURPOSE)
    except OSError:
        return ""
    return line.lstrip("# ").partition(" Change it")[0].rstrip() if line.startswith("#") else ""


def _interpreter(python: str) -> str:
    """Forge's own base interpreter where it is of that version, else let uv look for one."""
    if python == f"{sys.version_info.major}.{sys.version_info.minor}":
        return str(getattr(sys, "_base_executable", sys.executable))
    return python


def _uv(*arguments: str | Path, name: str, offline: bool, watch: Watch) -> None:
    argv: list[str | Path] = [_find_uv(), *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    environment |= {"UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"}
    if offline:
        environment["UV_OFFLINE"] = "1"
    watch.say("+ " + " ".join(map(str, ["uv", *arguments])))
    with tempfile.TemporaryFile() as output:
        try:
            code = _wait(argv, output, environment, watch)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StepFailedError(f"uv did not make {name!r}", why=str(error)) from None
        output.seek(0)
        text = output.read().decode(errors="replace")
    if code:
        raise _explain(name, text)


def _wait(
    argv: list[str | Path], output: IO[bytes], environment: Mapping[str, str], watch: Watch
) -> int:
    """Run a command to its end, or until `watch` ends it; returns its exit code."""
    deadline = time.monotonic() + _INSTALL_TIMEOUT_S
    child = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
    )
    try:
        while time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return child.wait(_POLL_S)
            watch.go_on()
        raise subprocess.TimeoutExpired(argv, _INSTALL_TIMEOUT_S)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def _find_uv() -> str:
    try:
        import uv

        return uv.find_uv_bin()
    except (ImportError, FileNotFoundError) as error:
        hint = f"install Forge with its dependencies: {sys.executable} -m pip install uv"
        raise StepFailedError("uv is not installed", why=str(error), hint=hint) from None


def _explain(name: str, output: str) -> ConfigurationError | StepFailedError:
    why = "\n".join([line for line in output.splitlines() if line.strip()][-_LAST_LINES:])
    lowered = output.lower()
    what = f"Environment {name!r} could not be made"
    if "hash mismatch" in lowered or "hashes" in lowered or "--require-hashes" in lowered:
        what = f"A package of environment {name!r} does not have the hash its lock names"
        hint = "do not install it by hand; make the lock anew with: make locks"
        return ConfigurationError(what, why=why, hint=hint)
    if "no interpreter found" in lowered or "version request" in lowered:
        hint = "install that Python version, or name another for this environment"
        return ConfigurationError(what, why=why, hint=hint)
    if "no solution found" in lowered or "no matching distribution" in lowered:
        hint = "the lock asks for a package that this platform or index has not: make locks"
        return ConfigurationError(what, why=why, hint=hint)
    hint = "is the package index in reach, and is there space on the disk? then run again"
    return StepFailedError(what, why=why, hint=hint)
