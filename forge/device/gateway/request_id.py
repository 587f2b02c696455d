"""The id of a request: the client's X-Request-Id or a new one, in its response and in the log."""

from __future__ import annotations

import re
import uuid
from contextvars import ContextVar
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["RequestIdMiddleware", "current_request_id"]

_HEADER: Final = b"x-request-id"
# What UUIDs, ULIDs, traces and load balancers use; nothing that a log or a header could misread.
_VALID: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:/+=@~-]{0,127}")
_CURRENT: ContextVar[str] = ContextVar("request_id", default="")


def current_request_id() -> str:
    """Return the id of the request that the current task works for; "" if there is none."""
    return _CURRENT.get()


class RequestIdMiddleware:
    """Gives each request its id, and the client that id with the response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(_HEADER, b"")
        own = given if _VALID.fullmatch(given) else uuid.uuid4().hex.encode()
        _CURRENT.set(own.decode())

        async def identified(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (_HEADER, own)]}
            await send(message)

        await self._app(scope, receive, identified)
