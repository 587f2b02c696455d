"""One HTTP/1.1 connection to a server, and the response that it is receiving."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, Protocol, cast

import httptools

from forge.serving.triton.request import HttpTimeouts

__all__ = ["Connection", "Response", "ResponseObserver", "Unread", "UnreadLimit"]

_MAX_HEAD_BYTES: Final = 64 * 1024
_HELD_BYTES: Final = 256 * 1024  # beyond this, reading pauses until `read` is called
_MAX_READ_BYTES: Final = 64 * 1024  # that `read` returns: its reader handles them as one piece


class ResponseObserver(Protocol):
    """Learns what happens to a response whose reader is busy or has gone.

    Both methods are called by the event loop and must not wait.
    """

    def response_ended(self) -> None:
        """Handle the end: it is complete, it failed, or it was closed. Called once."""

    def response_overran(self) -> None:
        """Handle that its unread bytes were dropped because they became too many."""


class UnreadLimit:
    """Bounds the bytes that were received and not read yet, of several responses in sum.

    A response whose bytes are bounded by it never makes its server wait. The one that holds the
    most loses its bytes when the sum is reached, so that a few slow readers cannot use up what all
    others need.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self._holders: set[Response] = set()

    def add(self, response: Response, count: int) -> None:
        """Count bytes of a response."""
        self.held += count
        self._holders.add(response)
        while self.held > self.most:
            max(self._holders, key=lambda one: one.held).overrun()

    def remove(self, response: Response) -> None:
        """Stop counting the bytes of a response."""
        self.held -= response.held
        self._holders.discard(response)


@dataclass(frozen=True, slots=True)
class Unread:
    """What may be received and not read yet of one response.

    Attributes:
        most: bytes; beyond them all are dropped.
        limit: bounds them together with those of other responses.
    """

    most: int
    limit: UnreadLimit


class Response:
    """A response that is being received; `close` or `discard` it.

    Args:
        connection: receives it.
        timeouts: of `head` and `read`.
        unread: what may be held until it is read; None: reading pauses instead, and the server
            waits.
        observer: learns of the end.

    Attributes:
        status: of HTTP, 0 before the head was received.
        content_type: the Content-Type.
        started: whether any byte was received.
        ended: whether nothing more will be received.
        held: bytes of the body that were not read yet.
    """

    def __init__(
        self,
        connection: Connection,
        timeouts: HttpTimeouts,
        unread: Unread | None = None,
        observer: ResponseObserver | None = None,
    ) -> None:
        self.status = 0
        self.content_type = ""
        self.started = False
        self.ended = False
        self.held = 0
        self._connection = connection
        self._timeouts = timeouts
        self._unread = unread
        self._observer = observer
        self._parser = httptools.HttpResponseParser(self)
        self._head_bytes = 0
        self._until_end = True  # of the connection: the response gives no length
        self._body = bytearray()
        self._handle: Callable[[bytes], bool] | None = None  # while `pump` runs
        self._discarding = False
        self._closed = False
        self._complete = False
        self._reusable = False  # the server accepts another request
        self._error: OSError | None = None
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def never_received(self) -> bool:
        """Whether the server closed a kept connection before it received this request.

        Sending it again is safe then. On a fresh connection this very request may have ended it.
        """
        lost = isinstance(self._error, ConnectionError)
        return lost and self._connection.used and not self.started

    async def head(self) -> None:
        """Wait until `status` and `content_type` are known.

        Raises:
            TimeoutError: the head was not received in time.
            OSError: the connection broke, or the response is not valid HTTP.
        """
        while not self.status:
            if self._error:
                raise self._error
            await self._wait(self._timeouts.first)

    async def read(self) -> bytes:
        """Return bytes of the body received so far, at least one, 64 KiB at most; b"" at the end.

        Raises:
            TimeoutError: no byte was received for `gap` seconds.
            OSError: the connection broke.
        """
        while not self._body:
            if self._complete:
                return b""
            if self._error:
                raise self._error
            await self._wait(self._timeouts.gap)
        return self._take()

    async def pump(self, handle: Callable[[bytes], bool]) -> None:
        """Call `handle` with bytes of the body as they arrive, until it returns False.

        Returns at the end of the response too, and when it fails: `read` says which it was. No task
        is woken for each piece, which costs more than most of what is done with it.

        Raises:
            TimeoutError: no byte was received for `gap` seconds.
        """
        while self._body:
            if not handle(self._take()):
                return
        self._handle = handle
        try:
            while not (self._body or self._complete or self._error or self._handle is None):
                await self._wait(self._timeouts.gap)
        finally:
            self._handle = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body as `read` returns it."""
        while data := await self.read():
            yield data

    def _take(self) -> bytes:
        data = bytes(self._body[:_MAX_READ_BYTES])
        left = len(self._body) - len(data)
        self._set_body(self._body[_MAX_READ_BYTES:] if left else bytearray())
        if left <= _HELD_BYTES:
            self._connection.resume()
        return data

    async def wait_end(self, seconds: float, *, or_start: bool = False) -> bool:
        """Wait until the response has ended, or has begun; return whether it has.

        Use it after `discard` only: `head` and `read` wait in the same way.
        """
        until = self._loop.time() + seconds
        while not (self.ended or (or_start and self.started)):
            try:
                await self._wait(until - self._loop.time())
            except TimeoutError:
                return False
        return True

    def discard(self) -> None:
        """Drop what was received and what will be; then return the connection to the pool.

        The server is not told: it goes on sending, and the observer learns of the end.
        """
        self._discarding = True
        self._set_body(bytearray())
        self._connection.resume()
        if self.ended:
            self.close()

    def overrun(self) -> None:
        """Drop what was received and what will be; `read` raises OSError."""
        self._error = self._error or OSError("the answer is larger than what is kept for a reader")
        self._discarding = True
        self._set_body(bytearray())
        if self._observer:
            self._observer.response_overran()
        self._wake()

    def close(self) -> None:
        """Return the connection to the pool; close it if the response was not read to its end."""
        if self._closed:
            return
        self._closed = True
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._connection.end(reusable=self._reusable and not self._body)
        self._set_body(bytearray())
        self._end()
        self._wake()

    def feed(self, data: bytes) -> None:
        """Parse bytes from the server."""
        self.started = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.fail(ConnectionError(f"the response is not valid HTTP: {error}"))
            return
        if not self.status:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self.fail(
                    ConnectionError(f"the response's head is longer than {_MAX_HEAD_BYTES} bytes")
                )
        if self._complete:
            self._end()
        elif not self._unread and self.held > _HELD_BYTES:
            self._connection.pause()
        if self._handle and self._hand_over(self._handle):
            return
        self._wake()

    def end(self, error: Exception | None) -> None:
        """Handle the loss of the connection."""
        if self.status and self._until_end and error is None:
            self._complete = True
            self._end()
            self._wake()
        elif not self._complete:
            broken = error if isinstance(error, OSError) else None
            self.fail(
                broken
                or ConnectionError("the connection was closed before the response was complete")
            )

    def fail(self, error: OSError) -> None:
        """Make the next `head` or `read` raise this error."""
        self._error = self._error or error
        self._end()
        self._wake()

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools, as for the three below."""
        field = name.lower()
        if field == b"content-type":
            self.content_type = value.decode("latin-1")
        elif field in {b"content-length", b"transfer-encoding"}:
            self._until_end = False

    def on_headers_complete(self) -> None:  # noqa: D102
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:  # noqa: D102
        if self._discarding:
            return
        self._body += body
        self.held += len(body)
        if self._unread:
            self._unread.limit.add(self, len(body))
            if self.held > self._unread.most:
                self.overrun()

    def on_message_complete(self) -> None:  # noqa: D102
        self._complete = True
        self._reusable = self._parser.should_keep_alive()

    def _hand_over(self, handle: Callable[[bytes], bool]) -> bool:
        """Call `handle` with what has arrived; return whether `pump` continues."""
        while self._body:
            if not handle(self._take()):
                self._handle = None
                return False
        self._deadline = self._loop.time() + self._timeouts.gap
        return not (self._complete or self._error)

    def _set_body(self, body: bytearray) -> None:
        if self._unread:
            self._unread.limit.remove(self)
        self._body, self.held = body, len(body)
        if self._unread and body:
            self._unread.limit.add(self, len(body))

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            if self._observer:
                self._observer.response_ended()
            if self._discarding:
                self.close()

    async def _wait(self, seconds: float) -> None:
        """Wait until data or an error arrives. One timer serves all waits: most end at once."""
        self._deadline = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self._deadline:
            if self._timer:
                self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline, self._on_timer)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _on_timer(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._on_timer)
        else:
            self._waiter.set_exception(TimeoutError())

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)


