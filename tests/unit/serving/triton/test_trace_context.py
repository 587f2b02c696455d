"""W3C trace context: the specification's own examples, and what it calls invalid."""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing
from contextvars import copy_context
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from forge.serving.triton.http_pool import TritonConnectionPool
from forge.serving.triton.request import HttpTimeouts
from forge.serving.triton.trace_context import CURRENT, TraceContext, outgoing_headers, parse

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
STATE = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"


@pytest.mark.parametrize(
    "given",
    [
        PARENT,
        PARENT[:-2] + "00",
        "cc" + PARENT[2:] + "-what-the-future-will-be",  # of a later version
    ],
)
def test_a_valid_context_is_kept_as_it_came(given: str) -> None:
    assert parse(given.encode(), STATE.encode()) == TraceContext(given, STATE)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "00",
        PARENT.upper(),
        "ff" + PARENT[2:],
        PARENT + "-more",  # version 00 has four fields
        "00-" + "0" * 32 + PARENT[35:],
        PARENT[:36] + "0" * 16 + "-01",
        PARENT.replace("4bf9", "4bg9"),
        PARENT + "\r\nX-Key: 7",
    ],
)
def test_what_is_not_valid_is_ignored(given: str) -> None:
    assert parse(given.encode(), STATE.encode()) is None


def test_a_state_that_is_not_valid_is_dropped_alone() -> None:
    assert parse(PARENT.encode(), b"a=1\r\nX-Key: 7") == TraceContext(PARENT)
    assert parse(PARENT.encode(), b"x" * 513) == TraceContext(PARENT)


def test_triton_gets_the_headers_of_the_request_that_it_works_for() -> None:
    seen: list[tuple[str | None, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.headers.get("traceparent"), self.headers.get("tracestate")))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    async def ask(url: str) -> None:
        pool = TritonConnectionPool()
        for context in (None, TraceContext(PARENT), TraceContext(PARENT, STATE)):
            CURRENT.set(context)
            with closing(await pool.request("GET", url, b"", HttpTimeouts())) as response:
                assert [data async for data in response] == []
        pool.close()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/"
        copy_context().run(asyncio.run, ask(url))
        server.shutdown()
        thread.join()
    assert seen == [(None, None), (PARENT, None), (PARENT, STATE)]
    assert outgoing_headers() == ""
