"""The routes that ask the model, in front of FastAPI's router.

Dependencies, the body read by `json`, five regular expressions and four wrappers of `send` would
cost as much as all the rest of the gateway, for each question and for each token.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final, TypeAlias

from fastapi import Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from forge.device.leaving import GoneError
from forge.device.refusals import json_error
from forge.errors import ForgeError, UsageError

__all__ = ["Endpoint", "Questions"]

_CLIENT_GONE: Final = 499  # nobody reads it
_JSON: Final = "application/json"
Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


class Questions:
    """POST to one of these paths is answered here, everything else by the application behind.

    Args:
        app: the application behind.
        endpoints: by path. They raise ForgeError, or GoneError when the caller has left.
    """

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, Endpoint]) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        endpoint = self._endpoints.get(scope["path"]) if scope["type"] == "http" else None
        if endpoint is None:
            await self._app(scope, receive, send)
        else:
            response = await self._answer(endpoint, Request(scope, receive))
            await response(scope, receive, send)

    async def _answer(self, endpoint: Endpoint, request: Request) -> Response:
        if refusal := _refusal(request):
            return refusal
        try:
            return await endpoint(request)
        except ForgeError as error:
            return json_error(request.url.path, error)
        except GoneError:
            return Response(status_code=_CLIENT_GONE)


def _refusal(request: Request) -> Response | None:
    path = request.url.path
    if request.method != "POST":
        error = UsageError(f"{path} takes POST", hint="see docs/api.md")
        refusal = json_error(path, error, HTTPStatus.METHOD_NOT_ALLOWED)
        refusal.headers["Allow"] = "POST"
        return refusal
    kind = request.headers.get("content-type", "")
    # Any web page may have a browser send other kinds to a device without asking it first.
    if kind.partition(";")[0].strip().lower() == _JSON:
        return None
    message = f"The body's type is {kind[:60] or 'not given'}, and not {_JSON}"
    error = UsageError(message, hint=f"send Content-Type: {_JSON}, as curl --json does")
    return json_error(path, error, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
