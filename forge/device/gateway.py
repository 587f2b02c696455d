"""The device's HTTP API in front of Triton.

    POST /v1/inference   {"prompt", "max_tokens"?, "temperature"?, "stream"?}
    POST /v1/chat/completions, /v1/completions; GET /v1/models   OpenAI's: see openai_api.py
    GET  /v1/hardware    what this machine is, which profile, does its bundle fit, versions, slot
    GET  /health/live    200 while the process answers
    GET  /health/ready   200 while a committed slot serves, else 503 with the reason
    GET  /metrics        for Prometheus

Questions wait in admission.py's queue; 429 and 503 carry Retry-After.
A streamed answer is Server-Sent Events: `token` {"text"}, then one `done` {"finish_reason",
"usage"} or one `error` {"error"}: a stream that ends without either was cut off.
Every refusal is JSON: {"error": {"message", "hint"}}, on OpenAI's routes in OpenAI's shape.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from forge.canonical import Json
from forge.device import openai_api
from forge.device.admission import Admission, QueueRules
from forge.device.answers import Answers, Question
from forge.device.api_keys import Keys
from forge.device.guards import (
    BODY_S,
    MAX_BODY_BYTES,
    CountAnswers,
    LimitBody,
    RequireHost,
    RequireKey,
)
from forge.device.leaving import Leaving
from forge.device.limit import Limit
from forge.device.live import Live
from forge.device.metrics import CONTENT_TYPE, Metrics
from forge.device.questions import Endpoint, Questions
from forge.device.refusals import UnavailableError, explain, json_error
from forge.device.replies import Desk, EventStream, Reply
from forge.errors import ForgeError, StepFailedError, UsageError
from forge.serving.events import Event, Finished, Token

__all__ = ["MAX_BODY_BYTES", "GatewayRules", "InferenceRequest", "create_app"]

_MAX_PROMPT_CHARACTERS: Final = 100_000
_MAX_TOKENS: Final = 32_768
_MAX_TEMPERATURE: Final = 2.0
_RETRY_AFTER_S: Final = 5


class InferenceRequest(BaseModel):
    """What an application asks."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: str = Field(min_length=1, max_length=_MAX_PROMPT_CHARACTERS)
    max_tokens: int | None = Field(default=None, ge=1, le=_MAX_TOKENS)
    temperature: float = Field(default=0.0, ge=0, le=_MAX_TEMPERATURE)
    stream: bool = False


@dataclass(frozen=True, slots=True)
class GatewayRules:
    """What the gateway holds its clients to.

    Attributes:
        queue: who waits, and how long.
        limit_s: from a question to the end of its answer, waiting included.
        body_s: for the body of a request to come.
        keys: who may ask; None lets everybody.
        hosts: what a request may call the gateway; None: anything.
    """

    queue: QueueRules = field(default_factory=QueueRules)
    limit_s: float = 300.0
    body_s: float = BODY_S
    keys: Keys | None = None
    hosts: frozenset[str] | None = None


