"""Callers that say nothing, say it slowly or do not listen, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from forge.device.gateway.connection_limits import ConnectionLimits, JoinedHead
from tests.support.gateway_app import Gateway, Script, running, wait_for


def connect(gateway: Gateway, receive_buffer: int = 0, address: str = "127.0.0.1") -> socket.socket:
    caller = socket.socket()
    caller.bind((address, 0))  # all of 127.0.0.0/8 is this machine
    if receive_buffer:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    caller.settimeout(20)
    caller.connect(("127.0.0.1", gateway.port))
    return caller


def question() -> bytes:
    body = json.dumps({"prompt": "a", "stream": True}).encode()
    head = f"POST /v1/inference HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
    return f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + body


def said_until_closed(caller: socket.socket) -> bytes:
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while data := caller.recv(65536):
            said += data
    return said


def is_live(caller: socket.socket) -> bool:
    caller.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    said = b""
    while not said.endswith(b"}"):
        said += (data := caller.recv(4096))
        assert data
    return said.startswith(b"HTTP/1.1 200")


def test_a_client_that_reads_slowly_but_reads_is_not_cut() -> None:
    script = Script(pieces=("x" * 65536,) * 120)
    with (
        running(script, bounds=ConnectionLimits(stalled_s=0.5)) as gateway,
        connect(gateway, 65536) as slow,
    ):
        slow.sendall(question())
        said, until = b"", time.monotonic() + 2
        while time.monotonic() < until:
            said += slow.recv(8192)
            time.sleep(0.02)
        while b"event: done" not in said[-500:]:
            data = slow.recv(1 << 20)
            assert data
            said += data
    assert said.count(b"x" * 65000) == 120


@pytest.mark.parametrize("said", [b"", b"\r\n", b"POST /v1/inf", question()[:60]])
def test_a_head_that_does_not_come_is_cut(said: bytes) -> None:
    with (
        running(Script(), bounds=ConnectionLimits(head_s=0.5)) as gateway,
        connect(gateway) as caller,
    ):
        caller.sendall(said)
        assert said_until_closed(caller) == b""
        assert gateway.ask(prompt="a").status_code == 200


def test_a_second_head_that_does_not_come_is_cut_too() -> None:
    with (
        running(Script(), bounds=ConnectionLimits(head_s=0.5)) as gateway,
        connect(gateway) as caller,
    ):
        assert is_live(caller)
        time.sleep(1)  # being idle is no head that does not come
        assert is_live(caller)
        caller.sendall(b"G")
        assert said_until_closed(caller) == b""


def test_a_head_without_end_is_cut() -> None:
    with running(Script()) as gateway, connect(gateway) as caller:
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            caller.sendall(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 2_000_000)
        assert said_until_closed(caller) == b""
        assert time.monotonic() - began < 5


def test_a_head_and_a_body_may_take_long_if_they_keep_to_their_own_limits() -> None:
    with (
        running(Script(), bounds=ConnectionLimits(head_s=0.5)) as gateway,
        connect(gateway) as caller,
    ):
        whole = question()
        caller.sendall(whole[:-5])
        time.sleep(1)
        caller.sendall(whole[-5:])
        assert caller.recv(4096).startswith(b"HTTP/1.1 200")


def test_an_idle_connection_is_cut() -> None:
    with (
        running(Script(), bounds=ConnectionLimits(idle_s=1)) as gateway,
        connect(gateway) as caller,
    ):
        caller.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert said_until_closed(caller).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "said",
    [
        b"220 mail.example ESMTP\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["another protocol", "not a length", "two lengths"],
)
def test_what_is_not_http_is_refused_in_json(said: bytes) -> None:
    with running(Script()) as gateway, connect(gateway) as caller:
        caller.sendall(said)
        head, _, body = said_until_closed(caller).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-length: %d" % len(body) in head
    assert json.loads(body)["error"]["message"]


class Written:
    """A transport that keeps what was written, one entry for each system call."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def close(self) -> None:
        self.closed = True


def test_a_head_is_written_with_what_follows_or_alone_in_the_next_turn() -> None:
    async def work() -> None:
        written = Written()
        joined = JoinedHead(written, asyncio.get_running_loop())  # type: ignore[arg-type]
        joined.write(b"HTTP/1.1 200 OK\r\n\r\n")
        assert written.calls == []
        joined.write(b"body")
        joined.write(b"more")
        assert written.calls == [b"HTTP/1.1 200 OK\r\n\r\nbody", b"more"]
        joined.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await asyncio.sleep(0)
        assert written.calls[2:] == [b"HTTP/1.1 204 No Content\r\n\r\n"]
        joined.write(b"HTTP/1.1 200 OK\r\n\r\n")
        joined.close()
        assert (written.calls[3:], written.closed) == ([b"HTTP/1.1 200 OK\r\n\r\n"], True)

    asyncio.run(work())


def test_connections_beyond_the_bound_are_refused_until_others_go() -> None:
    with (
        running(Script(), bounds=ConnectionLimits(most=10, head_s=1.5)) as gateway,
        contextlib.ExitStack() as stack,
    ):
        for number in range(10):
            stack.enter_context(connect(gateway, address=f"127.0.1.{number + 1}"))
        refused = said_until_closed(stack.enter_context(connect(gateway)))
        head, _, body = refused.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 5" in head
        assert json.loads(body)["error"]["code"] == "service_unavailable"
        assert wait_for(lambda: gateway.client.get("/health/live").status_code == 200)


def test_one_address_leaves_a_quarter_of_the_connections_to_others() -> None:
    with (
        running(Script(), bounds=ConnectionLimits(most=12)) as gateway,
        contextlib.ExitStack() as stack,
    ):
        greedy = [stack.enter_context(connect(gateway, address="127.0.1.1")) for _ in range(9)]
        assert all(map(is_live, greedy))
        refused = said_until_closed(stack.enter_context(connect(gateway, address="127.0.1.1")))
        assert refused.startswith(b"HTTP/1.1 503 ")
        others = [stack.enter_context(connect(gateway, address="127.0.1.2")) for _ in range(3)]
        assert all(map(is_live, others))
        assert all(map(is_live, greedy))


@pytest.fixture
def few_descriptors() -> Iterator[int]:
    """What this process has open, and 160 more; pytest holds some."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = len(list(Path("/proc/self/fd").iterdir())) + 160
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, limits[1]))
    yield soft
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


IDLE = """
import resource, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
held = []
for _ in range(int(sys.argv[2])):
    one = socket.socket()
    one.setblocking(False)
    one.connect_ex(("127.0.0.1", int(sys.argv[1])))
    held.append(one)
print("held", flush=True)
sys.stdin.read()
"""


def test_idle_connections_leave_descriptors_for_the_agent(
    few_descriptors: int, caplog: pytest.LogCaptureFixture
) -> None:
    with running(Script(), bounds=ConnectionLimits.here()) as gateway:
        assert ConnectionLimits.here().most == few_descriptors // 4
        argv = [sys.executable, "-c", IDLE, str(gateway.port), "1000"]
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) as idle:
            try:
                assert idle.stdout is not None
                assert idle.stdout.readline() == "held\n"
                until = time.monotonic() + 3
                while time.monotonic() < until:
                    with contextlib.ExitStack() as stack:  # as the agent reads /proc
                        for _ in range(20):
                            stack.enter_context(Path("/proc/self/stat").open(encoding="utf-8"))
                    time.sleep(0.005)
            finally:
                idle.kill()
        assert wait_for(lambda: gateway.client.get("/health/live").status_code == 200)
    assert "accept" not in caplog.text
