"""Answers of a model that is faster than the clients who read them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from contextlib import ExitStack

import pytest

from forge.device.gateway.backend import Ended
from forge.device.gateway.config import GatewayConfig
from forge.device.gateway.connection_limits import ConnectionLimits
from forge.device.gateway.triton_backend import TritonBackend
from forge.errors import StepFailedError
from forge.serving.triton.request import GenerateRequest
from forge.serving.triton.stream import Finished, StreamEvent, Token
from tests.support.gateway import serving_at
from tests.support.stepping_gateway import Served, served, wait_for
from tests.support.stepping_triton import SteppingTriton

TOKENS = 30_000
WORD = "word" * 8  # 32 bytes: 4 MB of events of Triton, more than what sockets hold
SMALL = 4096  # bytes that the kernel keeps for a client


def all_of(connection: socket.socket, said: bytes = b"") -> bytes:
    while data := connection.recv(1 << 20):
        said += data
        if said.endswith(b"0\r\n\r\n"):
            break
    return said


def words_of(said: bytes) -> int:
    return said.count(b'{"text":"' + WORD.encode())


def slow_client(gateway: Served, text: str = "slow") -> socket.socket:
    return gateway.send(text, TOKENS, receive_buffer=SMALL)


def test_the_model_ends_and_others_are_answered_while_clients_read_slowly() -> None:
    triton = SteppingTriton(words=TOKENS, word=WORD)
    with served(triton, places=2) as gateway, ExitStack() as stack:
        clients = [stack.enter_context(slow_client(gateway, f"slow {n}")) for n in range(2)]
        firsts = [one.recv(64) for one in clients]
        wait_for(lambda: len(triton.ended) == 2)
        wait_for(lambda: gateway.upstream.under_way == 0)  # their places are free
        assert gateway.ask()[0] == 200
        whole = [all_of(one, first) for one, first in zip(clients, firsts, strict=True)]
    for said in whole:  # nothing was lost for those who took their time
        assert words_of(said) == TOKENS
        assert b'event: done\ndata: {"finish_reason":"length"' in said[-300:]


@pytest.mark.parametrize(
    ("config", "bounds", "limit"),
    [
        (GatewayConfig(limit_s=1.0), ConnectionLimits(), "time"),
        (GatewayConfig(), ConnectionLimits(stalled_s=1.0), "stalled"),
    ],
    ids=["the request's time is over", "nothing was read for a while"],
)
def test_a_client_that_stops_reading_is_cut_and_counted(
    config: GatewayConfig, bounds: ConnectionLimits, limit: str
) -> None:
    triton = SteppingTriton(words=TOKENS, word=WORD)
    with served(triton, 1, config=config, bounds=bounds) as gateway:
        name = f'forge_device_slow_clients_total{{limit="{limit}"}}'
        with slow_client(gateway) as deaf:
            assert deaf.recv(64)
            assert gateway.ask()[0] == 200
            wait_for(lambda: gateway.metrics().get(name) == 1)
            said = b""
            with contextlib.suppress(ConnectionResetError):
                while data := deaf.recv(1 << 20):
                    said += data
            assert 0 < words_of(said) < TOKENS
            assert b"event: done" not in said
        assert triton.ended[0] == ("slow", "length")  # it had ended long before


def test_an_answer_larger_than_its_tokens_explain_is_dropped_and_ends_in_the_model() -> None:
    triton = SteppingTriton(words=TOKENS, word="x" * 2000)
    with served(triton, places=1) as gateway, slow_client(gateway) as slow:
        first = slow.recv(64)
        wait_for(lambda: triton.ended == [("slow", "cancelled")])
        assert gateway.ask()[0] == 200
        said = all_of(slow, first)
        assert b"the client reads too slowly" in said[-500:]
        assert b"event: error" in said[-500:]
        assert gateway.metrics()['forge_device_slow_clients_total{limit="unread"}'] == 1


def test_many_slow_clients_share_a_limit_and_harm_nobody_else() -> None:
    """60 MB in all, of which the gateway keeps one, and drops the largest answers first."""
    triton = SteppingTriton(words=TOKENS, word=WORD)
    backend = TritonBackend(most_unread=1_000_000)
    most = 0
    with served(triton, 4, backend) as gateway, ExitStack() as stack:
        for number in range(16):
            stack.enter_context(slow_client(gateway, f"slow {number}"))
            most = max(most, backend.unread_bytes)
        until = time.monotonic() + 20
        while len(triton.ended) < 16 and time.monotonic() < until:
            most = max(most, backend.unread_bytes)
            time.sleep(0.001)
        assert len(triton.ended) == 16
        assert gateway.ask()[0] == 200
        assert gateway.upstream.under_way == 0
        assert 0 < most <= 1_000_000
    assert backend.unread_bytes == 0


def request_of(tokens: int) -> GenerateRequest:
    return GenerateRequest("a", tokens, request_id="1")


def test_events_come_as_the_model_said_them_and_the_connection_is_kept() -> None:
    triton = SteppingTriton(words=5, word="a ")

    async def work(url: str) -> None:
        backend, ends = TritonBackend(), list[Ended]()
        for _ in range(3):
            answer = await backend.start(serving_at(url), request_of(5), ends.append)
            events: list[StreamEvent] = []
            while not events or not isinstance(events[-1], Finished):
                events += await answer.next()
            assert events == [*[Token("a ")] * 5, Finished("length", 1, 5)]
            answer.close()
            answer.close()
        assert ends == ["by the model"] * 3
        await backend.close()

    with triton.running() as url:
        asyncio.run(work(url), debug=True)
        assert triton.connections == 1


def test_reading_on_after_the_end_is_an_error() -> None:
    async def work(url: str) -> None:
        backend = TritonBackend()
        answer = await backend.start(serving_at(url), request_of(1), lambda _: None)
        while not isinstance((await answer.next())[-1], Finished):
            pass
        with pytest.raises(StepFailedError, match="read to its end"):
            await answer.next()
        answer.close()
        await backend.close()

    with SteppingTriton(words=1).running() as url:
        asyncio.run(work(url))


def test_a_kept_connection_that_the_server_closed_is_replaced_and_the_place_is_held() -> None:
    """As Triton closes an idle one at the very moment in which it is used again."""
    answered = 0

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answered
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split()[0]))
        answered += 1
        event = {"text_output": "a", "finish_reason": "stop", "input_tokens": 1}
        data = b"data: " + json.dumps({**event, "output_tokens": 1}).encode() + b"\n\n"
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(data), data)
        )
        await reader.readuntil(b"\r\n\r\n")  # of the next request, which is not read

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError):
            await answer_once(reader, writer)

    async def work() -> None:
        server = await asyncio.start_server(once, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        backend, ends = TritonBackend(), list[Ended]()
        for turn in range(2):
            answer = await backend.start(serving_at(url), request_of(1), ends.append)
            assert await answer.next() == [Token("a"), Finished("stop", 1, 1)]
            answer.close()
            assert ends == ["by the model"] * (turn + 1)
        await backend.close()
        server.close()

    asyncio.run(work())
    assert answered == 2
