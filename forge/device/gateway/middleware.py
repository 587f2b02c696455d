"""Middleware in front of every route: body size, API keys, Host header, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forge.device.gateway.api_keys import Keys
from forge.device.gateway.caller import set_caller
from forge.device.gateway.errors import TooManyRequestsError, UnauthorizedError, json_error
from forge.device.telemetry.metrics import Metrics
from forge.errors import UsageError

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_LARGE_BODIES_BYTES",
    "MAX_LARGE_BODY_BYTES",
    "ApiKeyMiddleware",
    "BodyLimitMiddleware",
    "HttpMiddleware",
    "MetricsMiddleware",
    "TrustedHostMiddleware",
]

MAX_BODY_BYTES: Final = 512 * 1024
# LangChain sends 1,000 texts at once, in chunks of about 1 kB; OpenAI's API takes 2,048 texts.
MAX_LARGE_BODY_BYTES: Final = 8 * 1024 * 1024
MAX_LARGE_BODIES_BYTES: Final = 32 * 1024 * 1024
_LARGE_RETRY_S: Final = 1
# Probes of systemd and Kubernetes have no key.
_OPEN: Final = ("/health", "/health/live", "/health/ready")


class BodyLimitMiddleware:
    """Reads the body; answers 413 without reading one that is too long, 408 if it is late.

    Some paths take more than MAX_BODY_BYTES. So that the memory of all requests together stays
    bounded, what bodies have beyond that is counted until they are answered; when all have
    `most_large` bytes together, further ones get 429. Other requests are never refused for it.

    Args:
        app: gets requests with their whole body.
        limit_s: for a body to arrive.
        large_paths: paths whose bodies may have MAX_LARGE_BODY_BYTES.
        most_large: bytes that all bodies together may have beyond MAX_BODY_BYTES each.
    """

    def __init__(
        self,
        app: ASGIApp,
        limit_s: float,
        large_paths: Collection[str] = (),
        most_large: int = MAX_LARGE_BODIES_BYTES,
    ) -> None:
        self._app = app
        self._limit_s = limit_s
        self._large_paths = large_paths
        self._large = _LargeBodies(most_large)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer with an error."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"0")
        most = MAX_LARGE_BODY_BYTES if scope["path"] in self._large_paths else MAX_BODY_BYTES
        if not declared.isdigit() or int(declared) > most:
            await _closing(_too_large(scope["path"], most))(scope, receive, send)
            return
        if declared == b"0" and b"transfer-encoding" not in headers:
            await self._app(scope, receive, send)
            return
        share = _Share(self._large)
        try:
            await self._read_and_pass(scope, receive, send, _Body(most, share))
        finally:
            share.end()

    async def _read_and_pass(self, scope: Scope, receive: Receive, send: Send, body: _Body) -> None:
        path = scope["path"]
        try:
            async with asyncio.timeout(self._limit_s):
                whole = await body.read(receive)
        except TimeoutError:
            message = f"the body was not received in {self._limit_s:g} s"
            refusal = json_error(path, UsageError(message), HTTPStatus.REQUEST_TIMEOUT)
            await _closing(refusal)(scope, receive, send)
        except _TooLargeError:
            await _closing(_too_large(path, body.most))(scope, receive, send)
        except TooManyRequestsError as error:
            await _closing(json_error(path, error))(scope, receive, send)
        else:
            if whole is not None:
                await self._app(scope, _replay(whole, receive), send)


class _TooLargeError(Exception):
    """A body of unknown length is longer than the limit."""


@dataclass
class _LargeBodies:
    """What all bodies together have beyond MAX_BODY_BYTES each, bytes."""

    most: int
    held: int = 0


class _Share:
    """What one body has of it."""

    def __init__(self, bodies: _LargeBodies) -> None:
        self._bodies = bodies
        self._held = 0

    def grow(self, size: int) -> None:
        """Count a body that has this size by now. Raises TooManyRequestsError."""
        more = max(0, size - MAX_BODY_BYTES) - self._held
        if more > self._bodies.most - self._bodies.held:
            raise TooManyRequestsError(
                "The device has as many large requests as its memory allows",
                hint=f"retry in {_LARGE_RETRY_S} s, or send fewer inputs in each request",
                retry_after_s=_LARGE_RETRY_S,
            )
        self._bodies.held += more
        self._held += more

    def end(self) -> None:
        """Count it no more."""
        self._bodies.held -= self._held
        self._held = 0


@dataclass(frozen=True)
class _Body:
    """A body that is to be read, of `most` bytes."""

    most: int
    share: _Share

    async def read(self, receive: Receive) -> bytes | None:
        """Return all of it, None if the client disconnected.

        Raises _TooLargeError, TooManyRequestsError.
        """
        pieces, size = [], 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > self.most:
                raise _TooLargeError
            self.share.grow(size)
            if not message.get("more_body", False):
                return b"".join(pieces)


def _too_large(path: str, most: int) -> Response:
    message = f"the body is larger than {most} bytes"
    what = "a shorter prompt" if most == MAX_BODY_BYTES else "fewer inputs in each request"
    error = UsageError(message, hint=f"send {what}")
    return json_error(path, error, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def _closing(refusal: Response) -> Response:
    """Return the refusal; the rest of the body is neither read nor taken for a request."""
    refusal.headers["Connection"] = "close"
    return refusal


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
