"""Tool environments: virtual environments that `uv` makes from a hash-pinned lock file.

    ENVIRONMENT = <cache>/<name>-<first 16 of sha256(lock, python, platform)>

An environment is built in a temporary folder and renamed when it is complete, so that an incomplete
one is never used; `uv venv --relocatable` allows the rename. A file lock prevents building the same
environment twice.

Its packages are downloaded, or are the wheels in a bundle: then no index and no network is needed.

It shares no file with uv's cache or other environments (uv would make hard links), is read-only for
the programs in it, and is compared with its listing before use: see forge/sealed.py. uv's link mode
for downloads is `copy` and not `clone`, which falls back to hard links on ext4; `copy` shares
blocks if the file system supports it. On ext4 it takes 2 s of processor time for the 350 MB of
triton-openvino.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from forge import canonical, sealed
from forge.errors import BundleError, ConfigurationError, StepFailedError
from forge.files import try_lock
from forge.interpreter import command, facts_of, libpython_folder, variables
from forge.progress import duration_text

__all__ = [
    "Installed",
    "Watch",
    "ensure",
    "environment_path",
    "inspect",
    "of_image",
    "remove",
]

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_PYTHON = re.compile(r"3\.\d{1,2}")
_MAX_LOCK_BYTES: Final = 8 * 1024 * 1024
_INSTALL_TIMEOUT_S: Final = 3600.0  # 5.5 GB of torch over a slow line
_LAST_LINES: Final = 12
_PROGRESS_BYTES: Final = 2048
_POLL_S: Final = 0.1
_MAX_PURPOSE: Final = 200
# Variables that uv gets: no keys, passphrases or credentials of stores, which it does not need.
_PASSED: Final = re.compile(
    r"PATH|HOME|USER|LOGNAME|TMPDIR|TMP|TEMP|LANG|LC_\w+|LD_LIBRARY_PATH|SOURCE_DATE_EPOCH|NETRC"
    r"|UV_(?!COMPILE_BYTECODE)\w+|(PIP|XDG)_\w+|SSL_(CERT_FILE|CERT_DIR|CLIENT_CERT)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE"
    r"|(?i:(http|https|all|no)_proxy)"
)
_COMPILES_WITH: Final = ("TMPDIR", "SOURCE_DATE_EPOCH")  # the latter: files checked by their hash
_NO_PYTHON: Final = re.compile("no interpreter found|version request", re.IGNORECASE)


def _to_stderr(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


@dataclass(frozen=True, slots=True)
class Watch:
    """Callbacks while an environment is made.

    Attributes:
        report: called with a line for each slow operation.
        check: called while waiting; may raise to cancel, which leaves no files.
        progress: called while packages are installed with what uv does, and for how long.
        command: called with each command that is run.
    """

    report: Callable[[str], None] = _to_stderr
    check: Callable[[], None] = lambda: None
    progress: Callable[[str], None] = lambda _text: None
    command: Callable[[str], None] = lambda _text: None


@dataclass(frozen=True, slots=True)
class Installed:
    """An installed environment, as Triton's Python backend needs it.

    Attributes:
        root: folder of the environment.
        python: version of its interpreter, `3.11`.
        site_packages: folder of its packages.
        library_folder: folder of `libpython3.11.so.1.0`.
        triton: folder of the serving image's Triton; None: the packages contain Triton.
    """

    root: Path
    python: str
    site_packages: Path
    library_folder: Path
    triton: Path | None = None


def environment_path(name: str, lock: Path, *, python: str, cache: Path) -> Path:
    """Return the folder of the environment of a lock file. Raises ConfigurationError."""
    if not _NAME.fullmatch(name):
        message = f"{name!r} is not a valid environment name"
        raise ConfigurationError(message, hint="use a-z, 0-9 and '-'")
    if not _PYTHON.fullmatch(python):
        message = f"{python!r} is not a valid Python version of environment {name!r}"
        raise ConfigurationError(message, hint="use a version like 3.11")
    try:
        if lock.stat().st_size > _MAX_LOCK_BYTES:
            raise ConfigurationError(f"{lock} is larger than {_MAX_LOCK_BYTES} bytes")
        content = lock.read_bytes()
    except OSError as error:
        message = f"The lock file of environment {name!r} cannot be read"
        hint = f"it is expected at dockerfiles/{name}/requirements.lock"
        raise ConfigurationError(message, why=str(error), hint=hint) from None
    fields = [canonical.sha256(content), python, platform.machine(), sys.platform]
    return cache / f"{name}-{canonical.digest(fields)[:16]}"


def ensure(
    name: str,
    lock: Path,
    *,
    python: str,
    cache: Path,
    wheels: Path | None = None,
    watch: Watch | None = None,
) -> Path:
    """Return the virtual environment of `lock`, after making it if necessary.

    Args:
        name: the environment's name, a folder of `dockerfiles/`.
        lock: requirements with a version and hashes for every package.
        python: version of the interpreter, `3.11`.
        cache: folder that holds all environments.
        wheels: folder with the packages; nothing else is asked then, no index and no cache. None:
            they are downloaded.
        watch: callbacks for progress and cancellation. Default: print to standard error.

    Raises:
        BundleError: a package is not among `wheels`, or has another hash than in the lock.
        ConfigurationError: the lock file is missing, a package has no hash or a different one, or
            the Python version is not installed.
        StepFailedError: uv is missing or failed for another reason (network, disk).
    """
    target = environment_path(name, lock, python=python, cache=cache)
    if not _problem(target):
        with contextlib.suppress(OSError):  # another user's
            os.utime(target)  # when it was last used
        return target
    watch = watch or Watch()
    with _only_one(target, watch):
        _repair_modes(target, watch)
        if why := _problem(target):
            if target.exists():
                watch.report(f"environment {name} is made again: {why}")
            _make(name, lock, python, target, wheels=wheels, watch=watch)
    return target


def remove(root: Path) -> None:
    """Delete an environment, which is read-only. Raises OSError."""
    sealed.remove(root)


def inspect(root: Path) -> Installed:
    """Return the paths of an environment. Nothing in it is run: a bundle's packages may be hostile.

    Raises:
        ConfigurationError: there is no environment, its interpreter is a file of its own, or its
            libpython is not installed.
    """
    link = root / "bin" / "python"
    interpreter = link.resolve()
    if interpreter.is_relative_to(root.resolve()):
        message = f"{link} is not a working Python interpreter"
        why = "it is not a link to a Python of this machine"
        hint = f"remove the environment; Forge makes it again: chmod -R u+w {root} && rm -r {root}"
        raise ConfigurationError(message, why=why, hint=hint)
    facts = facts_of(interpreter, prefix=root)
    library_folder = libpython_folder(interpreter, facts)
    return Installed(root, facts.version, facts.site_packages, library_folder)


def of_image(triton: Path) -> Installed:
    """Return the environment of a serving image, whose Triton uses the image's own Python.

    Forge runs in a virtual environment of that Python.

    Raises:
        ConfigurationError: the image has no Triton there, or no libpython.
    """
    if not (triton / "bin" / "tritonserver").is_file():
        message = f"This image does not have Triton in {triton}"
        raise ConfigurationError(message, hint="build it on a Triton base image: forge run images")
    root = Path(sys.base_prefix)
    interpreter = root / "bin" / "python3"
    facts = facts_of(interpreter)
    library_folder = libpython_folder(interpreter, facts)
    return Installed(root, facts.version, facts.site_packages, library_folder, triton)


def _problem(target: Path) -> str:
    """Return why an environment cannot be used; empty if it can."""
    # The interpreter is a link to the system's Python, which an upgrade may have removed.
    if (target / sealed.LISTING).is_file() and not (target / "bin" / "python").exists():
        return "its Python interpreter was removed"
    return sealed.problem(target)


def _repair_modes(target: Path, watch: Watch) -> None:
    """Restore the modes of the files, which needs no network and changes no bytes."""
    for file in sealed.repair_modes(target):
        watch.report(f"mode of {target.name}/{file} was changed by another program and is restored")


@contextlib.contextmanager
def _only_one(target: Path, watch: Watch) -> Iterator[None]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = (target.parent / f".{target.name}.lock").open("w")
    except OSError as error:
        message = f"The environment cache {target.parent} cannot be written"
        raise StepFailedError(
            message,
            why=str(error),
            hint="make the folder writable, or set FORGE_CACHE to another one",
        ) from None
    with lock:
        reported = False
        while not try_lock(lock):
            if not reported:
                watch.report(f"waiting for another process that makes {target.name}")
                reported = True
            watch.check()
            time.sleep(_POLL_S)
        yield


def _make(
    name: str, lock: Path, python: str, target: Path, *, wheels: Path | None, watch: Watch
) -> None:
    for left in target.parent.glob(f".{target.name}.tmp-*"):  # left by a killed process
        sealed.remove(left)
    watch.report(
        f"installing environment {name} (Python {python}) from {lock.parent.name}/{lock.name}"
    )
    if purpose := _purpose(lock):
        watch.report(purpose)
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.tmp-", dir=target.parent))
    try:
        uv = functools.partial(_uv, name=name, bundled=wheels is not None, watch=watch)
        uv("venv", "--relocatable", "--python", _interpreter(python), folder / "v")
        base = (folder / "v" / "bin" / "python").resolve()  # before a package can replace it
        uv(
            *("pip", "sync", "--require-hashes", "--only-binary", ":all:", "--no-compile-bytecode"),
            *_from(wheels, folder / "cache"),
            *("--python", folder / "v" / "bin" / "python", lock),
        )
        if wheels is not None:
            sealed.remove(folder / "cache")
        _compile_bytecode(base, folder / "v", watch)
        facts = {"name": name, "python": python, "lock_sha256": canonical.sha256(lock.read_bytes())}
        (folder / "v" / "environment.json").write_bytes(canonical.dumps(facts))
        sealed.seal(folder / "v")
        os.sync()  # otherwise a power cut may keep the rename and lose the files
        if target.exists():  # damaged, and kept until the new one is complete
            target.chmod(0o755)  # a folder that moves elsewhere must be writable
            target.rename(folder / "damaged")
        (folder / "v").rename(target)
        sealed.seal_root(target)
    finally:
        sealed.remove(folder)
    watch.report(f"installed environment {name} in {time.monotonic() - started:.0f} s")


def _from(wheels: Path | None, cache: Path) -> tuple[str | Path, ...]:
    """Return uv's options for where packages come from, and how they get into an environment.

    Unpacked wheels are linked out of a cache that nothing else uses and that is deleted afterwards:
    the environment then shares no file, and no byte is written twice.
    """
    if wheels is None:
        return ("--link-mode", "copy")
    folder = wheels.resolve().as_uri()  # uv splits the value at spaces
    local = ("--offline", "--no-index", "--no-config", "--find-links", folder)
    return (*local, "--link-mode", "hardlink", "--cache-dir", cache)


def _purpose(lock: Path) -> str:
    """Return the purpose of an environment: the first line of its requirements.in."""
    try:
        with (lock.with_suffix(".in")).open(encoding="utf-8") as file:
            line = file.readline(_MAX_PURPOSE)
    except OSError:
        return ""
    return line.lstrip("# ").partition(" Change it")[0].rstrip() if line.startswith("#") else ""


def _interpreter(python: str) -> str:
    """Return Forge's own base interpreter if it has that version, else the version for uv."""
    if python == f"{sys.version_info.major}.{sys.version_info.minor}":
        return str(getattr(sys, "_base_executable", sys.executable))
    return python


