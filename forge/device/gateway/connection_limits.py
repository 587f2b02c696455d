"""Limits on connections: slow, idle, stalled and too many clients.

    more connections than `most`                                    503 at once
    one in the last quarter of them, of an address that has as many     503 at once
    a head that is not complete after `head_s`, or longer than 64 KiB    closed
    a client that reads nothing of what is sent to it for `stalled_s`    closed
    no request for `idle_s`                                              closed

The gateway and the agent share their file descriptors, so `most` is a quarter of what the process
may open: a quarter is for connections about to be refused, one for those to Triton, one for the
agent.
"""

from __future__ import annotations

import asyncio
import fcntl
import resource
import select
import sys
import termios
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, cast

from starlette.types import Receive, Scope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from forge.device.gateway.caller import address_of
from forge.device.gateway.disconnect import DISCONNECT_EXTENSION, CancelOnDisconnect
from forge.device.gateway.errors import ServiceUnavailableError, json_error
from forge.device.telemetry.metrics import Metrics
from forge.errors import ForgeError, UsageError

__all__ = [
    "METRICS_STATE",
    "ConnectionLimits",
    "JoinedHead",
    "LimitedConnection",
    "abort_connection",
]

METRICS_STATE: Final = "forge.metrics"
"""The key of the application's lifespan state under which the metrics are."""
_MOST: Final = 2048  # uvicorn's own backlog
_MAX_HEAD_BYTES: Final = 64 * 1024
_HEAD: Final = b"HTTP/1.1 "
_HANG_UP_S: Final = 0.1
_FULL: Final = ServiceUnavailableError(
    "The device has as many connections as it allows", hint="retry in 5 s", retry_after_s=5
)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits on the connections of one gateway.

    Attributes:
        most: open at once.
        head_s: for a request's head, from its first byte or the start of the connection.
        idle_s: between an answer and the next request.
        stalled_s: in which a client must read some of the bytes sent to it.
    """

    most: int = _MOST
    head_s: float = 10.0
    # Longer than clients keep idle connections (httpx: 5 s): if the server closes first, a request
    # that is just being sent gets a broken connection.
    idle_s: int = 75
    stalled_s: float = 30.0

    @property
    def reserved(self) -> int:
        """How many connections are kept for addresses that have fewer than this."""
        return self.most // 4

    @property
    def burst(self) -> int:
        """How many connections asyncio may accept in one iteration of its loop.

        It takes four iterations to close one that is too many, and each accepts this many.
        """
        return max(16, self.most // 4)

    @classmethod
    def here(cls) -> ConnectionLimits:
        """Return the limits for the files that this process may open now."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return cls(_MOST if soft == resource.RLIM_INFINITY else max(1, min(_MOST, soft // 4)))


