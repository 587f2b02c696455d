"""Dispatch inference requests by their path, in front of Starlette's router.

The router's regular expressions and the wrappers of `send` by its exception handlers would cost as
much as the rest of the gateway, for each request and for each token.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from http import HTTPStatus
from typing import Final, TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from forge.device.gateway.disconnect import ClientDisconnectedError
from forge.device.gateway.errors import json_error
from forge.device.gateway.keep_alive import KeepAlive
from forge.device.gateway.request_id import current_request_id
from forge.errors import ForgeError, UsageError

__all__ = ["Endpoint", "InferenceDispatcher"]

_log = logging.getLogger(__name__)
_CLIENT_GONE: Final = 499  # never sent: the connection is closed
_JSON: Final = "application/json"
Endpoint: TypeAlias = Callable[[Request], Awaitable[ASGIApp]]


class InferenceDispatcher:
    """Answer a POST to one of these paths here; pass everything else to the application.

    Args:
        app: gets all other requests.
        endpoints: by path. They raise ForgeError, or ClientDisconnectedError when the client has
            disconnected.
        keep_alive_s: between comments in a stream whose model has not said anything yet.
        named_events: paths whose streams have names of events.
    """

    def __init__(
        self,
        app: ASGIApp,
        endpoints: Mapping[str, Endpoint],
        keep_alive_s: float = 15.0,
        named_events: Collection[str] = (),
    ) -> None:
        self._app = app
        self._endpoints = endpoints
        self._keep_alive_s = keep_alive_s
        self._named_events = named_events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        endpoint = self._endpoints.get(scope["path"]) if scope["type"] == "http" else None
        if endpoint is None:
            await self._app(scope, receive, send)
        else:
            event = b"event: error\n" if scope["path"] in self._named_events else b""
            keep_alive = KeepAlive(send, self._keep_alive_s, event)
            keep_alive.enter()
            try:
                response = await self._answer(endpoint, Request(scope, receive))
            finally:
                send = await keep_alive.end()
            await response(scope, receive, send)

    async def _answer(self, endpoint: Endpoint, request: Request) -> ASGIApp:
        if refusal := _refusal(request):
            return refusal
        try:
            return await endpoint(request)
        except ForgeError as error:
            refusal = json_error(request.url.path, error)
            if refusal.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
                _log.warning("request %s failed: %s", current_request_id(), error)
            return refusal
        except ClientDisconnectedError:
            return Response(status_code=_CLIENT_GONE)


def _refusal(request: Request) -> Response | None:
    path = request.url.path
    if request.method == "OPTIONS":
        return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": "POST, OPTIONS"})
    if request.method != "POST":
        error = UsageError(f"{path} takes POST", hint="see docs/reference/api.md")
        refusal = json_error(path, error, HTTPStatus.METHOD_NOT_ALLOWED)
        refusal.headers["Allow"] = "POST, OPTIONS"
        return refusal
    coding = request.headers.get("content-encoding", "identity")
    if coding.strip().lower() != "identity":
        error = UsageError(
            f"The body's Content-Encoding is {coding[:60]}, which is not supported",
            hint="send the body without Content-Encoding",
        )
        refusal = json_error(path, error, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        refusal.headers["Accept-Encoding"] = "identity"
        return refusal
    kind = request.headers.get("content-type", "")
    # A browser sends other types to a device for any web page, without a preflight request.
    if kind.partition(";")[0].strip().lower() == _JSON:
        return None
    message = f"The body's Content-Type is {kind[:60] or 'missing'}, not {_JSON}"
    error = UsageError(message, hint=f"send Content-Type: {_JSON}, as curl --json does")
    return json_error(path, error, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
