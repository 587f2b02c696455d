"""Clients that hang up or read slowly, in front of a real language model under the real Triton."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import pytest

from forge.device.gateway.admission import Admission
from forge.device.gateway.app import create_app
from forge.device.gateway.triton_backend import TritonBackend
from forge.device.shared.concurrency import ConcurrencyLimit
from forge.device.shared.upstream import Upstream
from tests.support.gateway import Nothing, listening, serving_at
from tests.support.scrape import scrape
from tests.support.serving import running, tree

pytestmark = [pytest.mark.slow, pytest.mark.network]

PLACES = 8
WORDS = ("apple", "river", "stone", "cloud", "green", "table", "horse", "music", "paper", "light")
WAIT_S = 240.0


@dataclass
class Device:
    url: str
    limit: ConcurrencyLimit
    admission: Admission

    def ask(self, prompt: str, tokens: int) -> float:
        """Return the seconds of a whole answer."""
        began = time.monotonic()
        body = {"prompt": prompt, "max_tokens": tokens, "stream": True}
        said = httpx.post(f"{self.url}/v1/inference", json=body, trust_env=False, timeout=120)
        assert "event: done" in said.text, said.text
        return time.monotonic() - began

    def send(self, prompt: str, tokens: int, receive_buffer: int = 0) -> socket.socket:
        """Return a connection on which a streamed request was sent."""
        address = urlsplit(self.url)
        body = json.dumps({"prompt": prompt, "max_tokens": tokens, "stream": True}).encode()
        head = (
            "POST /v1/inference HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        )
        connection = socket.socket()
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(60)
        connection.connect((str(address.hostname), address.port or 0))
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return connection

    def metrics(self) -> dict[str, float]:
        return scrape(httpx.get(f"{self.url}/metrics", trust_env=False).text)


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    folder = tmp_path_factory.mktemp("openvino")
    upstream, limit = Upstream(), ConcurrencyLimit(PLACES, "the batch of the bundle")
    # A busy machine may take longer for a prompt than the gateway waits for its end by default.
    app = create_app(upstream, TritonBackend(cancel_s=WAIT_S), Nothing, limit)
    made = tree(
        folder / "tree",
        engine__max_batch_size=PLACES,
        engine__max_input_len=1500,
        engine__max_seq_len=2048,
    )
    with running(made, folder / "work") as server, listening(app) as url:
        upstream.set(serving_at(server.url, max_seq_len=2048))
        yield Device(url, limit, app.state.admission)


def long_prompt() -> str:
    """Return a prompt that no cache of prefixes knows."""
    return " ".join(random.choice(WORDS) for _ in range(750))  # noqa: S311 - no key


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.sample
@pytest.mark.parametrize("clients", [16, 1, 8])
def test_after_clients_that_hang_up_the_next_waits_for_the_prompt_under_way(
    device: Device, clients: int
) -> None:
    """If all were computed, 16 prompts would take 16 times as long as one."""
    device.ask("hi", 2)
    prompt_s = max(device.ask(long_prompt(), 1) for _ in range(3))
    own_s = max(device.ask("hi", 2) for _ in range(3))
    waited = []
    for _ in range(3):
        for _ in range(clients):
            connection = device.send(long_prompt(), 500)
            time.sleep(0.01)
            connection.close()
        waited.append(device.ask("hi", 2) - own_s)
        wait_for(lambda: device.admission.counts.inside == 0)
    assert min(waited) < 3 * prompt_s  # the best, since the machine does other things
    assert device.metrics()["forge_device_unended_requests_total"] == 0


def test_slow_readers_hold_no_place_and_get_all(device: Device) -> None:
    device.limit.set(2, "as the test says")
    slow = [device.send("Count from 1 to 1000.", 200, receive_buffer=2048) for _ in range(2)]
    firsts = [one.recv(64) for one in slow]
    wait_for(lambda: device.admission.counts.inside == 0)  # without being read
    assert device.ask("hi", 2) < 10
    for first, one in zip(firsts, slow, strict=True):
        said = first
        while not said.endswith(b"0\r\n\r\n"):
            said += one.recv(1 << 16)
        assert b"event: done" in said[-300:]
        one.close()
    device.limit.set(PLACES, "as the test says")
