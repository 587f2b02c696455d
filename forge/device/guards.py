"""What stands before every route: no long body, no caller without a key, every answer counted."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forge.device.api_keys import ApiKeys
from forge.device.metrics import Metrics
from forge.device.refusals import UnknownKeyError, json_error
from forge.errors import UsageError

__all__ = ["MAX_BODY_BYTES", "CountAnswers", "LimitBody", "RequireKey"]

MAX_BODY_BYTES: Final = 512 * 1024
_OPEN: Final = "/health/"  # probes of systemd and Kubernetes have no key


class LimitBody:
    """Answers 413 before a body beyond the limit is read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

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
        await self._app(scope, receive, send)


class RequireKey:
    """Answers 401 to a request without a known `Authorization: Bearer` key, health checks apart."""

    def __init__(self, app: ASGIApp, keys: ApiKeys) -> None:
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
