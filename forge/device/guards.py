"""What stands before every route: no long body, no caller without a key, every answer counted."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forge.device.api_keys import Keys
from forge.device.metrics import Metrics
from forge.device.refusals import UnknownKeyError, json_error
from forge.errors import UsageError

__all__ = ["BODY_S", "MAX_BODY_BYTES", "CountAnswers", "LimitBody", "RequireHost", "RequireKey"]

MAX_BODY_BYTES: Final = 512 * 1024
BODY_S: Final = 30.0
_OPEN: Final = "/health/"  # probes of systemd and Kubernetes have no key


class LimitBody:
    """Reads the body; answers 413 before one beyond the limit is read, 408 if it does not come."""

    def __init__(self, app: ASGIApp, limit_s: float = BODY_S) -> None:
        self._app = app
        self._limit_s = limit_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"0")
        chunked = b"transfer-encoding" in headers
        if chunked or not declared.isdigit() or int(declared) > MAX_BODY_BYTES:
            message = f"the body must have a Content-Length of at most {MAX_BODY_BYTES} bytes"
            error = UsageError(message, hint="send a shorter prompt")
            refusal = json_error(scope["path"], error, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            await refusal(scope, receive, send)
            return
        if declared == b"0":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._limit_s):
                body = await _read(receive)
        except TimeoutError:
            message = f"the body did not come in {self._limit_s:g} s"
            refusal = json_error(scope["path"], UsageError(message), HTTPStatus.REQUEST_TIMEOUT)
            refusal.headers["Connection"] = "close"  # what is left of the body is no request
            await refusal(scope, receive, send)
            return
        if body is not None:
            await self._app(scope, _again(body, receive), send)


async def _read(receive: Receive) -> bytes | None:
    """The whole body, None if the client left."""
    pieces = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces)


def _again(body: bytes, receive: Receive) -> Receive:
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return left.pop() if left else await receive()

    return replay


class RequireKey:
    """Answers 401 to a request without a known `Authorization: Bearer` key, health checks apart."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it."""
        if scope["type"] == "http" and not scope["path"].startswith(_OPEN):
            given = dict(scope["headers"]).get(b"authorization", b"")
            scheme, _, key = given.partition(b" ")
            if scheme.lower() != b"bearer" or not self._keys.knows(key.strip()):
                hint = "send Authorization: Bearer KEY with a key of this device"
                error = UnknownKeyError("The API key is missing or not known here", hint=hint)
                refusal = json_error(scope["path"], error)
                refusal.headers["WWW-Authenticate"] = "Bearer"
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


class RequireHost:
    """Answers 421 to a request that calls the gateway by a name which is not its own."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it."""
        if scope["type"] == "http" and self._named(scope) not in self._hosts:
            hint = "call it localhost or 127.0.0.1, or give API keys and call it what you like"
            error = UsageError("The Host of this request is not this device", hint=hint)
            refusal = json_error(scope["path"], error, HTTPStatus.MISDIRECTED_REQUEST)
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    @staticmethod
    def _named(scope: Scope) -> str:
        host: str = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
        name, _, port = host.rpartition(":")
        return name if name and port.isdigit() else host


class CountAnswers:
    """Counts requests for an answer by the status they get."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and look at the status."""

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.add("forge_device_requests_total", code=str(message["status"]))
            await send(message)

        asked = scope["type"] == "http" and scope["method"] == "POST"
        await self._app(scope, receive, counting if asked else send)
