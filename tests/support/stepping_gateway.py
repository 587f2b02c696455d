"""A gateway over real sockets, with the real backend, in front of a SteppingTriton."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from forge.device.gateway.admission import Admission
from forge.device.gateway.app import create_app
from forge.device.gateway.config import GatewayConfig
from forge.device.gateway.connection_limits import ConnectionLimits
from forge.device.gateway.triton_backend import TritonBackend
from forge.device.shared.concurrency import ConcurrencyLimit
from forge.device.shared.upstream import Upstream
from tests.support.gateway import Nothing, listening, serving_at
from tests.support.scrape import scrape
from tests.support.stepping_triton import SteppingTriton

__all__ = ["Served", "request", "served", "wait_for"]


@dataclass
class Served:
    """A gateway in front of the model."""

    url: str
    upstream: Upstream
    limit: ConcurrencyLimit
    admission: Admission

    def ask(self, text: str = "next", *, stream: bool = True) -> tuple[int, float]:
        """Return the status of a whole answer and the seconds that it took."""
        began = time.monotonic()
        body = {"prompt": text, "max_tokens": 1, "stream": stream}
        found = httpx.post(f"{self.url}/v1/inference", json=body, trust_env=False, timeout=30)
        return found.status_code, time.monotonic() - began

    def send(
        self, text: str, tokens: int = 3, *, stream: bool = True, receive_buffer: int = 0
    ) -> socket.socket:
        """Return a connection on which a request was sent."""
        address = urlsplit(self.url)
        connection = socket.socket()
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(20)
        connection.connect((str(address.hostname), address.port or 0))
        connection.sendall(request(text, tokens, stream=stream))
        return connection

    def metrics(self) -> dict[str, float]:
        return scrape(httpx.get(f"{self.url}/metrics", trust_env=False).text)


def request(text: str, tokens: int = 3, *, stream: bool = True) -> bytes:
    """Return the bytes of a request."""
    body = json.dumps({"prompt": text, "max_tokens": tokens, "stream": stream}).encode()
    head = f"POST /v1/inference HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Content-Type: application/json\r\n\r\n".encode() + body


@contextlib.contextmanager
def served(
    triton: SteppingTriton,
    places: int = 16,
    backend: TritonBackend | None = None,
    config: GatewayConfig | None = None,
    bounds: ConnectionLimits | None = None,
) -> Iterator[Served]:
    """Serve until the body ends."""
    upstream, limit = Upstream(), ConcurrencyLimit(places, "the batch of the bundle")
    with triton.running() as url:
        upstream.set(serving_at(url, max_seq_len=100_000))
        app = create_app(upstream, backend or TritonBackend(), Nothing, limit, config)
        with listening(app, bounds) as address:
            yield Served(address, upstream, limit, app.state.admission)


def wait_for(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    """Wait until it holds."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)
