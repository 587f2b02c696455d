"""GET /v1/models: the one model that is active, and what it can do."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from forge.canonical import Json
from forge.device.gateway.backend import Backend
from forge.device.gateway.errors import openai_error
from forge.device.gateway.openai.tool_calls import FORMATS
from forge.device.shared.upstream import ActiveServer, Upstream
from forge.errors import ForgeError
from forge.serving.sampling import Sampling

__all__ = ["model_routes", "unknown_model"]

_ALWAYS: Final = ("max_tokens", "n", "stop", "stream")
_TOOLS: Final = ("parallel_tool_calls", "tool_choice", "tools")
# The API's names of what Sampling names in another way
_NAMES: Final = {
    "top_logprobs": ("logprobs", "top_logprobs"),
    "structured_outputs": ("response_format", "structured_outputs"),
}


def model_routes(upstream: Upstream, backend: Backend) -> list[Route]:
    """Return the routes about models."""
    since = int(time.time())

    async def models(_: Request) -> Response:
        serving, _reason = upstream.get()
        data: list[Json] = [await _card(serving, backend, since)] if serving else []
        return JSONResponse({"object": "list", "data": data})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        serving, _reason = upstream.get()
        if serving is None or serving.release.name != name:
            return unknown_model(name)
        return JSONResponse(await _card(serving, backend, since))

    return [Route("/v1/models", models), Route("/v1/models/{name:path}", model)]


def unknown_model(name: str) -> Response:
    """Return the response to a request for another model."""
    message = f"The model {name!r} is not active here; GET /v1/models lists the one that is"
    body = openai_error(HTTPStatus.NOT_FOUND, message, param="model", code="model_not_found")
    return JSONResponse(body, status_code=HTTPStatus.NOT_FOUND)


async def _card(serving: ActiveServer, backend: Backend, since: int) -> dict[str, Json]:
    return {
        "id": serving.release.name,
        "object": "model",
        "created": since,
        "owned_by": "forge",
        "root": str(serving.release),
        "parent": None,
        "max_model_len": serving.max_seq_len,
        "supported_parameters": await _supported(serving, backend),
    }


async def _supported(serving: ActiveServer, backend: Backend) -> Json:
    """Return the parameters that the model obeys; None if its server does not tell."""
    try:
        inputs = await backend.inputs(serving)
        described = await backend.describe(serving)
    except ForgeError:
        return None
    obeyed = [one for one in Sampling.model_fields if one in inputs]
    names = {name for one in obeyed for name in _NAMES.get(one, (one,))}
    tools = _TOOLS if described.tool_calls in FORMATS else ()
    return [*sorted({*_ALWAYS, *names, *tools})]