def _uv(*arguments: str | Path, name: str, bundled: bool, watch: Watch) -> None:
    environment = {key: value for key, value in os.environ.items() if _PASSED.fullmatch(key)}
    environment |= {"UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"}
    watch.command("+ " + " ".join(map(str, ["uv", *arguments])))
    try:
        code, text = _run([_find_uv(), *arguments], environment, watch)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StepFailedError(f"uv could not make environment {name!r}", why=str(error)) from None
    if code:
        raise _explain_bundled(name, text) if bundled else _explain(name, text)


def _compile_bytecode(base: Path, root: Path, watch: Watch) -> None:
    """Compile the packages of an environment, of which nothing is run.

    `uv pip sync --compile-bytecode` would start the environment's own interpreter, which runs the
    `.pth` files of the packages. As for uv, a file that does not compile is left as it is.
    """
    packages = facts_of(base, prefix=root).site_packages
    argv = command(base, "-W", "ignore", "-m", "compileall", "-q", "-f", "-j", "0", packages)
    watch.command("+ " + " ".join(map(str, argv)))
    environment = {key: os.environ[key] for key in _COMPILES_WITH if key in os.environ}
    what = "The packages of an environment could not be compiled"
    hint = "check the free memory and disk space, then run it again"
    try:
        code, text = _run(argv, variables() | environment, watch, "Compiling bytecode")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StepFailedError(what, why=str(error), hint=hint) from None
    if code not in {0, 1}:  # 1: a file did not compile
        why = f"exit code {code}: {_last_lines(text)}"
        raise StepFailedError(what, why=why, hint=hint)