class JoinedHead:
    """A transport that writes a response's head together with what follows at once.

    uvicorn writes the head alone, and each write is a system call that may wake the client. A head
    that nothing follows is written in the next turn of the event loop.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes) -> None:
        """Write data, or hold it until the next write if it is a head."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_HEAD):
            self._head = data
            self._loop.call_soon(self.flush)
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Write the head if it is held."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        """Close after what is held was sent."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        """Return everything else of the transport."""
        return getattr(self._transport, name)


class LimitedConnection(HttpToolsProtocol):
    """A connection of uvicorn with limits.

    It overrides private methods of uvicorn's protocol: pyproject.toml pins the minor version, and
    tests/unit/device/gateway/test_uvicorn_contract.py checks their signatures.
    """

    def __init__(
        self,
        bounds: ConnectionLimits,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._bounds = bounds
        self._head: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._stalled: asyncio.TimerHandle | None = None
        self._hang_up: asyncio.TimerHandle | None = None
        self.lost = False
        self.on_disconnect: set[CancelOnDisconnect] = set()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, or answer 503 if there are too many."""
        super().connection_made(cast("asyncio.Transport", JoinedHead(transport, self.loop)))
        # So that `pause_writing` is called for every byte that the client has not read.
        transport.set_write_buffer_limits(high=0)
        if self._too_many():
            transport.write(_response(_FULL))
            transport.close()
        else:
            self._start_head_timer()

    def _too_many(self) -> bool:
        """Return whether this connection, which is counted already, is one too many."""
        left = self._bounds.most - len(self.connections)
        if left < 0 or left >= self._bounds.reserved:
            return left < 0
        # Only near the limit: it reads the addresses of all connections.
        mine = address_of(self.client)
        others = (address_of(cast("LimitedConnection", one).client) for one in self.connections)
        return sum(one == mine for one in others) > self._bounds.reserved

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers and the work for this client."""
        self._cancel_head_timer()
        self._cancel_stall_timer()
        if self._hang_up:
            self._hang_up.cancel()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self.lost = True
        for one in tuple(self.on_disconnect):
            one.cancel()

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a head; uvicorn parses them."""
        answered = getattr(self.cycle, "response_complete", True)  # None before the first head
        if self._head is None and answered:
            self._start_head_timer()
        super().data_received(data)
        if self._head is not None:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self.transport.abort()

    def write_piece(self, data: bytes) -> bool:
        """Send a piece of a stream's body at once; False: not all before it was read.

        It is what ASGI's `send` does with a piece, in a tenth of the time.
        """
        if self.flow.write_paused or self.lost:
            return False
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP in JSON, as every other error."""
        self.transport.write(_response(UsageError(msg), HTTPStatus.BAD_REQUEST))
        self.transport.close()

    def on_message_begin(self) -> None:
        """Give the application access to this connection."""
        super().on_message_begin()
        self.scope["extensions"] = {DISCONNECT_EXTENSION: {"connection": self}}

    def on_headers_complete(self) -> None:
        """Stop the timer of the head: the body has limits of its own."""
        self._cancel_head_timer()
        super().on_headers_complete()
        if self.pipeline and self._hang_up is None:
            self._watch_for_hang_up()

    def timeout_keep_alive_handler(self) -> None:
        """Abort an idle connection: closing would wait for a client that does not read."""
        self.transport.abort()

    def pause_writing(self) -> None:
        """Start the stall timer: the client has not read everything."""
        super().pause_writing()
        self._start_stall_timer(self._unread())

    def resume_writing(self) -> None:
        """Stop the stall timer: the client has read everything."""
        self._cancel_stall_timer()
        super().resume_writing()

    def _start_head_timer(self) -> None:
        self._head_bytes = 0
        self._head = self.loop.call_later(self._bounds.head_s, self.transport.abort)

    def _cancel_head_timer(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _watch_for_hang_up(self) -> None:
        """Ask the kernel whether the client has gone.

        While requests wait behind another on their connection, uvicorn does not read, so that the
        end of the client's bytes is not seen.
        """
        self._hang_up = None
        if not self.flow.read_paused:
            return
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
        if poll.poll(0):
            self.transport.abort()
        else:
            self._hang_up = self.loop.call_later(_HANG_UP_S, self._watch_for_hang_up)

    def _start_stall_timer(self, left: int) -> None:
        self._cancel_stall_timer()
        self._stalled = self.loop.call_later(self._bounds.stalled_s, self._on_stall_timer, left)

    def _on_stall_timer(self, before: int) -> None:
        left = self._unread()
        if left < before:
            self._start_stall_timer(left)
        else:
            self.cut("stalled")

    def cut(self, limit: str) -> None:
        """Close the connection of a client that does not read its answer; count it."""
        metrics: Metrics | None = self.app_state.get(METRICS_STATE)
        if metrics:
            metrics.add("forge_device_slow_clients_total", limit=limit)
        self.transport.abort()

    def _unread(self) -> int:
        """Bytes not read yet, here and in the kernel, which may hold megabytes."""
        descriptor = self.transport.get_extra_info("socket").fileno()
        sent = fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4))
        return self.transport.get_write_buffer_size() + int.from_bytes(sent, sys.byteorder)

    def _cancel_stall_timer(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


def _response(error: ForgeError, status: HTTPStatus | None = None) -> bytes:
    """Return the whole response to a connection that is closed after it."""
    response = json_error("/health", error, status)  # the path is not known; this shape fits all
    code = HTTPStatus(response.status_code)
    headers = [*response.raw_headers, (b"connection", b"close")]
    lines = [f"HTTP/1.1 {code.value} {code.phrase}".encode(), *map(b": ".join, headers)]
    return b"\r\n".join([*lines, b"", response.body])


async def abort_connection(scope: Scope, receive: Receive) -> None:
    """Close the connection of a request whose time is over, and drop unsent data."""
    connection: LimitedConnection = scope["extensions"][DISCONNECT_EXTENSION]["connection"]
    connection.cut("time")
    while (await receive())["type"] != "http.disconnect":
        pass