def create_app(
    live: Live,
    answers: Answers,
    hardware: Callable[[], BaseModel],
    limit: Limit,
    rules: GatewayRules | None = None,
    metrics: Metrics | None = None,
) -> FastAPI:
    """The application; its queue is `app.state.admission`.

    Args:
        live: what serves now; requests are counted there.
        answers: asks Triton.
        hardware: the document of /v1/hardware.
        limit: how many requests may be in Triton at once.
        rules: of the queue, of time, of keys.
        metrics: gets what is counted here, and is what /metrics shows.
    """
    rules, metrics = rules or GatewayRules(), metrics or Metrics()
    admission = Admission(live, limit, rules.queue)
    desk = Desk(live, admission, answers, rules.limit_s, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await answers.close()

    app = FastAPI(
        title="Forge device", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    app.state.admission = admission
    app.add_middleware(Questions, endpoints=_endpoints(desk))
    app.add_middleware(LimitBody, limit_s=rules.body_s)
    if rules.keys:
        app.add_middleware(RequireKey, keys=rules.keys)
    if rules.hosts:
        app.add_middleware(RequireHost, hosts=rules.hosts)
    app.add_middleware(CountAnswers, metrics=metrics)
    app.add_exception_handler(ForgeError, _failed)
    app.add_exception_handler(Exception, _mistaken(metrics))
    app.include_router(openai_api.router(live))
    app.include_router(_state(live, hardware, lambda: metrics.render(admission.samples())))
    return app


def _state(live: Live, hardware: Callable[[], BaseModel], metrics: Callable[[], str]) -> APIRouter:
    """The routes about the device."""
    routes = APIRouter()

    @routes.get("/v1/hardware")
    def describe() -> Response:
        return Response(hardware().model_dump_json(), media_type="application/json")

    @routes.get("/metrics")
    def numbers() -> Response:
        return Response(metrics(), headers={"Content-Type": CONTENT_TYPE})

    @routes.get("/health/live")
    async def alive() -> dict[str, str]:
        return {"status": "live"}

    @routes.get("/health/ready")
    async def ready() -> Response:
        serving, reason = live.get()
        if serving is None:
            raise UnavailableError("no bundle serves", hint=reason, retry_after_s=_RETRY_AFTER_S)
        release = serving.release.model_dump(mode="json")
        return JSONResponse({"status": "ready", "slot": serving.slot, "release": release})

    return routes


def _endpoints(desk: Desk) -> dict[str, Endpoint]:
    async def inference(request: Request) -> Response:
        body = _asked(await request.body())
        question = Question(body.prompt, body.max_tokens, body.temperature)
        with Leaving(request.scope):
            reply = await desk.ask(question)
            return _streamed(desk, reply) if body.stream else await _whole(reply)

    return {"/v1/inference": inference, **openai_api.endpoints(desk)}


def _asked(body: bytes) -> InferenceRequest:
    try:
        return InferenceRequest.model_validate_json(body)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}" for item in error.errors()
        ]
        hint = 'send {"prompt": "...", "max_tokens": 64, "stream": false}'
        raise UsageError("; ".join(problems), hint=hint) from None


async def _whole(reply: Reply) -> Response:
    text: list[str] = []
    end: dict[str, Json] = {}
    try:
        async with reply.time.limited():
            async for batch in reply.events():
                for event in batch:
                    if isinstance(event, Token):
                        text.append(event.text)
                    else:
                        end = _end(event)
    finally:
        await reply.aclose()
    release = {"name": reply.serving.release.name, "version": reply.serving.release.version}
    return JSONResponse({"text": "".join(text), "release": release, **end})


def _streamed(desk: Desk, reply: Reply) -> Response:
    def said(error: ForgeError) -> bytes:
        desk.metrics.add("forge_device_stream_errors_total")
        return _line("error", explain(error))

    return EventStream(reply, _server_sent(reply), said)


async def _server_sent(reply: Reply) -> AsyncGenerator[bytes]:
    async for batch in reply.events():
        yield b"".join(map(_event, batch))


def _event(answer: Event) -> bytes:
    if isinstance(answer, Token):
        return _line("token", {"text": answer.text})
    return _line("done", _end(answer))


def _end(answer: Finished) -> dict[str, Json]:
    usage: dict[str, Json] = {
        "input_tokens": answer.input_tokens,
        "output_tokens": answer.output_tokens,
    }
    return {"finish_reason": answer.finish_reason, "usage": usage}


def _line(event: str, data: dict[str, Json]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event.encode(), to_json(data))


async def _failed(request: Request, error: Exception) -> Response:
    if isinstance(error, ForgeError):
        return json_error(request.url.path, error)
    raise error


def _mistaken(metrics: Metrics) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def mistaken(request: Request, _: Exception) -> Response:
        """A mistake in Forge; starlette raises it again, so that it is logged."""
        if request.method == "POST":  # it is outside of what counts the others
            metrics.add("forge_device_requests_total", code="500")
        error = StepFailedError("The gateway made a mistake", hint="the agent's log shows where")
        refusal = json_error(request.url.path, error, HTTPStatus.INTERNAL_SERVER_ERROR)
        refusal.headers["Connection"] = "close"  # uvicorn closes it after whatever was raised
        return refusal

    return mistaken
