"""GET /v1/models: the models of the active bundle, and what each can do."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Final, Literal, TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from forge.canonical import Json
from forge.device.gateway.backend import Backend
from forge.device.gateway.errors import openai_error
from forge.device.gateway.openai.tool_calls import FORMATS
from forge.device.shared.upstream import ActiveServer, Upstream
from forge.errors import ForgeError
from forge.serving.repository.spec import EmbeddingSpec
from forge.serving.sampling import Sampling

__all__ = ["Task", "model_routes", "refuse_model"]

Task: TypeAlias = Literal["generate", "embed", "any"]
"""What a path does: models that answer, models that make vectors, or both."""
_GENERATES: Final = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
_EMBEDS: Final = ("/v1/embeddings",)
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
        if serving and serving.embedding:
            data.append(_embedding_card(serving, serving.embedding, since))
        return JSONResponse({"object": "list", "data": data})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        serving, _reason = upstream.get()
        if serving and serving.release.name == name:
            return JSONResponse(await _card(serving, backend, since))
        if serving and serving.embedding and serving.embedding.name == name:
            return JSONResponse(_embedding_card(serving, serving.embedding, since))
        return _unknown_model(name)

    return [Route("/v1/models", models), Route("/v1/models/{name:path}", model)]


def refuse_model(serving: ActiveServer, name: str | None, task: Task) -> Response | None:
    """Return the response to a request for a model that is not here or does another task.

    Args:
        serving: what is active.
        name: as the request has it; None: the model of the task.
        task: what the path does.

    Returns:
        None for a model that can be asked.
    """
    embedding = serving.embedding.name if serving.embedding else None
    if name is None or name == serving.release.name:
        wrong = task == "embed" and name is not None
        return _other_task(serving.release.name, _GENERATES, embedding) if wrong else None
    if name == embedding:
        return _other_task(name, _EMBEDS, serving.release.name) if task == "generate" else None
    return _unknown_model(name)


def _other_task(name: str, paths: tuple[str, ...], other: str | None) -> Response:
    """Return the response to a request for a model that does something else, as OpenAI's API."""
    known = f"; for this path it is {other!r}" if other else "; no model is active for this path"
    message = f"The model {name!r} is for {', '.join(paths)}{known}"
    return _not_found(message, "model_not_supported")


def _unknown_model(name: str) -> Response:
    """Return the response to a request for a model that is not active."""
    message = f"The model {name!r} is not active here; GET /v1/models lists what is"
    return _not_found(message, "model_not_found")


def _not_found(message: str, code: str) -> Response:
    body = openai_error(HTTPStatus.NOT_FOUND, message, param="model", code=code)
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
        "endpoints": [*_GENERATES],
        "supported_parameters": await _supported(serving, backend),
    }


def _embedding_card(serving: ActiveServer, found: EmbeddingSpec, since: int) -> dict[str, Json]:
    return {
        "id": found.name,
        "object": "model",
        "created": since,
        "owned_by": "forge",
        "root": str(serving.release),
        "parent": None,
        "max_model_len": found.max_seq_len,
        "endpoints": [*_EMBEDS],
        "supported_parameters": ["encoding_format"],
        "dimensions": found.dimensions,
        "max_inputs": found.max_inputs,
        "normalized": found.normalize,
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
