"""The API that OpenAI's clients speak: chat and text completions, and the one model there is.

Streams are `data:` lines of chunks, then `data: [DONE]`; a chunk {"error"} ends one that failed.
An answer that a stop string ended has no usage: the model was stopped before it counted.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from pydantic_core import to_json

from forge.canonical import Json
from forge.device.leaving import Leaving
from forge.device.live import Live
from forge.device.openai_models import ChatRequest, CompletionRequest, OpenAIRequest, problem
from forge.device.questions import Endpoint
from forge.device.refusals import json_error, openai_body, openai_error
from forge.device.replies import Desk, EventStream, Reply
from forge.device.stops import StopFilter
from forge.errors import ForgeError, StepFailedError, UsageError
from forge.serving.events import Finished, Token

__all__ = ["endpoints", "router"]

_DONE: Final = b"data: [DONE]\n\n"
_ENDS: Final = ("stop", "length")
_R = TypeVar("_R", bound=OpenAIRequest)


def endpoints(desk: Desk) -> dict[str, Endpoint]:
    """The paths that ask."""

    async def chat(request: Request) -> Response:
        return await _complete(desk, request, ChatRequest)

    async def complete(request: Request) -> Response:
        return await _complete(desk, request, CompletionRequest)

    return {"/v1/chat/completions": chat, "/v1/completions": complete}


def router(live: Live) -> APIRouter:
    """The routes about models."""
    routes, since = APIRouter(), int(time.time())

    @routes.get("/v1/models")
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": _models(live, since)})

    @routes.get("/v1/models/{name}")
    async def model(name: str) -> Response:
        found = [one for one in _models(live, since) if one["id"] == name]
        return JSONResponse(found[0]) if found else _unknown(name)

    return routes


async def _complete(desk: Desk, request: Request, shape: type[_R]) -> Response:
    try:
        asked = shape.model_validate_json(await request.body())
    except ValidationError as error:
        found = problem(error)
        said = openai_error(400, found.message, param=found.param, code=found.code)
        return JSONResponse(said, status_code=HTTPStatus.BAD_REQUEST)
    serving, _ = desk.live.get()
    if serving and asked.model != serving.release.name:
        return _unknown(asked.model)
    try:
        with Leaving(request.scope):
            reply = await desk.ask(asked.question())
            return _streamed(desk, asked, reply) if asked.stream else await _whole(asked, reply)
    except UsageError as error:
        return json_error(request.url.path, error, HTTPStatus.BAD_REQUEST)


@dataclass(slots=True)
class _Told:
    """What is known at the end of an answer."""

    finish_reason: str = ""
    usage: dict[str, Json] | None = None


async def _texts(asked: OpenAIRequest, reply: Reply, told: _Told) -> AsyncGenerator[str]:
    """The answer's text up to a stop string; `told` is complete afterwards."""
    stops = StopFilter(asked.stops)
    async for batch in reply.events():
        text = ""
        for event in batch:
            if isinstance(event, Token):
                text += stops.feed(event.text)
            else:
                text += stops.rest()
                told.finish_reason, told.usage = _reason(event), _usage(event)
        if text:
            yield text
        if stops.hit:
            told.finish_reason = "stop"
            return


async def _whole(asked: OpenAIRequest, reply: Reply) -> Response:
    told = _Told()
    try:
        async with reply.time.limited():
            text = "".join([piece async for piece in _texts(asked, reply, told)])
    finally:
        await reply.aclose()
    choice: dict[str, Json] = {"index": 0, "finish_reason": told.finish_reason, "logprobs": None}
    if asked.kind == ChatRequest.kind:
        choice["message"] = {"role": "assistant", "content": text, "refusal": None}
    else:
        choice["text"] = text
    head = _head(asked, reply, asked.kind)
    usage: dict[str, Json] = {"usage": told.usage} if told.usage else {}
    return JSONResponse({**head, "choices": [choice], **usage})


def _streamed(desk: Desk, asked: OpenAIRequest, reply: Reply) -> Response:
    def said(error: ForgeError) -> bytes:
        desk.metrics.add("forge_device_stream_errors_total")
        return _data(openai_body(error))

    return EventStream(reply, _server_sent(asked, reply), said)


async def _server_sent(asked: OpenAIRequest, reply: Reply) -> AsyncGenerator[bytes]:
    told, chat = _Told(), asked.kind == ChatRequest.kind
    head = _head(asked, reply, "chat.completion.chunk" if chat else asked.kind)
    frame = _Frame.of(head, chat=chat)
    if chat:
        yield _chunk(head, {"delta": {"role": "assistant", "content": ""}})
    async for text in _texts(asked, reply, told):
        yield frame.chunk(text)
    await reply.aclose()  # the model stops and its place is free before the end is said
    yield _chunk(head, {"delta": {}} if chat else {"text": ""}, told.finish_reason)
    if asked.wants_usage:
        yield _data({**head, "choices": [], "usage": told.usage})
    yield _DONE


@dataclass(frozen=True, slots=True)
class _Frame:
    """What stands before and after the text in every chunk of a stream: written once."""

    before: bytes
    after: bytes

    @classmethod
    def of(cls, head: dict[str, Json], *, chat: bool) -> _Frame:
        mark = uuid.uuid4().hex
        chunk = _chunk(head, {"delta": {"content": mark}} if chat else {"text": mark})
        before, _, after = chunk.partition(f'"{mark}"'.encode())
        return cls(before, after)

    def chunk(self, text: str) -> bytes:
        return self.before + to_json(text) + self.after


def _reason(event: Finished) -> str:
    if event.finish_reason not in _ENDS:
        raise StepFailedError("The model did not end its answer", why=event.finish_reason)
    return event.finish_reason


def _usage(event: Finished) -> dict[str, Json]:
    return {
        "prompt_tokens": event.input_tokens,
        "completion_tokens": event.output_tokens,
        "total_tokens": event.input_tokens + event.output_tokens,
    }


def _head(asked: OpenAIRequest, reply: Reply, kind: str) -> dict[str, Json]:
    release = reply.serving.release
    prefix = "chatcmpl" if asked.kind == ChatRequest.kind else "cmpl"
    return {
        "id": f"{prefix}-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": release.name,
        "system_fingerprint": f"{release.name} {release.version}",
    }


def _chunk(head: dict[str, Json], content: dict[str, Json], reason: str | None = None) -> bytes:
    choice = {"index": 0, **content, "logprobs": None, "finish_reason": reason}
    return _data({**head, "choices": [choice]})


def _data(document: dict[str, Json]) -> bytes:
    return b"data: %b\n\n" % to_json(document)


def _models(live: Live, since: int) -> list[dict[str, Json]]:
    serving, _ = live.get()
    if serving is None:
        return []
    name = serving.release.name
    return [{"id": name, "object": "model", "created": since, "owned_by": "forge"}]


def _unknown(name: str) -> Response:
    message = f"The model {name!r} is not served here; GET /v1/models says which is"
    body = openai_error(HTTPStatus.NOT_FOUND, message, param="model", code="model_not_found")
    return JSONResponse(body, status_code=HTTPStatus.NOT_FOUND)
