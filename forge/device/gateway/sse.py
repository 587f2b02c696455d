"""Send server-sent events to one client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from starlette.types import Receive, Scope, Send

from forge.device.gateway.connection_limits import abort_connection
from forge.device.gateway.disconnect import (
    DISCONNECT_EXTENSION,
    CancelOnDisconnect,
    ClientDisconnectedError,
    WatchedConnection,
)
from forge.device.gateway.generation import Outcome
from forge.device.gateway.keep_alive import STREAM_START
from forge.device.gateway.request_id import current_request_id
from forge.errors import ForgeError
from forge.serving.triton.stream import StreamEvent

__all__ = ["EventSource", "EventStream", "StreamEncoder"]

_log = logging.getLogger(__name__)
_FINAL_EVENT_S: Final = 1.0  # to send the error event after the deadline


class EventSource(Protocol):
    """What is streamed: a Generation, or several that are read as one."""

    until: float

    async def next(self) -> Sequence[StreamEvent]:
        """Return the next events."""

    async def pump(self, handle: Callable[[Sequence[StreamEvent]], bool], /) -> None:
        """Call `handle` with events as they come, until it returns False. See ModelAnswer.pump."""

    def limited(self) -> AbstractAsyncContextManager[None]:
        """Raise RequestTimeoutError at the deadline."""

    async def aclose(self, outcome: Outcome | None = None) -> None:
        """Stop it if it has not ended."""


class StreamEncoder(Protocol):
    """Encodes the events of one answer in the format of an API."""

    @property
    def finished(self) -> bool:
        """Whether the answer is complete and no more events are wanted."""

    def start(self) -> bytes:
        """Return what comes before the first text."""

    def feed(self, batch: Sequence[StreamEvent]) -> bytes:
        """Return the bytes of these events; b"" if there is nothing to send yet."""

    def end(self) -> bytes:
        """Return what ends a complete answer."""

    def error(self, error: ForgeError, /) -> bytes:
        """Return the event for an error: it is too late for an HTTP status."""


class EventStream:
    """An ASGI response that streams a generation, which is closed in every case.

    Pieces go from Triton's connection to the client's without waking a task, as long as the client
    reads them; otherwise `send` waits for it, and the rest is kept until then.
    """

    _connection: WatchedConnection

    def __init__(self, generation: EventSource, encoder: StreamEncoder) -> None:
        self._generation = generation
        self._encoder = encoder
        self._left = b""  # encoded and not sent
        self._failure: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; then close the generation, whether the client read all of it or not."""
        self._connection = scope["extensions"][DISCONNECT_EXTENSION]["connection"]
        try:
            with CancelOnDisconnect(scope):
                await self._send_all(send)
        except ClientDisconnectedError:
            pass
        except TimeoutError:  # the client does not read the final event either
            await abort_connection(scope, receive)
        finally:
            await self._generation.aclose()

    async def _send_all(self, send: Send) -> None:
        try:
            async with self._generation.limited():
                await send(STREAM_START)
                await self._send_events(send)
                # The model stops and its place is free before the client sees the end.
                await self._generation.aclose("complete")
                last = self._left + self._encoder.end()
        except ForgeError as error:
            _log.warning("request %s ended with an error: %s", current_request_id(), error)
            last = self._encoder.error(error)
        async with asyncio.timeout_at(self._generation.until + _FINAL_EVENT_S):
            await send({"type": "http.response.body", "body": last, "more_body": False})

    async def _send_events(self, send: Send) -> None:
        """Send the events as they come; leave the bytes of the last ones."""
        self._left = self._encoder.start()
        while True:
            self._left += self._encoder.feed(await self._generation.next())
            if self._encoder.finished:
                return
            if self._left:
                data, self._left = self._left, b""
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await self._generation.pump(self._pass_on)
            if self._failure:
                raise self._failure
            if self._encoder.finished:
                return

    def _pass_on(self, batch: Sequence[StreamEvent]) -> bool:
        """Send events from the event loop's callback; return whether more may follow."""
        try:
            data = self._encoder.feed(batch)
        except Exception as error:  # noqa: BLE001 - raised again in the task of the request
            self._failure = error
            return False
        if self._encoder.finished or (data and not self._connection.write_piece(data)):
            self._left = data
            return False
        return True
