"""The endpoints of OpenAI's API, by path."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, Protocol, Self, TypeAlias, TypeVar

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from forge.device.gateway.disconnect import CancelOnDisconnect
from forge.device.gateway.dispatch import Endpoint
from forge.device.gateway.errors import UnsupportedParameterError, json_error, openai_error
from forge.device.gateway.generation import GenerationService
from forge.device.gateway.keep_alive import expect_stream
from forge.device.gateway.openai.answers.chat import answer_chat
from forge.device.gateway.openai.answers.completions import answer_completion
from forge.device.gateway.openai.embeddings import EmbeddingsRequest, answer_embeddings
from forge.device.gateway.openai.models import Task, refuse_model
from forge.device.gateway.openai.problems import RequestProblem, problem
from forge.device.gateway.openai.protocol import ChatRequest, CompletionRequest
from forge.device.gateway.openai.responses import ResponsesRequest, answer_response
from forge.device.gateway.openai.tokens import (
    DetokenizeRequest,
    TokenizeRequest,
    detokenize,
    tokenize,
)
from forge.errors import UsageError

__all__ = ["LARGE_PATHS", "endpoints"]

LARGE_PATHS: Final = frozenset({"/v1/embeddings"})
"""Paths whose requests may be larger than others."""
_LARGE_BYTES: Final = 64 * 1024  # is read in a thread: millions of token ids take seconds


class _Shape(Protocol):
    """A request as pydantic reads it."""

    @property
    def model(self) -> str | None:
        """The name of the model; None: the one that is active."""

    def spelled(self, name: str, /) -> str:
        """Return how the request names a field of Sampling."""

    @classmethod
    def model_validate_json(cls, json_data: bytes, /) -> Self: ...


_R = TypeVar("_R", bound=_Shape)
_Answer: TypeAlias = Callable[[GenerationService, _R], Awaitable[ASGIApp]]


def endpoints(service: GenerationService) -> dict[str, Endpoint]:
    """Return the endpoints that take POST."""

    def endpoint(shape: type[_R], answer: _Answer[_R], task: Task = "generate") -> Endpoint:
        async def respond(request: Request) -> ASGIApp:
            return await _respond(service, request, shape, answer, task)

        return respond

    tokens = endpoint(TokenizeRequest, tokenize, "any")
    text = endpoint(DetokenizeRequest, detokenize)
    return {
        "/v1/chat/completions": endpoint(ChatRequest, answer_chat),
        "/v1/completions": endpoint(CompletionRequest, answer_completion),
        "/v1/responses": endpoint(ResponsesRequest, answer_response),
        "/v1/embeddings": endpoint(EmbeddingsRequest, answer_embeddings, "embed"),
        "/tokenize": tokens,
        "/v1/tokenize": tokens,
        "/detokenize": text,
        "/v1/detokenize": text,
    }


async def _respond(
    service: GenerationService,
    request: Request,
    shape: type[_R],
    answer: _Answer[_R],
    task: Task,
) -> ASGIApp:
    try:
        asked = await _read(request, shape)
    except ValidationError as error:
        return _bad_request(problem(error))
    serving, _ = service.upstream.get()
    if serving and (refusal := refuse_model(serving, asked.model, task)):
        return refusal
    try:
        with CancelOnDisconnect(request.scope):
            if getattr(asked, "stream", False):
                expect_stream()
            return await answer(service, asked)
    except UnsupportedParameterError as error:
        raise UnsupportedParameterError(asked.spelled(str(error.param))) from None
    except UsageError as error:
        return json_error(request.url.path, error, HTTPStatus.BAD_REQUEST)


async def _read(request: Request, shape: type[_R]) -> _R:
    """Return the request's body. Raises ValidationError."""
    body = await request.body()
    if request.scope["path"] in LARGE_PATHS and len(body) > _LARGE_BYTES:
        return await asyncio.to_thread(shape.model_validate_json, body)
    return shape.model_validate_json(body)


def _bad_request(found: RequestProblem) -> Response:
    body = openai_error(HTTPStatus.BAD_REQUEST, found.message, param=found.param, code=found.code)
    return JSONResponse(body, status_code=HTTPStatus.BAD_REQUEST)