def _run(
    argv: list[str | Path], environment: Mapping[str, str], watch: Watch, first: str = "uv"
) -> tuple[int, str]:
    """Run a command; return its exit code and output. Raises OSError, TimeoutExpired."""
    with tempfile.TemporaryFile() as output:
        code = _wait(argv, output, environment, watch, first)
        output.seek(0)
        return code, output.read().decode(errors="replace")


def _wait(
    argv: list[str | Path],
    output: IO[bytes],
    environment: Mapping[str, str],
    watch: Watch,
    first: str,
) -> int:
    """Run a command and return its exit code, unless `watch` cancels it."""
    watch.check()  # also where each command ends before the first poll
    started = time.monotonic()
    deadline = started + _INSTALL_TIMEOUT_S
    child = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
    )
    try:
        while time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return child.wait(_POLL_S)
            watch.check()
            watch.progress(_progress(output.fileno(), time.monotonic() - started, first))
        raise subprocess.TimeoutExpired(argv, _INSTALL_TIMEOUT_S)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def _progress(output: int, seconds: float, first: str) -> str:
    """Return what uv printed last, such as `Downloading torch (190.9MiB)`, and the time so far."""
    # Not read by the file object: its position is the one at which uv writes.
    size = os.fstat(output).st_size
    tail = os.pread(output, _PROGRESS_BYTES, max(0, size - _PROGRESS_BYTES))
    lines = tail.decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), first)
    return f"installing: {last}, {duration_text(seconds)}"


