"""A bundle is code: what a hostile one tries, and what each mechanism refuses it.

A mechanism that this machine does not have is skipped with the reason that the device reports.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forge.serving.repository.spec import read_spec
from forge.serving.triton import containment, supervisor
from forge.serving.triton.client import answer
from forge.serving.triton.connector import NamespaceConnector
from forge.serving.triton.containment import OFF, Containment, Needs
from forge.serving.triton.request import GenerateRequest
from forge.serving.triton.server import TritonServer
from tests.support import attacker
from tests.support.serving import READY_S, tree, triton

ALLOWED = ("read-slot", "write-scratch", "write-shared-memory", "read-cpuinfo", "read-own-status",
           "write-null")  # fmt: skip
REFUSED = {
    "files": ("write-state", "make-in-state", "remove-state", "rename-state", "link-key",
              "read-device-env", "read-key", "read-home", "write-home", "write-slot",
              "read-environ", "read-memory"),
    "signals": ("signal-agent", "signal-all"),
    "network": ("connect-host", "connect-network", "connect-abstract"),
    "processes": ("connect-path", "list-state"),
    "privileges": ("raise-privileges",),
}  # fmt: skip


class Victim:
    """A device's folders, an agent's secrets and a listener, none of them for a bundle's code."""

    def __init__(self, folder: Path, bystander: int) -> None:
        self.folder = folder
        self.state, self.home = folder / "state", folder / "agent-home"
        self.slot, self.work = self.state / "slots" / "a" / "tree", self.state / "logs" / "slot-a"
        for made in (self.slot, self.work / "tmp", self.work / "home", self.home):
            made.mkdir(parents=True)
        for name in ("state.json", "device.json", "device.env", "key.pem"):
            (self.state / name).write_text("original")
        (self.home / "secret").write_text("original")
        (self.slot / "model.py").write_text("original")
        self.name = f"forge-test-{os.urandom(6).hex()}"
        self.told: dict[str, Any] = {
            "state": str(self.state), "home": str(self.home), "slot": str(self.slot),
            "device_env": str(self.state / "device.env"), "key": str(self.state / "key.pem"),
            "agent": os.getpid(), "bystander": bystander, "abstract": f"{self.name}-agent",
            "path_socket": str(folder / "s"),
        }  # fmt: skip

    def attacked(self, allowed: Containment, *, network: bool = True) -> dict[str, str]:
        """Let the attacker run as a model server runs; return what came of each attempt."""
        program = [sys.executable, "-I", attacker.__file__, json.dumps(self.told)]
        needs = Needs(
            (
                self.slot,
                self.work,
                Path(sys.base_prefix),
                Path(sys.prefix),
                Path(attacker.__file__),
            ),
            (self.work / "tmp", self.work / "home"),
            listen=self.name if network and allowed.has("network") else "",
        )
        argv = containment.contained(program, needs, allowed)
        wrapped = [sys.executable, "-I", supervisor.__file__, "--", *argv]
        done = subprocess.run(
            wrapped,
            cwd=self.work,
            stdin=self._open_input(),
            start_new_session=True,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        lines = [one for one in done.stdout.splitlines() if one.startswith("OUTCOMES ")]
        assert lines, f"exit code {done.returncode}: {done.stderr}"
        found: dict[str, str] = json.loads(lines[0].removeprefix("OUTCOMES "))
        return found

    def _open_input(self) -> int:
        """An input that stays open: the supervisor ends when it closes."""
        reading, self._writing = os.pipe()
        return reading


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Victim]:
    bystander = subprocess.Popen(["sleep", "300"])
    made = Victim(tmp_path, bystander.pid)
    with contextlib.ExitStack() as stack:
        stack.callback(bystander.wait)
        stack.callback(bystander.kill)
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        made.told["port"] = listening.getsockname()[1]
        for address in (f"\0{made.told['abstract']}", made.told["path_socket"]):
            unix = stack.enter_context(socket.socket(socket.AF_UNIX))
            unix.bind(address)
            unix.listen()
        yield made


