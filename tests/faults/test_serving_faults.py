"""What goes wrong round Triton and the compiler: a clear message, and nothing left behind."""

import contextlib
import dataclasses
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import forge.serving.triton.server
from forge.errors import ForgeError, LoadFailedError, PortTakenError, StepFailedError
from forge.serving.repository.spec import read_spec
from forge.serving.triton.client import answer, stream
from forge.serving.triton.containment import OFF
from forge.serving.triton.ports import Ports, choose_ports
from forge.serving.triton.request import GenerateRequest, HttpTimeouts
from forge.serving.triton.server import TritonServer, started
from forge.serving.triton.stream import Finished, Token
from tests.support.serving import (
    COMPILER,
    READY_S,
    checkpoint,
    compile_gguf,
    environment,
    running,
    session_processes,
    tree,
    triton,
)
from tests.support.spawn import Spawn

pytestmark = [pytest.mark.slow, pytest.mark.network]


def broken(folder: Path) -> tuple[Path, Path]:
    """A tree of its own and its version folder; links to the engine are cut before a write."""
    made = tree(folder / "tree")
    return made, made / "models" / "llm" / "1"


def fails_to_start(folder: Path, work: Path) -> StepFailedError:
    server = TritonServer.start(folder, read_spec(folder), triton(), work=work)
    with server, pytest.raises(StepFailedError) as caught:
        server.wait_ready(READY_S)
    assert session_processes(server.pid) == []
    assert str(work / "triton.log") in caught.value.hint
    assert caught.value.exit_code == 5
    return caught.value


@pytest.mark.parametrize("use", ["http", "metrics"])
def test_a_taken_port_is_named_with_who_holds_it(tmp_path: Path, use: str) -> None:
    made = tree(tmp_path / "tree")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        ports = Ports(**{use: port})
        with pytest.raises(StepFailedError, match=f"Port {port} for Triton's {use} is in use") as e:
            TritonServer.start(made, read_spec(made), triton(), work=tmp_path / "w", ports=ports)
        assert f"(pid {os.getpid()})" in e.value.why
        assert str(port) in e.value.hint
        assert e.value.exit_code == 5
    with TritonServer.start(
        made, read_spec(made), triton(), work=tmp_path / "w", ports=ports
    ) as server:
        server.wait_ready(READY_S)


def holding(*ports: int) -> contextlib.ExitStack:
    """Somebody listens on these ports for the body."""
    with contextlib.ExitStack() as held:
        for port in ports:
            listening = held.enter_context(socket.socket())
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("127.0.0.1", port))
            listening.listen()
        return held.pop_all()


@pytest.mark.parametrize("use", ["http", "metrics"])
def test_a_port_taken_between_its_choice_and_tritons_bind_is_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: str
) -> None:
    monkeypatch.setenv(OFF, "network")  # in a namespace nobody can take a port
    made = tree(tmp_path / "tree")
    chosen: list[Ports] = []
    with contextlib.ExitStack() as held:

        def choose(wanted: Ports) -> Ports:
            ports = choose_ports(wanted)
            if not chosen:  # the first time only: now it is ours
                held.enter_context(holding(getattr(ports, use)))
            chosen.append(ports)
            return ports

        monkeypatch.setattr(forge.serving.triton.server, "choose_ports", choose)
        server, _ = started(
            lambda: TritonServer.start(made, read_spec(made), triton(), work=tmp_path / "w"),
            READY_S,
        )
        with server:
            assert server.ports == chosen[1]
            assert "Paris" in _text(server, "What is the capital of France?")
    assert len(chosen) == 2


def test_a_port_that_is_taken_every_time_is_said_and_is_no_fault_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OFF, "network")  # in a namespace nobody can take a port
    made = tree(tmp_path / "tree")
    tries: list[Ports] = []
    ports = choose_ports(Ports())

    def choose(_wanted: Ports) -> Ports:
        tries.append(ports)
        return ports

    monkeypatch.setattr(forge.serving.triton.server, "choose_ports", choose)
    with holding(ports.http), pytest.raises(PortTakenError, match=str(ports.http)) as caught:
        started(
            lambda: TritonServer.start(made, read_spec(made), triton(), work=tmp_path / "w"),
            READY_S,
        )
    assert caught.value.exit_code == 5
    assert "already in use" in caught.value.why
    assert len(tries) == 4


