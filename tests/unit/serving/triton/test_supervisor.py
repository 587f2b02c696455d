"""The supervisor with real processes: whatever happens to its starter, nothing is left."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import forge.serving.triton.supervisor
from tests.support.serving import session_processes
from tests.support.spawn import Spawn

SHARED = Path("/dev/shm")  # noqa: S108 - where Linux keeps shared memory
SCRIPT = forge.serving.triton.supervisor.__file__
# A program with a child that takes no notice of SIGTERM, as a stuck model might.
STUBBORN = """
import signal, subprocess, sys, time
child = '''
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(300)
'''
subprocess.Popen([sys.executable, "-c", child])
if "ignore" in sys.argv: signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(300)
"""


Supervise = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def supervise(spawn: Spawn) -> Supervise:
    def start(*program: str, grace: float = 5, shared: str = "") -> subprocess.Popen[bytes]:
        return spawn(
            [
                *(sys.executable, "-I", SCRIPT, f"--grace={grace}", f"--shared-memory={shared}"),
                *("--", *program),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    return start


def wait_for_output(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"


@pytest.mark.parametrize("mode", ["support", "ignore"])
def test_closing_stdin_ends_program_and_its_children(supervise: Supervise, mode: str) -> None:
    process = supervise(sys.executable, "-c", STUBBORN, mode, grace=1)
    wait_for_output(process)
    process.communicate(timeout=30)
    assert process.returncode == 128 + (signal.SIGTERM if mode == "support" else signal.SIGKILL)
    assert session_processes(process.pid) == []


def test_sigterm_ends_program_and_its_children(supervise: Supervise) -> None:
    process = supervise(sys.executable, "-c", STUBBORN)
    wait_for_output(process)
    process.terminate()
    process.wait(30)
    process.communicate()
    assert session_processes(process.pid) == []


def test_exit_code_is_the_programs_and_its_orphans_are_ended(supervise: Supervise) -> None:
    program = (
        f"import subprocess, sys\n{STUBBORN.split('if', maxsplit=1)[0]}\ntime.sleep(1)\nsys.exit(7)"
    )
    process = supervise(sys.executable, "-c", program)
    wait_for_output(process)
    assert process.wait(30) == 7
    process.communicate()
    assert session_processes(process.pid) == []


# A grandchild that leaves the session and the group, as a daemon does; then its parent ends.
ESCAPES = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
reading, writing = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for _ in range(20):
            if os.fork(): break
        else:
            os.write(writing, b"x")
        if "hold" not in sys.argv: os.close(1)
        time.sleep(300)
    os._exit(0)
os.read(reading, 1)
print("up", flush=True)
if "end" in sys.argv: sys.exit(7)
time.sleep(300)
"""


def marked(token: str) -> list[int]:
    """Processes that have this word in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if token.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize(("when", "code"), [("end", 7), ("stop", 128 + signal.SIGKILL)])
@pytest.mark.parametrize("output", ["hold", "close"])
def test_a_process_that_left_the_session_is_ended_too(
    supervise: Supervise, when: str, code: int, output: str
) -> None:
    """At the end of the program, or on a stop while it runs."""
    token = secrets.token_hex(8)
    process = supervise(sys.executable, "-c", ESCAPES, when, output, token, grace=0.2)
    try:
        wait_for_output(process)
        if when == "end":
            process.wait(30)
        process.communicate(timeout=30)
        assert process.returncode == code
        assert marked(token) == []
    finally:
        for pid in marked(token):
            os.kill(pid, signal.SIGKILL)


def test_other_processes_of_the_same_group_are_left_alone(spawn: Spawn) -> None:
    """As of a shell that starts it in a pipe."""
    starter = f"""
import os, subprocess, sys
other = subprocess.Popen(["sleep", "300"], stdout=subprocess.DEVNULL)
try:
    argv = [sys.executable, "-I", {SCRIPT!r}, "--grace=1", "--", "true"]
    one = subprocess.Popen(argv, stdin=subprocess.PIPE)  # its end would be a stop
    print("lives" if one.wait() == 0 and other.poll() is None else "was killed")
finally:
    other.kill()
"""
    process = spawn([sys.executable, "-c", starter], stdout=subprocess.PIPE, start_new_session=True)
    assert process.communicate(timeout=60)[0] == b"lives\n"


def test_shared_memory_of_that_prefix_is_removed(supervise: Supervise) -> None:
    token = f"forge-test-{secrets.token_hex(8)}"
    ours, other = SHARED / f"{token}-aa-1", SHARED / f"{token}-bb-1"
    ours.write_bytes(b"x")
    other.write_bytes(b"x")
    try:
        supervise(sys.executable, "-c", "pass", shared=f"{token}-aa").communicate(timeout=30)
        assert not ours.exists()
        assert other.exists()
    finally:
        ours.unlink(missing_ok=True)
        other.unlink()


def test_program_ends_when_the_starter_is_killed(spawn: Spawn) -> None:
    starter = f"""
import subprocess, sys
argv = [sys.executable, "-I", {SCRIPT!r}, "--grace=1", "--", sys.executable, "-c", {STUBBORN!r}]
process = subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True)
print(process.pid, flush=True)
process.wait()
"""
    process = spawn([sys.executable, "-c", starter], stdout=subprocess.PIPE)
    assert process.stdout is not None
    session = int(process.stdout.readline())
    wait_for_output(process)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 30
    while session_processes(session) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert session_processes(session) == []


def test_program_ends_when_the_supervisor_itself_is_killed(supervise: Supervise) -> None:
    process = supervise(
        sys.executable, "-c", "import time; print('up', flush=True); time.sleep(300)"
    )
    wait_for_output(process)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 30
    while session_processes(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert session_processes(process.pid) == []


CHATTY = """
import sys
for number in range(20_000):
    print(f"line {number} {'x' * 80}", flush=number % 100 == 0)
print("up", flush=True)
import time
time.sleep(300)
"""


def test_a_log_is_kept_short_and_ends_with_the_last_line(spawn: Spawn, tmp_path: Path) -> None:
    log, limit = tmp_path / "log", 100_000
    argv = [sys.executable, "-I", SCRIPT, f"--log-bytes={limit}", "--"]
    with log.open("a+b") as output:
        process = spawn(
            [*argv, sys.executable, "-c", CHATTY],
            stdin=subprocess.PIPE,
            stdout=output,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            if log.read_bytes().endswith(b"\nup\n") and log.stat().st_size <= limit:
                break
            time.sleep(0.05)
        data = log.read_bytes()
    finally:
        process.communicate(timeout=30)
    assert len(data) <= limit  # of 1.8 MB
    assert b"\0" not in data  # no hole where the first part was
    assert data.endswith(b"\nup\n")
    assert f"line 19999 {'x' * 80}\n".encode() in data


def test_a_file_that_is_not_appended_to_is_left_alone(spawn: Spawn, tmp_path: Path) -> None:
    log = tmp_path / "log"
    argv = [sys.executable, "-I", SCRIPT, "--log-bytes=1000", "--"]
    with log.open("wb") as output:
        process = spawn(
            [
                *argv,
                sys.executable,
                "-c",
                "print('x' * 5000, flush=True); import time; time.sleep(0.5)",
            ],
            stdin=subprocess.PIPE,
            stdout=output,
            start_new_session=True,
        )
        assert process.wait(30) == 0
        process.communicate()
    assert log.read_bytes() == b"x" * 5000 + b"\n"
