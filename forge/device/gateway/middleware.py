"""Middleware in front of every route: body size, API keys, Host header, metrics."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forge.device.gateway.api_keys import Keys
from forge.device.gateway.caller import set_caller
from forge.device.gateway.errors import UnauthorizedError, json_error
from forge.device.telemetry.metrics import Metrics
from forge.errors import UsageError

__all__ = [
    "MAX_BODY_BYTES",
    "ApiKeyMiddleware",
    "BodyLimitMiddleware",
    "HttpMiddleware",
    "MetricsMiddleware",
    "TrustedHostMiddleware",
]

MAX_BODY_BYTES: Final = 512 * 1024
# Probes of systemd and Kubernetes have no key.
_OPEN: Final = ("/health", "/health/live", "/health/ready")


class BodyLimitMiddleware:
    """Reads the body; answers 413 without reading one that is too long, 408 if it is late."""

    def __init__(self, app: ASGIApp, limit_s: float) -> None:
        self._app = app
        self._limit_s = limit_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer with an error."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > MAX_BODY_BYTES:
            await _too_large(scope["path"])(scope, receive, send)
            return
        if declared == b"0" and b"transfer-encoding" not in headers:
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._limit_s):
                body = await _read(receive)
        except TimeoutError:
            message = f"the body was not received in {self._limit_s:g} s"
            refusal = json_error(scope["path"], UsageError(message), HTTPStatus.REQUEST_TIMEOUT)
            refusal.headers["Connection"] = "close"  # the rest of the body is not a request
            await refusal(scope, receive, send)
        except _TooLargeError:
            await _too_large(scope["path"])(scope, receive, send)
        else:
            if body is not None:
                await self._app(scope, _replay(body, receive), send)


class _TooLargeError(Exception):
    """A body of unknown length is longer than the limit."""


def _too_large(path: str) -> Response:
    message = f"the body is larger than {MAX_BODY_BYTES} bytes"
    error = UsageError(message, hint="send a shorter prompt")
    refusal = json_error(path, error, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    refusal.headers["Connection"] = "close"  # the rest of the body is not read
    return refusal


async def _read(receive: Receive) -> bytes | None:
    """Return the whole body, None if the client disconnected."""
    pieces, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > MAX_BODY_BYTES:
            raise _TooLargeError
        if not message.get("more_body", False):
            return b"".join(pieces)


def _replay(body: bytes, receive: Receive) -> Receive:
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return left.pop() if left else await receive()

    return replay


class ApiKeyMiddleware:
    """Answers 401 to a request without a valid Bearer key; health checks need none."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer with an error."""
        if scope["type"] == "http" and scope["path"] not in _OPEN:
            given = dict(scope["headers"]).get(b"authorization", b"")
            scheme, _, key = given.partition(b" ")
            name = self._keys.name_of(key.strip()) if scheme.lower() == b"bearer" else None
            if name is None:
                hint = "send Authorization: Bearer KEY with a key of this device"
                error = UnauthorizedError("The API key is missing or not valid", hint=hint)
                refusal = json_error(scope["path"], error)
                refusal.headers["WWW-Authenticate"] = "Bearer"
                await refusal(scope, receive, send)
                return
            set_caller(f"key {name}")
        await self._app(scope, receive, send)


class HttpMiddleware:
    """Applies what HTTP says of every request: one Host header, and a path's trailing slash.

    `/v1/models/` is `/v1/models`: clients that join paths send it, and a redirect would lose the
    body of a POST.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer with an error."""
        if scope["type"] == "http":
            path: str = scope["path"]
            if path.endswith("/") and path != "/":
                scope["path"] = path = path.rstrip("/") or "/"
            hosts = sum(name == b"host" for name, _ in scope["headers"])
            if hosts > 1 or (not hosts and scope["http_version"] == "1.1"):
                count = "more than one" if hosts else "no"
                error = UsageError(f"The request has {count} Host header", hint="send one")
                await json_error(path, error, HTTPStatus.BAD_REQUEST)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class TrustedHostMiddleware:
    """Answers 421 to a request whose Host header does not name this machine."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer with an error."""
        if scope["type"] == "http" and self._named(scope) not in self._hosts:
            hint = "use localhost or 127.0.0.1, or set up API keys and use any name"
            error = UsageError("The Host header does not name this device", hint=hint)
            refusal = json_error(scope["path"], error, HTTPStatus.MISDIRECTED_REQUEST)
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    @staticmethod
    def _named(scope: Scope) -> str:
        host: str = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
        name, _, port = host.rpartition(":")
        return name if name and port.isdigit() else host


class MetricsMiddleware:
    """Counts inference requests by their HTTP status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and count its status."""

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.add("forge_device_requests_total", code=str(message["status"]))
            await send(message)

        asked = scope["type"] == "http" and scope["method"] == "POST"
        await self._app(scope, receive, counting if asked else send)
