"""Comments in a stream whose model has not said anything yet, so that proxies keep it open.

The status of a stream is decided by the model's first event. When a request has a place and that
event does not come for some time, the status 200 is sent all the same, and then comments
(`: keep-alive`), which clients of server-sent events ignore. An error after that is an event inside
the 200, as after the first token. While a request waits in the queue no comment is sent: it may
still be refused with 429.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any, Final

from starlette.types import Message, Send

__all__ = ["STREAM_START", "KeepAlive", "expect_stream", "place_taken"]

_COMMENT: Final = b": keep-alive\n\n"
_CONTENT_TYPE: Final = (b"content-type", b"text/event-stream; charset=utf-8")
STREAM_START: Final[dict[str, Any]] = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"cache-control", b"no-store"), (b"x-accel-buffering", b"no"), _CONTENT_TYPE],
}
"""ASGI's message that begins a stream."""


class KeepAlive:
    """The comments of one request, until its response begins.

    Args:
        send: ASGI's.
        pause_s: before the first comment and between them.
        error_event: the line before the data of an error event; b"" for none.
    """

    def __init__(self, send: Send, pause_s: float, error_event: bytes = b"") -> None:
        self._send = send
        self._pause_s = pause_s
        self._error_event = error_event
        self._streamed = self._started = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def enter(self) -> None:
        """Make this the one of the current task."""
        _CURRENT.set(self)

    def expect_stream(self) -> None:
        """Allow comments, because the response will be a stream."""
        self._streamed = True

    def begin(self) -> None:
        """Send comments from now on, the first after a pause."""
        if self._streamed and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._pause_s, self._start)

    async def end(self) -> Send:
        """Send no further comment; return the `send` with which the response continues."""
        if self._timer:
            self._timer.cancel()
        if self._task:
            self._task.cancel()
            await asyncio.wait((self._task,))
        return self._continue if self._started else self._send

    def _start(self) -> None:
        self._task = asyncio.create_task(self._send_comments())

    async def _send_comments(self) -> None:
        await self._send(STREAM_START)
        self._started = True
        while True:
            await self._send({"type": "http.response.body", "body": _COMMENT, "more_body": True})
            await asyncio.sleep(self._pause_s)

    async def _continue(self, message: Message) -> None:
        if message["type"] == "http.response.start":  # it is too late for another status
            self._is_error = _CONTENT_TYPE not in message["headers"]
        elif self._is_error:
            event = b"%bdata: %b\n\n" % (self._error_event, message.get("body", b""))
            await self._send({**message, "body": event})
        else:
            await self._send(message)


_CURRENT: ContextVar[KeepAlive | None] = ContextVar("keep_alive", default=None)


def expect_stream() -> None:
    """Say that the response to the current request will be a stream."""
    if current := _CURRENT.get():
        current.expect_stream()


def place_taken() -> None:
    """Say that the current request has its place in the model."""
    if current := _CURRENT.get():
        current.begin()