def require(mechanism: str) -> Containment:
    found = containment.available()
    if not found.has(mechanism):
        pytest.skip(f"{mechanism}: {found.missing[mechanism]}")
    return found


@pytest.mark.parametrize("mechanism", REFUSED)
def test_each_attempt_is_refused_by_its_mechanism(victim: Victim, mechanism: str) -> None:
    found = victim.attacked(require(mechanism))
    assert {one: found[one] for one in REFUSED[mechanism] if found[one] == "done"} == {}
    assert {one: found[one] for one in ALLOWED if found[one] != "done"} == {}
    for name in ("state.json", "device.json"):
        assert (victim.state / name).read_text() == "original"
    assert (victim.slot / "model.py").read_text() == "original"


def test_the_same_attempts_succeed_without_containment(victim: Victim) -> None:
    """So that the attempts themselves are known to work."""
    found = victim.attacked(Containment())
    tried = {one for each in REFUSED.values() for one in each} - {"connect-network"}
    # A device that was removed cannot be renamed; privileges and memory depend on the user.
    tried -= {"rename-state", "raise-privileges", "read-memory", "read-environ"}
    assert {one: found[one] for one in tried if found[one] != "done"} == {}


@pytest.mark.parametrize(
    "without",
    [("processes",), ("network", "processes"), ("files",), ("files", "signals", "processes")],
    ids=" ".join,
)
def test_what_is_left_works_without_the_others(victim: Victim, without: tuple[str, ...]) -> None:
    """A container without namespaces, a kernel without Landlock: the program runs all the same."""
    rest = containment.available().without(*without, reason="a test")
    found = victim.attacked(rest)
    assert {one: found[one] for one in ALLOWED if found[one] != "done"} == {}
    if rest.has("files"):
        assert found["write-state"] != "done"
        assert found["read-key"] != "done"
        assert found["read-environ"] != "done"
    if rest.has("network"):
        assert found["connect-host"] != "done"
        assert found["connect-abstract"] != "done"


def supervised(argv: list[str], work: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", supervisor.__file__, "--grace=0.5", "--", *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=work,
        start_new_session=True,
    )


def test_nothing_of_it_survives_the_end_of_its_starter(victim: Victim) -> None:
    """Not even a process that left the session and the process group."""
    allowed = require("processes")
    marker = f"300.{os.getpid()}"
    script = (
        "import os, subprocess, time\n"
        f"subprocess.Popen(['sleep', '{marker}'], start_new_session=True)\n"
        "print('started', flush=True)\ntime.sleep(300)\n"
    )
    needs = Needs((Path(sys.base_prefix), Path(sys.prefix)), (victim.work,), listen=victim.name)
    argv = containment.contained([sys.executable, "-I", "-c", script], needs, allowed)
    with supervised(argv, victim.work) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"started\n"
        until = time.monotonic() + 20
        while not _running(marker) and time.monotonic() < until:  # its command line is there late
            time.sleep(0.05)
        assert _running(marker)
        child.kill()  # the supervisor itself; nobody is left who would tidy up
        child.wait()
        until = time.monotonic() + 20
        while _running(marker) and time.monotonic() < until:
            time.sleep(0.05)
        assert not _running(marker)


