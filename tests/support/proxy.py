"""A bad network: a proxy in front of a server that spoils answers, by a seed."""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUSY = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code>"
    b"<Message>Please reduce your request rate</Message></Error>"
)

Answer = tuple[int, list[tuple[str, str]], bytes]
Twist = Callable[[str, Answer], Answer]
"""From a path and the right answer to what is sent."""


@dataclass
class Weather:
    """What goes wrong, as shares of all answers. `flips` and `cuts` touch large answers only."""

    busy: float = 0.0  # 503 instead of asking
    cuts: float = 0.0  # half a body, then the end
    flips: float = 0.0  # one bit of a body
    large: int = 32 * 1024
    twist: Twist | None = None  # of an answer: another status, other headers, another body
    most: int = 1_000_000  # so many answers are spoilt, then none
    spoilt: int = 0
    dice: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311  not for secrets
    lock: threading.Lock = field(default_factory=threading.Lock)

    def happens(self, share: float) -> bool:
        with self.lock:
            hit = self.spoilt < self.most and self.dice.random() < share
            self.spoilt += hit
            return hit


@contextmanager
def proxy(port: int, weather: Weather) -> Iterator[str]:
    """The URL of a proxy before 127.0.0.1:`port`."""

    class Handler(_Handler):
        upstream = port
        outside = weather

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream = 0
    outside = Weather()

    def handle(self) -> None:
        """A client that goes away has said what it had to."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Say nothing."""

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.outside.happens(self.outside.busy):
            self._answer(503, [("Content-Type", "application/xml")], BUSY)
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=60)
        try:
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in {"expect", "connection"}:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            right = answer.status, answer.getheaders(), answer.read()
            self._answer(*(self.outside.twist(self.path, right) if self.outside.twist else right))
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
        large = status in {200, 206} and len(data) >= self.outside.large
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in {"transfer-encoding", "connection", "date", "server"}:
                self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if large and self.outside.happens(self.outside.flips):
            data = data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]
        if large and self.outside.happens(self.outside.cuts):
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        self.wfile.write(data)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass_on  # noqa: N815  http.server's names
