"""Ending what is done for a caller in the moment in which the caller leaves."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Protocol

from starlette.types import Scope

__all__ = ["CALLER", "GoneError", "Leaving", "Watched"]

CALLER = "forge.caller"
"""An extension of ASGI's scope: {"connection": Watched}."""


class GoneError(Exception):
    """The caller has left; nobody reads an answer."""


class Watched(Protocol):
    """A connection that says when it is lost."""

    lost: bool
    leaving: set[Leaving]


class Leaving:
    """`with Leaving(scope):` what is in it is cancelled when the caller leaves.

    Raises GoneError then. A task that waits for the disconnect beside each request would cost more
    than all that FastAPI does.
    """

    def __init__(self, scope: Scope) -> None:
        self._connection: Watched = scope["extensions"][CALLER]["connection"]
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._gone = False

    def __enter__(self) -> None:
        if self._connection.lost:
            raise GoneError
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task else 0
        self._connection.leaving.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._connection.leaving.discard(self)
        if (
            self._gone
            and self._task
            and self._task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise GoneError from None

    def now(self) -> None:
        """The connection is lost; called by the event loop, so that the task waits somewhere."""
        self._gone = True
        if self._task:
            self._task.cancel()