class Connection(asyncio.Protocol):
    """Sends one request after the other.

    Args:
        idle: called when the connection can take the next request.

    Attributes:
        lost: whether the connection is closed.
        used: whether it has received a response before this one.
    """

    def __init__(self, idle: Callable[[Connection], None]) -> None:
        self.lost = False
        self.used = False
        self._idle = idle
        self._transport: asyncio.Transport | None = None
        self._response: Response | None = None
        self._paused = False

    def send(
        self,
        request: bytes,
        timeouts: HttpTimeouts,
        unread: Unread | None = None,
        observer: ResponseObserver | None = None,
    ) -> Response:
        """Send a whole request and return its response, which is yet to be received.

        Args:
            request: its bytes.
            timeouts: see Response.
            unread: see Response.
            observer: see Response.
        """
        if self._transport is None:
            raise AssertionError("connection_made was not called")
        self._response = Response(self, timeouts, unread, observer)
        self._transport.write(request)
        return self._response

    def end(self, *, reusable: bool) -> None:
        """Detach the response; keep the connection if the server accepts another request."""
        self._response = None
        if reusable and not self.lost:
            self.used = True
            self.resume()
            self._idle(self)
        else:
            self.abort()

    def abort(self) -> None:
        """Close the connection at once."""
        self.lost = True
        if self._transport:
            self._transport.abort()

    def pause(self) -> None:
        """Stop reading, so that TCP makes the server wait."""
        if self._transport and not self._paused and not self.lost:
            self._transport.pause_reading()
            self._paused = True

    def resume(self) -> None:
        """Read again after `pause`."""
        if self._transport and self._paused and not self.lost:
            self._transport.resume_reading()
            self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol, as for the two below."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:  # noqa: D102
        if self._response is None:  # bytes that belong to no request
            self.abort()
        else:
            self._response.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        self.lost = True
        if self._response:
            self._response.end(exc)