def _find_uv() -> str:
    try:
        import uv

        return uv.find_uv_bin()
    except (ImportError, FileNotFoundError) as error:
        hint = f"install Forge with its dependencies: {sys.executable} -m pip install uv"
        raise StepFailedError("uv is not installed", why=str(error), hint=hint) from None


def _explain_bundled(name: str, output: str) -> BundleError | ConfigurationError | StepFailedError:
    """Explain why an environment could not be made of the wheels in a bundle."""
    error = _explain(name, output)
    if _NO_PYTHON.search(output):
        return error
    if isinstance(error, StepFailedError):
        hint = "check the free disk space, and the slot's files: forge device verify"
        return StepFailedError(error.what, why=error.why, hint=hint)
    what = f"The bundle does not have the packages of environment {name!r} that its lock names"
    return BundleError(what, why=error.why, hint="publish it again")


def _explain(name: str, output: str) -> ConfigurationError | StepFailedError:
    from forge.steps import lock_command  # a device needs it for this message only

    why = _last_lines(output)
    lowered = output.lower()
    what = f"Environment {name!r} could not be made"
    command = lock_command(Path("dockerfiles") / name)
    if "hash mismatch" in lowered or "hashes" in lowered or "--require-hashes" in lowered:
        what = f"A package of environment {name!r} does not have the hash in its lock file"
        hint = f"do not install it manually; update the lock file: {command}"
        return ConfigurationError(what, why=why, hint=hint)
    if _NO_PYTHON.search(output):
        hint = "install that Python version, or choose another one for this environment"
        return ConfigurationError(what, why=why, hint=hint)
    if "no solution found" in lowered or "no matching distribution" in lowered:
        hint = f"a package in the lock file is not available for this platform or index: {command}"
        return ConfigurationError(what, why=why, hint=hint)
    hint = "check the connection to the package index and the free disk space, then run it again"
    return StepFailedError(what, why=why, hint=hint)


def _last_lines(output: str) -> str:
    return "\n".join([line for line in output.splitlines() if line.strip()][-_LAST_LINES:])
