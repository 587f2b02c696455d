"""What goes wrong round Triton and the compiler: a clear message, and nothing left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from forge.errors import StepFailedError
from forge.serving.client import Ask, stream
from forge.serving.events import Token
from forge.serving.server import Ports, TritonServer
from forge.serving.spec import read_spec
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
        with pytest.raises(StepFailedError, match=f"Port {port} for Triton's {use} is taken") as e:
            TritonServer.start(made, read_spec(made), triton(), work=tmp_path / "w", ports=ports)
        assert f"(pid {os.getpid()})" in e.value.why
        assert str(port) in e.value.hint
    with TritonServer.start(
        made, read_spec(made), triton(), work=tmp_path / "w", ports=ports
    ) as server:
        server.wait_ready(READY_S)


def test_an_engine_that_does_not_load_says_why(tmp_path: Path) -> None:
    made, version = broken(tmp_path)
    model = version / "engine" / "openvino_model.xml"
    half = model.read_bytes()[: model.stat().st_size // 2]
    model.unlink()
    model.write_bytes(half)
    error = fails_to_start(made, tmp_path / "work")
    assert "before it was ready" in error.what
    assert error.why.startswith("failed to load 'llm'")
    assert "Start-end tags mismatch" in error.why


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


def test_an_engine_file_that_is_missing_is_named(tmp_path: Path) -> None:
    made, version = broken(tmp_path)
    (version / "engine" / "openvino_tokenizer.bin").unlink()
    error = fails_to_start(made, tmp_path / "work")
    assert "The engine lacks openvino_tokenizer.bin" in error.why


def test_a_model_that_is_not_ready_in_time_is_given_up(tmp_path: Path) -> None:
    made = tree(tmp_path / "tree")
    server = TritonServer.start(made, read_spec(made), triton(), work=tmp_path / "work")
    with server, pytest.raises(StepFailedError, match="was not ready after 0 s") as caught:
        server.wait_ready(0.2)
    assert "start_timeout_s" in caught.value.hint
    assert session_processes(server.pid) == []


@pytest.mark.parametrize("victim", ["tritonserver", "triton_python_b"])
def test_a_kill_during_a_stream_is_an_error_and_not_a_short_answer(
    tmp_path: Path, victim: str
) -> None:
    with running(tree(tmp_path / "tree"), tmp_path / "work") as server:
        events = stream(Ask(server.url, "llm", "Tell a very long story.", 900))
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


def test_nothing_is_left_when_the_starter_is_killed(tmp_path: Path) -> None:
    made = tree(tmp_path / "tree")
    program = f"""
import time
from pathlib import Path
from forge import environments
from forge.serving.server import TritonServer
from forge.serving.spec import read_spec
tree = Path({str(made)!r})
installed = environments.inspect(Path({str(environment("triton-openvino"))!r}))
server = TritonServer.start(tree, read_spec(tree), installed, work=Path({str(tmp_path / "w")!r}))
server.wait_ready({READY_S})
print(server.pid, flush=True)
time.sleep(300)
"""
    starter = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert starter.stdout is not None
    session = int(starter.stdout.readline())
    assert len(session_processes(session)) == 3
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
    assert "fetch the checkpoint again" in done.stderr
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
    process = subprocess.Popen(argv, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".compile-*/openvino_tokenizer.xml")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert list((tmp_path / "out").iterdir()) == []
