"""Run buildah and skopeo; both use the credentials of `podman login` or `docker login`."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from forge.errors import NoRunnerError, StepFailedError

__all__ = ["QUICK_S", "call", "capture"]

QUICK_S: Final = 300.0
_LAST_LINES: Final = 12


def call(argv: Sequence[str], *, timeout_s: float, environment: Mapping[str, str]) -> None:
    """Run a program with its output on standard error.

    Raises NoRunnerError if it is not installed, StepFailedError if it fails or times out.
    """
    _run(argv, timeout_s, environment, captured=False)


def capture(argv: Sequence[str], *, timeout_s: float = QUICK_S) -> bytes:
    """Run a program and return its output. Raises as `call`."""
    return _run(argv, timeout_s, {}, captured=True)


def _run(
    argv: Sequence[str], timeout_s: float, environment: Mapping[str, str], *, captured: bool
) -> bytes:
    sys.stderr.write(f"+ {shlex.join(argv)}\n")
    sys.stderr.flush()
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if captured else sys.stderr,
            stderr=subprocess.PIPE if captured else sys.stderr,
            env={**os.environ, **environment},
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError:
        hint = f"apt-get install {argv[0]}"
        raise NoRunnerError(f"{argv[0]} is not installed", hint=hint) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StepFailedError(f"{argv[0]} {argv[1]} failed", why=str(error)) from None
    if done.returncode:
        last_lines = (
            (done.stderr or b"").decode(errors="replace").strip().splitlines()[-_LAST_LINES:]
        )
        raise StepFailedError(
            f"{argv[0]} {argv[1]} failed with exit code {done.returncode}",
            why="\n".join(last_lines),
        )
    return done.stdout or b""
