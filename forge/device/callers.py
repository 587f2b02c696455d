"""What a caller may do to a connection before and beside its questions: nothing for ever.

    more connections than `most`                    503 at once
    a head that is not whole after `head_s`, or longer than 64 KiB       cut
    bytes that it has not taken, none of them for `stalled_s`            cut
    no question for `idle_s`                                             cut

The gateway and the agent share their descriptors, so `most` is a quarter of what the process may
open: a quarter for connections that are about to be refused, one for those to Triton, one for the
agent.
"""

from __future__ import annotations

import asyncio
import fcntl
import resource
import sys
import termios
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import to_json
from starlette.types import Receive, Scope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from forge.device.leaving import CALLER, Leaving

__all__ = ["Bounds", "Caller", "hang_up"]

_MOST: Final = 2048  # uvicorn's own backlog
_MAX_HEAD_BYTES: Final = 64 * 1024
_MESSAGE: Final = "The device has as many connections as it can hold"
_BODY: Final = to_json({"error": {"message": _MESSAGE, "hint": "ask again in 5 s"}})
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 5\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What connections are held to.

    Attributes:
        most: open at once.
        head_s: for a request's head to come, from its first byte or the connection's beginning.
        idle_s: between an answer and the next question.
        stalled_s: in which a caller must take something of what waits for it.
    """

    most: int = _MOST
    head_s: float = 10.0
    # Longer than clients keep idle connections (httpx: 5 s): who closes first must not be the one
    # that is about to be asked, or a request gets a broken connection instead of an answer.
    idle_s: int = 75
    stalled_s: float = 30.0

    @property
    def burst(self) -> int:
        """How many asyncio may accept in one turn of its loop.

        It takes four turns until one that is too many is closed, and each accepts so many.
        """
        return max(16, self.most // 4)

    @classmethod
    def here(cls) -> Bounds:
        """For what this process may open now."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return cls(_MOST if soft == resource.RLIM_INFINITY else max(1, min(_MOST, soft // 4)))


class Caller(HttpToolsProtocol):
    """One connection of uvicorn's, bounded."""

    def __init__(
        self,
        bounds: Bounds,
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
        self.lost = False
        self.leaving: set[Leaving] = set()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it, or say that there are too many."""
        super().connection_made(transport)
        # So that `pause_writing` says of every byte that the caller does not take it.
        transport.set_write_buffer_limits(high=0)
        if len(self.connections) > self._bounds.most:
            transport.write(_FULL)
            transport.close()
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._forget_head()
        self._forget_stall()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self.lost = True
        for one in tuple(self.leaving):
            one.now()

    def data_received(self, data: bytes) -> None:
        """A piece of a head or of a body."""
        answered = getattr(self.cycle, "response_complete", True)  # None before the first head
        if self._head is None and answered:
            self._await_head()
        super().data_received(data)
        if self._head is not None:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self.transport.abort()

    def on_message_begin(self) -> None:
        """Show the application whose request it is."""
        super().on_message_begin()
        self.scope["extensions"] = {CALLER: {"connection": self}}

    def on_headers_complete(self) -> None:
        """The head is whole; what comes next has limits of its own."""
        self._forget_head()
        super().on_headers_complete()

    def timeout_keep_alive_handler(self) -> None:
        """Cut it: closing would wait for a caller that does not take its answer."""
        self.transport.abort()

    def pause_writing(self) -> None:
        """There is something that the caller has not taken."""
        super().pause_writing()
        self._watch(self._untaken())

    def resume_writing(self) -> None:
        """It has taken everything."""
        self._forget_stall()
        super().resume_writing()

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head = self.loop.call_later(self._bounds.head_s, self.transport.abort)

    def _forget_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _watch(self, left: int) -> None:
        self._forget_stall()
        self._stalled = self.loop.call_later(self._bounds.stalled_s, self._look, left)

    def _look(self, before: int) -> None:
        left = self._untaken()
        if left < before:
            self._watch(left)
        else:
            self.transport.abort()

    def _untaken(self) -> int:
        """Bytes here and in the kernel, whose megabytes would hide that some are taken."""
        descriptor = self.transport.get_extra_info("socket").fileno()
        sent = fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4))
        return self.transport.get_write_buffer_size() + int.from_bytes(sent, sys.byteorder)

    def _forget_stall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


async def hang_up(scope: Scope, receive: Receive) -> None:
    """End the connection of a request at once, whatever has not been sent yet."""
    caller: Caller = scope["extensions"][CALLER]["connection"]
    caller.transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass
