"""Cancel the work for a request when its client disconnects."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Protocol

from starlette.types import Scope

__all__ = [
    "DISCONNECT_EXTENSION",
    "CancelOnDisconnect",
    "ClientDisconnectedError",
    "WatchedConnection",
]

DISCONNECT_EXTENSION = "forge.disconnect"
"""An extension of ASGI's scope: {"connection": WatchedConnection}."""


class ClientDisconnectedError(Exception):
    """The client has disconnected."""


class WatchedConnection(Protocol):
    """A connection that cancels what is registered when it is lost."""

    lost: bool

    def write_piece(self, data: bytes) -> bool:
        """Send a piece of the body at once; False: the client has not read what came before."""
        ...

    on_disconnect: set[CancelOnDisconnect]


class CancelOnDisconnect:
    """Cancels the body of `with CancelOnDisconnect(scope):` when the client disconnects.

    Raises ClientDisconnectedError then. A second task for each request that waits for the
    disconnect would cost more than the rest of the gateway.
    """

    def __init__(self, scope: Scope) -> None:
        self._connection: WatchedConnection = scope["extensions"][DISCONNECT_EXTENSION][
            "connection"
        ]
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._gone = False

    def __enter__(self) -> None:
        if self._connection.lost:
            raise ClientDisconnectedError
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task else 0
        self._connection.on_disconnect.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._connection.on_disconnect.discard(self)
        if (
            self._gone
            and self._task
            and self._task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise ClientDisconnectedError from None

    def cancel(self) -> None:
        """Cancel the task; called by the event loop, so the task is suspended somewhere."""
        self._gone = True
        if self._task:
            self._task.cancel()