def test_a_fork_that_fails_is_no_fault_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tree(tmp_path / "tree")

    def fail(*_arguments: object, **_options: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", fail)
    with pytest.raises(StepFailedError, match="could not be started") as caught:
        TritonServer.start(made, read_spec(made), triton(), work=tmp_path / "w")
    assert not isinstance(caught.value, LoadFailedError)


@pytest.mark.sample
def test_an_engine_that_does_not_load_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a machine that is busy Triton needs its time to say it.
    monkeypatch.setattr(forge.serving.triton.server, "_STUB_FAILED_S", READY_S)
    made, version = broken(tmp_path)
    model = version / "engine" / "openvino_model.xml"
    half = model.read_bytes()[: model.stat().st_size // 2]
    model.unlink()
    model.write_bytes(half)
    error = fails_to_start(made, tmp_path / "work")
    assert "before it was ready" in error.what
    assert error.why.startswith("failed to load 'llm'")
    assert (
        "core.cpp" in error.why
    )  # OpenVINO refused it; its parser's own words depend on where the file ends


@pytest.mark.sample
def test_triton_takes_the_mode_of_its_stub_away_and_no_environment_changes(tmp_path: Path) -> None:
    """Triton runs the stub first, and sets its mode to 0100 where that does not end with 1.

    Seen with a kill in that moment; here the libpython of the stub is missing.
    """
    folder = tree(tmp_path / "tree")
    installed = dataclasses.replace(triton(), python="3.8")
    stubs = triton().site_packages / "pytriton" / "tritonserver" / "python_backend_stubs"
    stub = stubs / "3.8" / "triton_python_backend_stub"
    used = tmp_path / "work" / "backends" / "python" / stub.name
    server = TritonServer.start(folder, read_spec(folder), installed, work=tmp_path / "work")
    try:
        until = time.monotonic() + READY_S
        while used.stat().st_mode & 0o777 != 0o100 and time.monotonic() < until:
            time.sleep(0.1)
    finally:
        server.stop()
    assert used.stat().st_mode & 0o777 == 0o100
    assert stub.stat().st_mode & 0o777 == 0o555
    assert stub.stat().st_nlink == 1


def test_a_model_that_raises_says_what(tmp_path: Path) -> None:
    made, version = broken(tmp_path)
    source = (version / "model.py").read_text()
    (version / "model.py").write_text(f"{source}\nraise ValueError('this model is no good')\n")
    error = fails_to_start(made, tmp_path / "work")
    assert "ValueError: this model is no good" in error.why


def test_a_stub_that_failed_is_not_waited_for_when_triton_hangs(tmp_path: Path) -> None:
    """Triton 2.51 was seen to wait for ever after this line; the line is from its log."""
    made, version = broken(tmp_path)
    (version / "model.py").write_text(
        "import time\n"
        "print('I1124 05:22:18.9 16227 pb_stub.cc:366]  Failed to initialize Python stub:'\n"
        "      ' ValueError: this model is no good', flush=True)\n"
        "time.sleep(600)\n"
    )
    error = fails_to_start(made, tmp_path / "work")
    assert "ValueError: this model is no good" in error.why


@pytest.mark.sample
def test_a_model_that_triton_gave_up_is_loaded_again(tmp_path: Path) -> None:
    """Stopped for 3 s while it loads, as on a machine under load: Triton waits without end.

    The first server would be ready in none of the 240 s; `started` does not wait for that.
    """
    made = tree(tmp_path / "tree")
    servers: list[TritonServer] = []

    def start() -> TritonServer:
        servers.append(TritonServer.start(made, read_spec(made), triton(), work=tmp_path / "work"))
        return servers[-1]

    def starve() -> None:
        for pid in stubs(servers[0].pid) if len(servers) == 1 else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                time.sleep(3)
                os.kill(pid, signal.SIGCONT)

    server, _ = started(start, READY_S, starve)
    with server:
        assert len(servers) == 2
        assert session_processes(servers[0].pid) == []
        text, _ = answer(server.url, "llm", GenerateRequest("Say Привет", 12))
        assert "Привет" in text


def stubs(session: int) -> list[int]:
    """The model's processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            name, _, fields = (entry / "stat").read_text().rpartition(")")
            if int(fields.split()[3]) == session and name.endswith("(triton_python_b"):
                found.append(int(entry.name))
    return found


def test_an_engine_file_that_is_missing_is_named(tmp_path: Path) -> None:
    made, version = broken(tmp_path)
    (version / "engine" / "openvino_tokenizer.bin").unlink()
    error = fails_to_start(made, tmp_path / "work")
    assert "The engine lacks openvino_tokenizer.bin" in error.why


def test_a_model_that_is_not_ready_in_time_is_given_up(tmp_path: Path) -> None:
    made = tree(tmp_path / "tree")
    server = TritonServer.start(made, read_spec(made), triton(), work=tmp_path / "work")
    with server, pytest.raises(StepFailedError, match=r"was not ready after \d+ s") as caught:
        server.wait_ready(0.2)
    assert "start_timeout_s" in caught.value.hint
    assert session_processes(server.pid) == []


@pytest.mark.sample
@pytest.mark.parametrize("victim", ["tritonserver", "triton_python_b"])
def test_a_kill_during_a_stream_is_an_error_and_not_a_short_answer(
    tmp_path: Path, victim: str
) -> None:
    with running(tree(tmp_path / "tree"), tmp_path / "work") as server:
        events = stream(server.url, "llm", GenerateRequest("Tell a very long story.", 900))
        assert isinstance(next(events), Token)
        os.kill(_process(server.pid, victim), signal.SIGKILL)
        with pytest.raises(StepFailedError) as caught:
            list(events)
        assert caught.value.exit_code == 5
        assert not server.is_ready()
        assert not server.alive
    assert session_processes(server.pid) == []


def _process(session: int, name: str) -> int:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            head, _, rest = (entry / "stat").read_text().rpartition(")")
            if int(rest.split()[3]) == session and head.partition("(")[2].startswith(name):
                return int(entry.name)
    pytest.fail(f"no {name} in session {session}")


# What a fault does to the real model: `n` is the number of the call that fails.
SEQUENCE_FAULT = """
import itertools
import model_io
_calls = itertools.count()
_decode = TritonPythonModel._new_text
def _failing(self, sequence, *, last):
    if "story" in prompts[id(sequence)] and sequence.tokens:
        raise RuntimeError("this one cannot be decoded")
    return _decode(self, sequence, last=last)
TritonPythonModel._new_text = _failing
prompts = {}
_sequence = TritonPythonModel._sequence
def _remembering(self, request, sender):
    made = _sequence(self, request, sender)
    prompts[id(made)] = model_io.scalar(request, "text_input").decode()
    return made
TritonPythonModel._sequence = _remembering
"""
ENGINE_FAULT = """
_real = TritonPythonModel.initialize
class _Broken:
    def __init__(self, inner): self._inner = inner
    def __getattr__(self, name): return getattr(self._inner, name)
    def step(self): raise RuntimeError("the engine is broken")
def _initialize(self, args):
    genai.ContinuousBatchingPipeline, real = (
        lambda *a: _Broken(real(*a)), genai.ContinuousBatchingPipeline)
    _real(self, args)
TritonPythonModel.initialize = _initialize
"""
TELLING_FAULT = """
def _fail(sender, message):
    raise RuntimeError("nobody can be told")
batching.fail = _fail
"""


def faulty(folder: Path, *faults: str) -> Path:
    made, version = broken(folder)
    source = (version / "model.py").read_text()
    (version / "model.py").unlink()
    (version / "model.py").write_text("\n".join((source, *faults)))
    return made


def test_an_answer_that_cannot_be_decoded_is_the_only_one_that_fails(tmp_path: Path) -> None:
    with running(faulty(tmp_path, SEQUENCE_FAULT), tmp_path / "work") as server:
        other = stream(server.url, "llm", GenerateRequest("Count to a hundred in words.", 60))
        next(other)  # it is in the engine while the next one fails
        with pytest.raises(ForgeError, match="this one cannot be decoded"):
            list(stream(server.url, "llm", GenerateRequest("Tell a story.", 60)))
        assert isinstance(list(other)[-1], Finished)
        assert "Paris" in _text(server, "What is the capital of France?")


def test_a_client_that_cannot_be_told_of_its_failure_ends_nobody_else(tmp_path: Path) -> None:
    made = faulty(tmp_path, SEQUENCE_FAULT, TELLING_FAULT)
    with running(made, tmp_path / "work") as server:
        quick = HttpTimeouts(first=3.0, gap=3.0)
        with pytest.raises(StepFailedError):
            list(stream(server.url, "llm", GenerateRequest("Tell a story.", 60), timeouts=quick))
        assert "Paris" in _text(server, "What is the capital of France?")
        assert server.alive


def test_an_engine_that_always_fails_ends_the_model_and_is_seen(tmp_path: Path) -> None:
    with running(faulty(tmp_path, ENGINE_FAULT), tmp_path / "work") as server:
        for _ in range(3):
            with pytest.raises(ForgeError, match="the engine is broken"):
                list(stream(server.url, "llm", GenerateRequest("Tell a story.", 60)))
        deadline = time.monotonic() + 30
        while server.alive and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not server.alive


def _text(server: TritonServer, prompt: str) -> str:
    text, _ = answer(server.url, "llm", GenerateRequest(prompt, 32))
    return text


@pytest.mark.sample
def test_nothing_is_left_when_the_starter_is_killed(spawn: Spawn, tmp_path: Path) -> None:
    made = tree(tmp_path / "tree")
    program = f"""
import time
from pathlib import Path
from forge import environments
from forge.serving.triton.server import TritonServer
from forge.serving.repository.spec import read_spec
tree = Path({str(made)!r})
installed = environments.inspect(Path({str(environment("triton-openvino"))!r}))
server = TritonServer.start(tree, read_spec(tree), installed, work=Path({str(tmp_path / "w")!r}))
server.wait_ready({READY_S})
print(server.pid, flush=True)
time.sleep(300)
"""
    starter = spawn([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert starter.stdout is not None
    session = int(starter.stdout.readline())
    assert len(session_processes(session)) >= 3
    starter.kill()
    starter.communicate()
    deadline = time.monotonic() + 60
    while session_processes(session) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert session_processes(session) == []


def compile_settings(folder: Path, precision: str = "as-is") -> Path:
    path = folder / "settings.json"
    path.write_text(json.dumps({"engine": {"precision": precision}}))
    return path


@pytest.mark.sample
@pytest.mark.parametrize("part", [0.999, 0.5, 0.01, 0.0])
def test_a_truncated_checkpoint_ends_the_compiler_with_3(tmp_path: Path, part: float) -> None:
    (source,) = checkpoint().glob("*.gguf")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / source.name).write_bytes(
        source.read_bytes()[: int(source.stat().st_size * part)]
    )
    done = compile_gguf(tmp_path / "in", compile_settings(tmp_path), tmp_path / "out")
    assert done.returncode == 3
    assert "is truncated" in done.stderr
    assert "download the checkpoint again" in done.stderr
    assert not (tmp_path / "out").exists()


def test_another_precision_than_the_checkpoints_ends_the_compiler_with_3(tmp_path: Path) -> None:
    done = compile_gguf(checkpoint(), compile_settings(tmp_path, "fp8"), tmp_path / "out")
    assert done.returncode == 3
    assert "engine.precision is 'fp8'" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_killed_compiler_leaves_no_output(tmp_path: Path) -> None:
    python = environment("openvino") / "bin" / "python"
    argv = [str(python), str(COMPILER), "--checkpoint", str(checkpoint()), "--settings"]
    argv += [str(compile_settings(tmp_path)), "--output", str(tmp_path / "out")]
    # The compiler itself, which kills itself as soon as its last file is there.
    program = (
        "import os, runpy, shutil, sys\n"
        "shutil.move = lambda *_: os.kill(os.getpid(), 9)\n"
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    argv[1:1] = ["-c", program]
    done = subprocess.run(argv, capture_output=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(tmp_path.glob(".compile-*/openvino_tokenizer.xml"))
    assert list((tmp_path / "out").iterdir()) == []
