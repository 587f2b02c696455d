import errno
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from forge.errors import PortTakenError, StepFailedError
from forge.serving.triton.ports import Ports, choose_ports
from forge.serving.triton.processes import listener, listens, usage, waits_for_child
from tests.support.spawn import Spawn

BUSY = """
import subprocess, sys, time
block = bytearray(b"x" * (64 * 1024 * 1024))
child = subprocess.Popen([sys.executable, "-c", '''
import time
end = time.process_time() + 0.4  # the kernel counts in ticks, each value rounded down
while time.process_time() < end: pass
print("done", flush=True)
time.sleep(60)
'''])
child.wait()
"""
LEADER = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BUSY!r}])"


def test_usage_counts_children_and_leaves_the_leader_out(spawn: Spawn) -> None:
    argv = [sys.executable, "-c", LEADER]
    leader = spawn(argv, start_new_session=True, stdout=subprocess.PIPE)
    try:
        assert leader.stdout is not None
        assert leader.stdout.readline() == b"done\n"
        found = usage(leader.pid)
        assert found.processes == 2
        assert found.cpu_seconds >= 0.3
        assert found.peak_rss_mib >= 64
    finally:
        os.killpg(leader.pid, 9)
        leader.communicate()
    until = time.monotonic() + 60  # a killed process takes its time to end
    while usage(leader.pid).processes and time.monotonic() < until:
        time.sleep(0.05)
    assert usage(leader.pid).processes == 0


def test_usage_does_not_take_a_process_that_cannot_be_read_for_none(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()  # ended meanwhile
    assert usage(1, tmp_path).processes == 0
    (tmp_path / "7" / "stat").mkdir()  # reading it fails, as it does where no descriptor is left
    with pytest.raises(OSError, match="Is a directory"):
        usage(1, tmp_path)


WAITS = """
import subprocess, sys, threading
code = "import time; print(1, flush=True); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", code])
threading.Thread(target=child.wait, daemon=True).start()
threading.Event().wait()
"""
_NO_SESSION = 1 << 23  # above Linux' highest process id
SLEEPS = "import time; print(1, flush=True); time.sleep(60)"


@pytest.mark.parametrize(("code", "expected"), [(WAITS, True), (SLEEPS, False)])
def test_thread_that_waits_for_a_child_is_found(spawn: Spawn, code: str, *, expected: bool) -> None:
    leader = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {code!r}])"
    process = spawn([sys.executable, "-c", leader], start_new_session=True, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        name = Path(f"/proc/{process.pid}/comm").read_text().strip()
        if (Path(f"/proc/{process.pid}/wchan").read_text()) in {"", "0"}:
            pytest.skip("this kernel does not say what a thread waits for")
        until = time.monotonic() + (60 if expected else 0.5)
        while not (found := waits_for_child(process.pid, name)) and time.monotonic() < until:
            time.sleep(0.05)
        assert found == expected
        assert not waits_for_child(process.pid, "another")
        assert not waits_for_child(_NO_SESSION, name)
    finally:
        os.killpg(process.pid, 9)
        process.communicate()


def test_listens_tells_ones_own_session_from_another() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        assert not listens(os.getsid(0), port)
        listening.listen()
        assert listens(os.getsid(0), port)
        assert not listens(os.getsid(0) + 1, port)


def test_listener_names_the_process() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        assert listener(port) == ""
        listening.listen()
        assert listener(port).endswith(f"(pid {os.getpid()})")


@contextmanager
def no_more_files() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_where_no_file_can_be_opened_nobody_says_that_nothing_listens() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        with no_more_files(), pytest.raises(OSError, match="Too many open files") as caught:
            listens(os.getsid(0), port)
        assert caught.value.errno == errno.EMFILE
        with no_more_files():
            assert listener(port) == ""  # for people: they see the rest of the message


def test_a_port_that_cannot_be_tried_is_not_called_taken() -> None:
    with no_more_files(), pytest.raises(StepFailedError, match="Too many open files") as caught:
        choose_ports(Ports())
    assert not isinstance(caught.value, PortTakenError)
