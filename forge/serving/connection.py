"""One connection to a server that speaks HTTP/1.1, and the answer that is on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, cast

import httptools

__all__ = ["Connection", "Patience", "Response"]

_MAX_HEAD_BYTES: Final = 64 * 1024
_HELD_BYTES: Final = 256 * 1024  # beyond this no more is read until somebody takes it


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to wait: for a connection, for the first bytes, between two reads."""

    connect: float
    first: float
    gap: float


class Response:
    """An answer on its way; `close` it.

    Attributes:
        status: of HTTP, 0 before the head has come.
        kind: the Content-Type.
        heard: whether anything has come.
    """

    def __init__(self, connection: Connection, patience: Patience) -> None:
        self.status = 0
        self.kind = ""
        self.heard = False
        self._connection = connection
        self._patience = patience
        self._parser = httptools.HttpResponseParser(self)
        self._head_bytes = 0
        self._until_end = True  # of the connection: no length is given
        self._blocks: list[bytes] = []
        self._held = 0
        self._complete = False
        self._again = False  # the server waits for the next question
        self._error: OSError | None = None
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def head(self) -> None:
        """Wait until `status` and `kind` are known.

        Raises:
            TimeoutError: they did not come in time.
            OSError: the connection broke, or what came is no HTTP.
        """
        while not self.status:
            if self._error:
                raise self._error
            await self._wait(self._patience.first)

    async def read(self) -> bytes:
        """What has come of the body, at least a byte; b"" at the end.

        Raises:
            TimeoutError: nothing came for `gap` seconds.
            OSError: it broke off.
        """
        while not self._blocks:
            if self._complete:
                return b""
            if self._error:
                raise self._error
            await self._wait(self._patience.gap)
        data = self._blocks[0] if len(self._blocks) == 1 else b"".join(self._blocks)
        self._blocks.clear()
        self._held = 0
        self._connection.read_on()
        return data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The body as `read` gives it."""
        while data := await self.read():
            yield data

    def close(self) -> None:
        """Give the connection back; one whose answer was not read to its end is cut."""
        if self._timer:
            self._timer.cancel()
        self._connection.end(again=self._again and not self._blocks)

    def feed(self, data: bytes) -> None:
        """Bytes from the server."""
        self.heard = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.fail(ConnectionError(f"what came is no HTTP: {error}"))
            return
        if not self.status:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self.fail(ConnectionError(f"its head is longer than {_MAX_HEAD_BYTES} bytes"))
        if self._held > _HELD_BYTES:
            self._connection.stop_reading()
        self._wake()

    def end(self, error: Exception | None) -> None:
        """The connection is lost."""
        if self.status and self._until_end and error is None:
            self._complete = True
            self._wake()
        elif not self._complete:
            broken = error if isinstance(error, OSError) else None
            self.fail(broken or ConnectionError("the connection ended, the answer is not complete"))

    def fail(self, error: OSError) -> None:
        """Nothing more will come."""
        self._error = self._error or error
        self._wake()

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools, as for the three below."""
        field = name.lower()
        if field == b"content-type":
            self.kind = value.decode("latin-1")
        elif field in {b"content-length", b"transfer-encoding"}:
            self._until_end = False

    def on_headers_complete(self) -> None:  # noqa: D102
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:  # noqa: D102
        self._blocks.append(body)
        self._held += len(body)

    def on_message_complete(self) -> None:  # noqa: D102
        self._complete = True
        self._again = self._parser.should_keep_alive()

    async def _wait(self, seconds: float) -> None:
        """Until something happens. One timer serves all waits of an answer: most end at once."""
        self._deadline = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self._deadline:
            if self._timer:
                self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline, self._look)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _look(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._look)
        else:
            self._waiter.set_exception(TimeoutError())

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)


class Connection(asyncio.Protocol):
    """Asks one question after the other.

    Args:
        idle: called when it may be asked the next one.

    Attributes:
        used: whether it has been asked before.
        lost: whether it cannot be asked any more.
    """

    def __init__(self, idle: Callable[[Connection], None]) -> None:
        self.used = False
        self.lost = False
        self._idle = idle
        self._transport: asyncio.Transport | None = None
        self._response: Response | None = None
        self._paused = False

    def ask(self, request: bytes, patience: Patience) -> Response:
        """Send a whole request; the answer is on its way."""
        if self._transport is None:
            raise AssertionError("it has been made")
        self._response = Response(self, patience)
        self._transport.write(request)
        return self._response

    def end(self, *, again: bool) -> None:
        """The answer is done with; `again`: the server waits for the next question."""
        self.used, self._response = True, None
        if again and not self.lost:
            self.read_on()
            self._idle(self)
        else:
            self.cut()

    def cut(self) -> None:
        """Hang up at once."""
        self.lost = True
        if self._transport:
            self._transport.abort()

    def stop_reading(self) -> None:
        """Let the server wait."""
        if self._transport and not self._paused and not self.lost:
            self._transport.pause_reading()
            self._paused = True

    def read_on(self) -> None:
        """The opposite."""
        if self._transport and self._paused and not self.lost:
            self._transport.resume_reading()
            self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol, as for the two below."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:  # noqa: D102
        if self._response is None:  # bytes that belong to no question
            self.cut()
        else:
            self._response.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        self.lost = True
        if self._response:
            self._response.end(exc)
