"""Kept-alive connections to one server from asyncio: a request in one write, bytes as they come.

    async with pool.exchange("POST", path, body, Patience(...)) as response:
        async for data in response: ...

A general client costs more here than all the rest of the gateway: 10 ms of processor time for an
answer of 32 tokens came down to less than half with this one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

__all__ = ["Connections", "Patience", "Response"]

_MOST_IDLE: Final = 64
_MOST_BUFFERED: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to wait: for a connection, for the first bytes, between two reads."""

    connect: float
    first: float
    gap: float


class Response(asyncio.Protocol):
    """One connection, and the response that comes over it now.

    Attributes:
        status: of HTTP, once `begun` has returned.
        kind: the Content-Type.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        self.status, self.kind = 0, ""
        self.heard = False
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: deque[bytes] = deque()
        self._buffered = 0
        self._paused = self._complete = self._keep = False
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._watch: asyncio.TimerHandle | None = None

    def send(self, request: bytes, patience: Patience) -> None:
        """Ask; the answer to the request before has been read."""
        self._reset()
        self._patience = patience
        self._since = self._loop.time()
        self._watch = self._loop.call_later(min(patience.first, patience.gap), self._look)
        self._transport.write(request)

    async def begun(self) -> None:
        """Wait for the head. Raises ConnectionError, or TimeoutError after `first` seconds."""
        while not self.status:
            await self._wait()

    async def read(self) -> bytes:
        """What has come, at least a byte; b"" at the end. Raises as `begun`, after `gap` s."""
        while not self._pieces:
            if self._complete:
                return b""
            await self._wait()
        data = b"".join(self._pieces) if len(self._pieces) > 1 else self._pieces[0]
        self._pieces.clear()
        self._buffered = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The body as `read` gives it."""
        while data := await self.read():
            yield data

    @property
    def reusable(self) -> bool:
        """Whether another request can go over this connection."""
        return self._complete and self._keep and not self._closed and not self._pieces

    def rest(self) -> None:
        """Nothing is awaited any more."""
        if self._watch:
            self._watch.cancel()

    def abort(self) -> None:
        """Hang up: the server learns that nobody reads."""
        self.rest()
        self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to write."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are of no asyncio class

    def data_received(self, data: bytes) -> None:
        """Parse; whoever waits goes on once for all that came together."""
        self.heard, self._since = True, self._loop.time()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(f"what came is no HTTP: {error}"))
            return
        if self._buffered > _MOST_BUFFERED and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """An answer that is not complete has failed."""
        self._closed = True
        self.rest()
        if not self._complete:
            why = str(exc) if exc else "the server closed the connection"
            self._fail(ConnectionResetError(why))

    # What httptools calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Of the head only the kind matters."""
        if name.lower() == b"content-type":
            self.kind = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._pieces.append(body)
        self._buffered += len(body)

    def on_message_complete(self) -> None:
        """The end of the body."""
        self._complete, self._keep = True, self._parser.should_keep_alive()
        self.rest()

    async def _wait(self) -> None:
        if self._failure:
            raise self._failure
        self._since = self._loop.time()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        self._wake()
        if not self._closed:
            self.abort()

    def _look(self) -> None:
        """One timer for all reads: it is moved when it fires, not for each."""
        limit = self._patience.gap if self.heard else self._patience.first
        left = self._since + limit - self._loop.time()
        if left <= 0 and self._waiter:
            self._fail(TimeoutError(f"nothing came for {limit:g} s"))
            return
        self._watch = self._loop.call_later(max(left, 0.01), self._look)


class Connections:
    """The connections to one server; used from one event loop only."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._head = f" HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: */*\r\n"
        self._idle: list[Response] = []
        self._ended = False

    @asynccontextmanager
    async def exchange(
        self, method: str, path: str, body: bytes, patience: Patience
    ) -> AsyncIterator[Response]:
        """Ask, and hold the connection until the body; one that was not read to its end is cut.

        Raises:
            TimeoutError: no connection or no head in time.
            OSError: no connection, or it broke.
        """
        head = f"{method} {path}{self._head}Content-Length: {len(body)}\r\n"
        kind = "Content-Type: application/json\r\n" if body else ""
        response = await self._ask(f"{head}{kind}\r\n".encode() + body, patience)
        try:
            yield response
        finally:
            self._give_back(response)

    def close(self) -> None:
        """Hang up all that are idle; what is under way ends by itself."""
        self._ended = True
        while self._idle:
            self._idle.pop().abort()

    async def _ask(self, request: bytes, patience: Patience) -> Response:
        while True:
            kept = self._kept()
            response = kept or await self._connect(patience.connect)
            response.send(request, patience)
            try:
                await response.begun()
            except ConnectionError:
                # The server hung up while the connection was idle: it has seen nothing of this.
                if kept and not response.heard:
                    continue
                raise
            except BaseException:
                response.abort()
                raise
            return response

    def _kept(self) -> Response | None:
        while self._idle:
            response = self._idle.pop()
            if response.reusable:
                return response
        return None

    async def _connect(self, limit_s: float) -> Response:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(limit_s):
            _, response = await loop.create_connection(Response, self._host, self._port)
        return response

    def _give_back(self, response: Response) -> None:
        if response.reusable and not self._ended and len(self._idle) < _MOST_IDLE:
            self._idle.append(response)
        else:
            response.abort()
