"""The server of the agent's tests behaves as the real Triton does: one suite, run with both."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from forge import environments
from forge.errors import LoadFailedError, PortTakenError, StepFailedError
from forge.serving.repository.spec import read_spec
from forge.serving.triton.client import stream
from forge.serving.triton.containment import WRITE
from forge.serving.triton.ports import Ports, choose_ports
from forge.serving.triton.request import GenerateRequest
from forge.serving.triton.server import TritonServer
from forge.serving.triton.stream import Finished, Token
from tests.support.device_world import Says, TritonKind, bundle_tree, use_triton
from tests.support.device_world import environments as cache

pytestmark = [pytest.mark.slow, pytest.mark.network]


@pytest.fixture(params=["fake", "real"])
def kind(request: pytest.FixtureRequest, triton: None) -> TritonKind:  # noqa: ARG001
    """After the fixture that chooses the server of all other tests."""
    chosen: TritonKind = request.param
    use_triton(chosen)
    return chosen


@contextmanager
def starting(folder: Path, says: Says, ports: Ports | None = None) -> Iterator[TritonServer]:
    tree = bundle_tree(folder / "tree", says)
    spec = read_spec(tree)
    assert spec.lock is not None
    root = environments.ensure(
        "triton-openvino", tree / spec.lock, python=spec.python, cache=cache()
    )
    installed = environments.inspect(root)
    server = TritonServer.start(tree, spec, installed, work=folder / "work", ports=ports)
    try:
        yield server
    finally:
        server.stop()


def ask(server: TritonServer, prompt: str = "Who?") -> list[Token | Finished]:
    return list(stream(server.url, "llm", GenerateRequest(prompt, 32)))


def appears(path: Path) -> bool:
    until = time.monotonic() + 30
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.05)
    return path.exists()


def children(server: TritonServer) -> list[int]:
    """Processes of the server's session but its leader, the oldest first."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != server.pid:
            try:
                if os.getsid(int(entry.name)) == server.pid:
                    found.append(int(entry.name))
            except ProcessLookupError:
                continue
    return sorted(found)


def ends(server: TritonServer) -> bool:
    until = time.monotonic() + 20
    while server.alive and time.monotonic() < until:
        time.sleep(0.05)
    return not server.alive


def test_it_is_ready_says_its_version_and_answers(tmp_path: Path, kind: TritonKind) -> None:
    with starting(tmp_path, Says(words="Paris it is")) as server:
        assert server.wait_ready(60) < 60
        assert server.version() == "2.51.0"
        assert server.usage().processes == 2, kind
        assert ask(server) == [
            Token("Paris "), Token("it "), Token("is "), Finished("stop", 1, 3),
        ]  # fmt: skip


def test_a_model_that_does_not_load_is_explained(tmp_path: Path, kind: TritonKind) -> None:
    with starting(tmp_path, Says(fails=True)) as server:
        with pytest.raises(LoadFailedError) as caught:
            server.wait_ready(60)
        assert "the engine does not load" in caught.value.why, kind
        assert not server.alive


def test_a_port_that_is_taken_is_named(tmp_path: Path, kind: TritonKind) -> None:
    free = choose_ports(Ports())
    with socket.socket() as taken, starting(tmp_path, Says(load_s=2), free) as first:
        # The port is chosen while it is free, and taken while the model loads.
        taken.bind(("127.0.0.1", first.ports.http))
        taken.listen()
        with pytest.raises(PortTakenError):
            first.wait_ready(60)
        assert not first.alive, kind


def test_a_client_that_goes_away_cancels_its_answer(
    tmp_path: Path,
    kind: TritonKind,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(WRITE, str(tmp_path))  # where its model reports
    log = tmp_path / "log"
    log.mkdir()
    words = " ".join(["word"] * 200)
    with starting(tmp_path, Says(words=words, pause_s=0.05, log=str(log))) as server:
        server.wait_ready(60)
        answer = stream(server.url, "llm", GenerateRequest("Who?", 32))
        next(answer)
        answer.close()
        assert appears(log / "Who"), kind
        assert int((log / "Who").read_text()) < 200
        assert (log / "Who.begun").exists()


def test_requests_are_answered_at_the_same_time(tmp_path: Path, kind: TritonKind) -> None:
    with starting(tmp_path, Says(words="a b c", pause_s=0.2)) as server:
        server.wait_ready(60)
        answers = [stream(server.url, "llm", GenerateRequest(name, 32)) for name in ("x", "y")]
        firsts = [next(answer) for answer in answers]  # both before either has ended
        assert firsts == [Token("a "), Token("a ")], kind
        assert [list(answer)[-1] for answer in answers] == [Finished("stop", 1, 3)] * 2


def test_the_death_of_the_models_process_is_seen(tmp_path: Path, kind: TritonKind) -> None:
    with starting(tmp_path, Says()) as server:
        server.wait_ready(60)
        os.kill(children(server)[-1], signal.SIGKILL)
        assert ends(server), kind
        with pytest.raises(StepFailedError):
            ask(server)


def test_nothing_is_left_of_it(tmp_path: Path, kind: TritonKind) -> None:
    with starting(tmp_path, Says()) as server:
        server.wait_ready(60)
        processes = children(server)
        assert len(processes) >= 2
    assert [pid for pid in processes if Path(f"/proc/{pid}").exists()] == [], kind
