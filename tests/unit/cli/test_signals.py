"""A signal ends a command also where Python swallows what its handler raises."""

from __future__ import annotations

import subprocess
import sys

import pytest

# A command in whose destructor the signal comes, and which would then go on for a minute.
PROGRAM = """
import os, signal, sys, time
import forge.cli
class Trap:
    def __del__(self):
        os.kill(os.getpid(), signal.{signal})
def command(*_arguments, **_options):
    Trap()
    print("swallowed", flush=True)
    time.sleep(60)
forge.cli.cli.main = command
sys.exit(forge.cli.main([]))
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_that_was_swallowed_comes_again(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(signal=name)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == "swallowed\n"  # it was not raised where it came
    assert done.returncode == 130
    assert done.stderr == "Interrupted. Run the same command again to resume.\n"


def test_other_mistakes_in_destructors_are_shown_as_python_shows_them() -> None:
    program = PROGRAM.replace("os.kill(os.getpid(), signal.{signal})", "1 / 0")
    program = program.replace("time.sleep(60)", "pass")
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0
    assert "ZeroDivisionError" in done.stderr
