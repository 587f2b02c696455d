"""Connections to a server of the test's own, which says byte for byte what a test wants."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import Any

import pytest

from forge.serving.triton.http_pool import TritonConnectionPool
from forge.serving.triton.request import HttpTimeouts

TIMEOUTS = HttpTimeouts(connect=5, first=5, gap=5)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@dataclass
class Server:
    """Reads a request, then has `answer` write; counts connections, keeps what it was asked."""

    answer: Answer
    url: str = ""
    connections: int = 0
    asked: list[bytes] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[TritonConnectionPool]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        pool = TritonConnectionPool()
        async with server:
            try:
                yield pool
            finally:
                pool.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = 0
        try:
            while head := await self._request(reader):
                self.asked.append(head)
                await self.answer(reader, writer, number)
                await writer.drain()
                number += 1
                if writer.is_closing():
                    break
        except ConnectionError:
            pass
        finally:
            self.left.set()
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return b""
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        return head + await reader.readexactly(length)


def says(*pieces: bytes, pause_s: float = 0.0) -> Answer:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: int) -> None:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(pause_s)

    return answer


async def ask(pool: TritonConnectionPool, url: str, timeouts: HttpTimeouts = TIMEOUTS) -> bytes:
    with closing(await pool.request("POST", f"{url}/v2/x", b'{"a": 1}', timeouts)) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        return b"".join([data async for data in response])


def run(server: Server, work: Callable[[TritonConnectionPool, str], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with asyncio.timeout(30), server.running() as pool:
            return await work(pool, server.url)

    return asyncio.run(main())


def test_a_request_is_one_whole_and_the_connection_is_used_again() -> None:
    server = Server(says(HEAD, chunk(b"data: 1\n\n"), chunk(b"data: 2\n\n"), END))

    async def work(pool: TritonConnectionPool, url: str) -> list[bytes]:
        return [await ask(pool, url) for _ in range(3)]

    assert run(server, work) == [b"data: 1\n\ndata: 2\n\n"] * 3
    assert server.connections == 1
    head, _, body = server.asked[0].decode().partition("\r\n\r\n")
    assert body == '{"a": 1}'
    assert sorted(head.split("\r\n")) == [
        "Accept: */*", "Content-Length: 8", "Content-Type: application/json",
        f"Host: {server.url[7:]}", "POST /v2/x HTTP/1.1",
    ]  # fmt: skip


@pytest.mark.parametrize("size", [1, 7, 50])
def test_the_answer_is_the_same_however_its_bytes_are_cut(size: int) -> None:
    whole = HEAD + chunk(b"data: 1\n\n") + chunk(b"x" * 100) + END
    pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
    assert run(Server(says(*pieces, pause_s=0.001)), ask) == b"data: 1\n\n" + b"x" * 100


def test_each_of_those_who_ask_at_once_has_a_connection_of_its_own() -> None:
    server = Server(says(HEAD, chunk(b"a"), END, pause_s=0.05))

    async def work(pool: TritonConnectionPool, url: str) -> list[bytes]:
        return await asyncio.gather(*(ask(pool, url) for _ in range(5)))

    assert run(server, work) == [b"a"] * 5
    assert server.connections == 5


def hang_up(writer: asyncio.StreamWriter, how: str) -> None:
    if how == "reset":
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.close()


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_a_connection_that_the_server_gave_up_meanwhile_is_replaced(how: str) -> None:
    async def once(_: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        if number:
            hang_up(writer, how)  # as a server whose patience with idle connections has ended
        else:
            writer.write(HEAD + chunk(b"a") + END)

    server = Server(once)

    async def work(pool: TritonConnectionPool, url: str) -> list[bytes]:
        return [await ask(pool, url), await ask(pool, url)]

    assert run(server, work) == [b"a", b"a"]
    assert server.connections == 2


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_what_ends_the_server_on_a_fresh_connection_is_not_asked_again(how: str) -> None:
    async def dies(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: int) -> None:
        hang_up(writer, how)

    server = Server(dies)
    with pytest.raises(ConnectionError):
        run(server, ask)
    assert len(server.asked) == 1


def test_a_kept_connection_is_replaced_once() -> None:
    async def dies(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: int) -> None:
        if len(server.asked) > 1:
            writer.close()
        else:
            writer.write(HEAD + chunk(b"a") + END)

    server = Server(dies)

    async def work(pool: TritonConnectionPool, url: str) -> None:
        await ask(pool, url)
        with pytest.raises(ConnectionError):
            await ask(pool, url)

    run(server, work)
    assert len(server.asked) == 3


def test_half_a_head_on_a_kept_connection_is_not_asked_again() -> None:
    async def breaks(_: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        if number:
            writer.write(HEAD[:-2])
            writer.close()
        else:
            writer.write(HEAD + chunk(b"a") + END)

    server = Server(breaks)

    async def work(pool: TritonConnectionPool, url: str) -> None:
        await ask(pool, url)
        with pytest.raises(ConnectionError):
            await ask(pool, url)

    run(server, work)
    assert len(server.asked) == 2


def test_an_answer_that_breaks_off_is_an_error_and_is_not_asked_again() -> None:
    async def breaks(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: int) -> None:
        writer.write(HEAD + chunk(b"a"))
        writer.close()

    server = Server(breaks)
    with pytest.raises(ConnectionError, match="before the response was complete"):
        run(server, ask)
    assert len(server.asked) == 1


def test_what_is_no_http_is_an_error() -> None:
    with pytest.raises(ConnectionError, match="HTTP"):
        run(Server(says(b"220 mail.example ESMTP\r\n\r\n")), ask)


def test_a_body_with_a_length_is_read_to_its_end() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 3\r\n\r\n"
    assert run(Server(says(head, b"abc")), ask) == b"abc"


@pytest.mark.parametrize("said", [(), (HEAD, chunk(b"a"))], ids=["no head", "half a body"])
def test_a_server_that_falls_silent_is_given_up(said: tuple[bytes, ...]) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        writer.write(b"".join(said))
        await reader.read(1)

    with pytest.raises(TimeoutError):
        run(Server(silent), lambda pool, url: ask(pool, url, HttpTimeouts(5, 0.2, 0.2)))


def test_a_slow_reader_is_no_silent_server() -> None:
    server = Server(says(HEAD, chunk(b"a"), chunk(b"b"), END))

    async def work(pool: TritonConnectionPool, url: str) -> bytes:
        with closing(await pool.request("POST", url, b"", HttpTimeouts(5, 0.1, 0.1))) as response:
            await asyncio.sleep(0.4)
            return b"".join([data async for data in response])

    assert run(server, work) == b"ab"


def test_leaving_early_hangs_up_so_that_the_server_can_stop() -> None:
    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: int) -> None:
        writer.write(HEAD)
        while True:
            writer.write(chunk(b"a"))
            await writer.drain()
            await asyncio.sleep(0.01)

    server = Server(endless)

    async def work(pool: TritonConnectionPool, url: str) -> None:
        with closing(await pool.request("POST", url, b"", TIMEOUTS)) as response:
            assert await response.read()
        await asyncio.wait_for(server.left.wait(), 5)

    run(server, work)


def test_a_reader_that_stops_bounds_what_is_kept_for_it() -> None:
    written = 0

    async def floods(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: int) -> None:
        nonlocal written
        writer.write(HEAD)
        piece = chunk(b"x" * 65536)
        for _step in range(1000):
            writer.write(piece)
            await writer.drain()
            written += len(piece)
        writer.write(END)

    async def work(pool: TritonConnectionPool, url: str) -> tuple[int, int]:
        with closing(await pool.request("POST", url, b"", TIMEOUTS)) as response:
            await asyncio.sleep(0.5)
            held = written
            return held, sum([len(data) async for data in response])

    held, read = run(Server(floods), work)
    assert held < 16 * 1024 * 1024  # the buffers of two sockets, and 256 KiB
    assert read == 1000 * 65536


def test_a_port_where_nobody_listens_is_an_error() -> None:
    async def work(pool: TritonConnectionPool, _: str) -> bytes:
        return await ask(pool, "http://127.0.0.1:9")

    with pytest.raises(OSError, match="Connect"):
        run(Server(says()), work)
