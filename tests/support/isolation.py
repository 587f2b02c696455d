"""What a test run must not inherit from the machine it is started on.

A background job ignores SIGINT, a service has umask 077 and no HOME, a shell has FORGE_STORE set:
none of it may decide whether a test passes. `prepare` is called before any test is collected, and
what it sets is inherited by every process that a test starts.
"""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hypothesis import HealthCheck, settings

from tests.support import caches

__all__ = ["folders", "logging_restored", "prepare"]

# Settings of the tests themselves, not of Forge.
_KEPT: Final = ("FORGE_DAGGER_", "FORGE_DEMO_REPORT", "FORGE_FAULTS_", "FORGE_STRESS_",
                "FORGE_TEST_")  # fmt: skip
_REMOVED_PREFIXES: Final = ("AWS_", "FORGE_", "GITHUB_", "LC_", "PYTHON", "XDG_")
_REMOVED: Final = (
    "CI", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "FORCE_COLOR", "LANGUAGE", "LINES", "MAKEFLAGS",
    "MAKELEVEL", "MFLAGS", "SOURCE_DATE_EPOCH", "VIRTUAL_ENV",
)  # fmt: skip
_SET: Final = {
    # boto3 must not find this machine's credentials in a test about missing ones.
    "AWS_EC2_METADATA_DISABLED": "true",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "NO_COLOR": "1",
    "TERM": "dumb",
    "TZ": "UTC",
}
_LOCAL: Final = ("127.0.0.1", "localhost")
_UMASK: Final = 0o022
# A process keeps the signals that its parent ignored (a background job: SIGINT; nohup: SIGHUP).
_RESET: Final = (signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD,
                 signal.SIGALRM, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)  # fmt: skip


@contextmanager
def logging_restored() -> Iterator[None]:
    """Undo what a command that ran in this process has set: its levels and its handler."""
    root, ours = logging.getLogger(), logging.getLogger("forge")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(levels[0])
        ours.setLevel(levels[1])
        logging.captureWarnings(capture=False)


def prepare() -> None:
    """Set environment, signals and umask of this process. Doing it twice changes nothing."""
    caches.remember()
    for name in [name for name in os.environ if _is_removed(name)]:
        del os.environ[name]
    for name in ("COLUMNS", "LINES"):
        os.unsetenv(name)  # readline, which pytest loads, sets them behind the back of os.environ
    os.environ |= _SET
    for name in ("no_proxy", "NO_PROXY"):
        before = [host for host in os.environ.get(name, "").split(",") if host]
        os.environ[name] = ",".join(dict.fromkeys([*before, *_LOCAL]))
    time.tzset()
    os.umask(_UMASK)
    _reset_signals()
    _choose_temporary_folder()
    _load_hypothesis_profile()


@contextmanager
def folders(base: Path) -> Iterator[None]:
    """HOME and the temporary folder of one session, in `base`.

    Each worker of pytest-xdist has its own: tests look for left-overs in the temporary folder.
    """
    before = {name: os.environ.get(name) for name in ("HOME", "TMPDIR")}
    for name, folder in (("HOME", base / "home"), ("TMPDIR", base / "tmp")):
        folder.mkdir()
        os.environ[name] = str(folder)
    tempfile.tempdir = None
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        tempfile.tempdir = None


def _is_removed(name: str) -> bool:
    if name.startswith(_KEPT):
        return False
    return name in _REMOVED or name.startswith(_REMOVED_PREFIXES)


def _reset_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        # A handler and not the default: `nohup` still protects the run, and no child inherits it.
        signal.signal(signal.SIGHUP, lambda _number, _frame: None)
    for number in _RESET:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _choose_temporary_folder() -> None:
    """Forget a TMPDIR that cannot be used; `tempfile` takes the next one by itself."""
    folder = os.environ.get("TMPDIR")
    if folder is not None and not (Path(folder).is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        del os.environ["TMPDIR"]


def _load_hypothesis_profile() -> None:
    """Same examples in each run, others each night; no wall-clock deadline.

    A pull request must not fail by an example that its change has nothing to do with, nor a test
    whose code is right on a loaded machine. The nightly run searches.
    """
    slow = [HealthCheck.too_slow]
    settings.register_profile(
        "dev", deadline=None, max_examples=50, derandomize=True, suppress_health_check=slow
    )
    settings.register_profile(
        "nightly", deadline=None, max_examples=1000, suppress_health_check=slow
    )
    settings.load_profile(os.environ.get("FORGE_TEST_HYPOTHESIS", "dev"))
