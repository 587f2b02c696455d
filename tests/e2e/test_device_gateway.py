"""The gateway in front of the real Triton: streams, cancellation, and a server that dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from forge.bundle import Operating
from forge.device.gateway.config import QueueRules
from forge.profiles import PowerSection, ThermalSection
from forge.serving.triton.containment import WRITE
from tests.support.device_world import Agent, Device, Says, World, triton_processes
from tests.support.scrape import scrape

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.real_triton]

WORDS = " ".join(f"Paris{number}" for number in range(200))
PAUSE_S = 0.05
MOST = 4  # requests that the bundle decodes together
OPERATING = Operating(
    power=PowerSection(mode=None, limit_w=None, lock_clocks=False),
    thermal=ThermalSection(
        throttle_c=140, critical_c=149, batch_floor=1
    ),  # hotter than any machine here
)


@pytest.fixture(scope="module")
def cancelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a file for each cancelled request: how many words it had said by then."""
    return tmp_path_factory.mktemp("cancelled")


@pytest.fixture(scope="module", autouse=True)
def model_writes(cancelled: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(WRITE, str(cancelled))
        yield


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory, cancelled: Path) -> Device:
    """A device of a slow model: two hundred words in ten seconds."""
    world = World(tmp_path_factory.mktemp("gateway"))
    # Golden prompts are asked like any other, so it takes its ten seconds once.
    says = Says(words=WORDS, pause_s=PAUSE_S, log=str(cancelled))
    world.publish("1.0.0", says, operating=OPERATING)
    device = world.device()
    device.once()
    return device


@pytest.fixture(scope="module")
def agent(device: Device) -> Iterator[Agent]:
    with device.running(poll_s=600) as agent:
        agent.wait_ready("1.0.0")
        yield agent


def wait_for(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@contextmanager
def stream(agent: Agent, prompt: str = "France?") -> Iterator[Iterator[str]]:
    """Lines of a streamed answer; the client is gone after the body."""
    body = {"prompt": prompt, "stream": True}
    with (
        httpx.Client(trust_env=False, timeout=30) as client,
        client.stream("POST", f"{agent.url}/v1/inference", json=body) as response,
    ):
        yield response.iter_lines()


@contextmanager
def asked(agent: Agent, prompt: str) -> Iterator[None]:
    """Somebody waits for a whole answer; gone after the body."""
    body = json.dumps({"prompt": prompt}).encode()
    head = f"POST /v1/inference HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    address = urlsplit(agent.url)
    with socket.create_connection((str(address.hostname), address.port or 0), 10) as connection:
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        yield


def test_tokens_come_while_the_model_still_speaks(agent: Agent) -> None:
    with stream(agent) as lines:
        assert next(lines) == "event: token"
        assert json.loads(next(lines).removeprefix("data: ")) == {"text": "Paris0 "}


def test_no_more_than_the_bundle_decodes_together_reach_triton(
    agent: Agent, cancelled: Path
) -> None:
    heat = httpx.get(f"{agent.url}/v1/hardware", trust_env=False).json()["heat"]
    assert (heat["limit"], heat["most"], heat["throttle_c"]) == (MOST, MOST, 140.0)
    queue = QueueRules().length(MOST)
    with ExitStack() as stack:
        held = [stack.enter_context(stream(agent)) for _ in range(MOST)]
        assert [next(lines) for lines in held] == ["event: token"] * MOST
        for number in range(queue):
            stack.enter_context(asked(agent, f"waits-{number}"))
        wait_for(lambda: metrics(agent)["forge_device_requests_waiting"] == queue)
        body = {"prompt": "France?", "stream": True}
        refused = httpx.post(f"{agent.url}/v1/inference", json=body, trust_env=False)
        assert list(cancelled.glob("waits-*")) == []  # none of them has reached the model
    assert refused.status_code == 429
    assert refused.json()["error"]["message"] == (
        f"The queue is full: {MOST} requests are in progress (limit {MOST}), {queue} wait"
        f" (limit {queue})"
    )
    assert int(refused.headers["retry-after"]) >= 1
    wait_for(lambda: metrics(agent)["forge_device_requests_waiting"] == 0)
    assert metrics(agent)['forge_device_requests_total{code="429"}'] == 1


def metrics(agent: Agent) -> dict[str, float]:
    return scrape(httpx.get(f"{agent.url}/metrics", trust_env=False).text)


@pytest.mark.sample
@pytest.mark.parametrize("mode", ["whole", "stream"])
def test_a_client_that_goes_away_stops_the_model(agent: Agent, cancelled: Path, mode: str) -> None:
    name = f"request-{mode}"
    if mode == "stream":
        with stream(agent, name) as lines:
            next(lines)
    else:
        with asked(agent, name):
            wait_for((cancelled / f"{name}.begun").exists)
    wait_for((cancelled / name).exists)
    assert int((cancelled / name).read_text()) < len(WORDS.split())


def test_a_server_that_dies_ends_the_stream_with_an_error_and_is_started_again(
    agent: Agent, device: Device
) -> None:
    with stream(agent) as lines:
        next(lines)
        for pid in triton_processes(device.state):
            os.kill(pid, signal.SIGKILL)
        rest = list(lines)
    assert "event: error" in rest
    assert "event: done" not in rest
    wait_for(lambda: agent.ready() is None)
    agent.wait_ready("1.0.0")
    assert device.status.rollbacks == ()


def test_stopping_the_agent_ends_streams_and_leaves_no_process(
    agent: Agent, device: Device
) -> None:
    with stream(agent) as lines:
        next(lines)
        assert agent.stop() == 0
    assert triton_processes(device.state) == []