def test_the_port_of_a_contained_program_is_for_its_agent_only(victim: Victim) -> None:
    allowed = require("network")
    script = (
        "import socket\n"
        "with socket.create_server(('127.0.0.1', 8000)) as listening:\n"
        "    print('listens', flush=True)\n"
        "    while True:\n"
        "        listening.accept()[0].sendall(b'hello')\n"
    )
    needs = Needs(
        (Path(sys.base_prefix), Path(sys.prefix)), (victim.work,), victim.name, (8000, 8002)
    )
    argv = containment.contained([sys.executable, "-I", "-c", script], needs, allowed)
    with supervised(argv, victim.work) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"listens\n"
        with NamespaceConnector(victim.name, 8000).connect(5) as connected:
            assert connected.recv(5) == b"hello"
        for said in (b"", b"x"):  # callers that go away
            with socket.socket(socket.AF_UNIX) as caller:
                caller.connect(f"\0{victim.name}")
                caller.sendall(said)
        with pytest.raises(ConnectionRefusedError):
            NamespaceConnector(victim.name, 8002).connect(5)  # nothing listens there
        with pytest.raises(PermissionError):
            NamespaceConnector(victim.name, 22).connect(5)  # not one of its ports
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", 8000), 5).close()
        assert _as_another_user(victim.name) in {"nothing", "skipped"}
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(20) == 128 + signal.SIGTERM


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.sample
@pytest.mark.real_triton
def test_the_model_of_a_real_triton_is_contained(tmp_path: Path, victim: Victim) -> None:
    """Its model.py is the attacker, and the model answers all the same."""
    allowed = require("files")
    made = tree(tmp_path / "tree")
    model = made / "models" / "llm" / "1" / "model.py"
    victim.told["slot"] = str(model.parent)
    source = Path(attacker.__file__).read_text()
    hostile = f"""
def _attack():
    scope = {{"__name__": "attacker"}}
    exec({source!r}, scope)
    told = scope["json"].loads({json.dumps(victim.told)!r})
    found = {{name: scope["outcome"](one) for name, one in scope["attempts"](told).items()}}
    with open("tmp/outcomes.json", "w") as file:
        file.write(scope["json"].dumps(found))
_attack()
"""
    model.write_text(model.read_text() + hostile)
    with TritonServer.start(made, read_spec(made), triton(), work=tmp_path / "w") as server:
        server.wait_ready(READY_S)
        found = json.loads((tmp_path / "w" / "tmp" / "outcomes.json").read_text())
        text, _ = answer(server.url, "llm", GenerateRequest("What is the capital of France?", 32))
        assert "Paris" in text
        if allowed.has("network"):
            assert not _listeners(server.pid)
    refused = [one for what in allowed.in_force for one in REFUSED[what]]
    assert {one: found[one] for one in refused if found[one] == "done"} == {}


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.real_triton
@pytest.mark.parametrize("off", ["all", "network", "processes", "files"])
def test_a_real_triton_serves_with_any_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: str
) -> None:
    monkeypatch.setenv(OFF, off)
    made = tree(tmp_path / "tree")
    with TritonServer.start(made, read_spec(made), triton(), work=tmp_path / "w") as server:
        server.wait_ready(READY_S)
        text, _ = answer(server.url, "llm", GenerateRequest("What is the capital of France?", 32))
        assert "Paris" in text
        assert server.version()


def _running(argument: str) -> bool:
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdecimal() else []
            if words[:2] == [b"sleep", argument.encode()]:
                return True
    return False


def _listeners(session: int) -> list[str]:
    """TCP sockets of this machine that a process of the session listens on."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    inodes = {line.split()[9] for line in lines if line.split()[3] == "0A"}
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and os.getsid(int(entry.name)) == session:
                links = [os.readlink(one) for one in (entry / "fd").iterdir()]  # noqa: PTH115
                found += [one for one in links if one[8:-1] in inodes]
    return found


def _as_another_user(name: str) -> str:
    """Ask the sandbox for a connection as another user; return what came."""
    if os.geteuid():
        return "skipped"
    program = (
        "import os, socket, sys\nos.setgid(65534); os.setuid(65534)\n"
        f"s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect('\\0{name}')\n"
        "found = []\n"
        f"try:\n    s.sendall({struct.pack('=H', 8000)!r})\n"
        "    data, found, *_ = socket.recv_fds(s, 1, 1)\n"
        "except ConnectionError:\n    pass\n"
        "print('connected' if found else 'nothing')\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, check=True)
    return done.stdout.decode().strip()
