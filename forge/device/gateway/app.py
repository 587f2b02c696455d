"""The device's HTTP API in front of Triton.

    POST /v1/inference   {"prompt", "max_tokens"?, sampling parameters?, "stream"?}
    POST /v1/chat/completions, /v1/embeddings, …; GET /v1/models   OpenAI's: see openai/routes.py
    GET  /v1/hardware    this machine, its profile, whether its bundle fits, versions, slot
    GET  /health/live    200 while the process runs
    GET  /health/ready   200 while a committed slot serves, else 503 with the reason; also /health
    GET  /metrics        for Prometheus

Requests wait in admission.py's queue; 429 and 503 carry Retry-After.
A streamed answer is Server-Sent Events: `token` {"text"}, then one `done` {"finish_reason",
"usage"} or one `error` {"error"}: a stream that ends without either was cut off.
Every error is JSON: {"error": {"message", "hint"}}, on OpenAI's routes in OpenAI's format.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from forge.canonical import Json
from forge.device.gateway.admission import Admission
from forge.device.gateway.api_keys import Keys
from forge.device.gateway.backend import Backend
from forge.device.gateway.caller import CallerMiddleware
from forge.device.gateway.config import GatewayConfig
from forge.device.gateway.connection_limits import METRICS_STATE
from forge.device.gateway.disconnect import CancelOnDisconnect
from forge.device.gateway.dispatch import Endpoint, InferenceDispatcher
from forge.device.gateway.errors import (
    InvalidRequestError,
    ServiceUnavailableError,
    explain,
    json_error,
)
from forge.device.gateway.generation import Generation, GenerationService
from forge.device.gateway.keep_alive import expect_stream
from forge.device.gateway.middleware import (
    MAX_BODY_BYTES,
    ApiKeyMiddleware,
    BodyLimitMiddleware,
    HttpMiddleware,
    MetricsMiddleware,
    TrustedHostMiddleware,
)
from forge.device.gateway.openai import models, openapi, routes
from forge.device.gateway.openai.problems import problem
from forge.device.gateway.request_id import RequestIdMiddleware
from forge.device.gateway.sse import EventStream
from forge.device.power.energy_account import EnergyAccount
from forge.device.shared.concurrency import ConcurrencyLimit
from forge.device.shared.upstream import Upstream
from forge.device.telemetry.metrics import CONTENT_TYPE, Metrics
from forge.errors import ForgeError, StepFailedError, UsageError
from forge.serving.sampling import Sampling
from forge.serving.triton.request import GenerateRequest
from forge.serving.triton.stream import Finished, StreamEvent, Token

__all__ = ["MAX_BODY_BYTES", "InferenceRequest", "create_app"]

_MAX_PROMPT_CHARACTERS: Final = 100_000
_MAX_TOKENS: Final = 32_768
_RETRY_AFTER_S: Final = 5


class InferenceRequest(Sampling):
    """The body of POST /v1/inference; its sampling parameters are inherited."""

    prompt: str = Field(min_length=1, max_length=_MAX_PROMPT_CHARACTERS)
    max_tokens: int | None = Field(default=None, ge=1, le=_MAX_TOKENS)
    stream: bool = False


_OPERATIONS: Final = (
    openapi.Operation(
        "/v1/inference",
        "Answer one prompt in Forge's own format; a stream has the events token, done and error",
        None,
        InferenceRequest,
        streams=True,
    ),
    openapi.Operation("/v1/hardware", "Describe this machine and its bundle", None),
)


def create_app(  # noqa: PLR0913 - the parts of one device
    upstream: Upstream,
    backend: Backend,
    hardware: Callable[[], BaseModel],
    limit: ConcurrencyLimit,
    config: GatewayConfig | None = None,
    keys: Keys | None = None,
    metrics: Metrics | None = None,
    *,
    energy: EnergyAccount | None = None,
) -> Starlette:
    """Return the application; its queue is `app.state.admission`.

    Args:
        upstream: the active server; requests are counted there.
        backend: sends requests to it.
        hardware: returns the document of /v1/hardware.
        limit: how many requests may be in Triton at once.
        config: limits of time and of the queue.
        keys: API keys; None accepts every request whose Host header the config allows.
        metrics: gets what is counted here, and is what /metrics shows.
        energy: shares the device's energy among the requests in Triton.
    """
    config, metrics = config or GatewayConfig(), metrics or Metrics()
    admission = Admission(upstream, limit, config.queue, energy)
    service = GenerationService(upstream, admission, backend, config.limit_s, metrics)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, object]]:
        try:
            yield {METRICS_STATE: metrics}
        finally:
            await backend.close()

    metrics.collect_from(admission.samples)
    app = Starlette(
        routes=[
            *models.model_routes(upstream, backend),
            *openapi.openapi_routes(_OPERATIONS),
            *_device_routes(upstream, hardware, metrics),
        ],
        middleware=_middleware(config, keys, service),
        exception_handlers={
            ForgeError: _on_error,
            HTTPException: _on_http_exception,
            Exception: _on_fault(metrics),
        },
        lifespan=lifespan,
    )
    app.state.admission = admission
    return app


def _middleware(
    config: GatewayConfig, keys: Keys | None, service: GenerationService
) -> list[Middleware]:
    """Return the middleware, outermost first."""
    found = [
        Middleware(RequestIdMiddleware),
        Middleware(MetricsMiddleware, metrics=service.metrics),
        Middleware(CallerMiddleware),
    ]
    if config.cors_origins:  # before the keys: a browser's preflight request has none
        found.append(_cors(config.cors_origins))
    found.append(Middleware(HttpMiddleware))
    if keys:
        found.append(Middleware(ApiKeyMiddleware, keys=keys))
    elif config.hosts:
        found.append(Middleware(TrustedHostMiddleware, hosts=config.hosts))
    found.append(
        Middleware(BodyLimitMiddleware, limit_s=config.body_s, large_paths=routes.LARGE_PATHS)
    )
    found.append(
        Middleware(
            InferenceDispatcher,
            endpoints=_endpoints(service),
            keep_alive_s=config.keep_alive_s,
            named_events=("/v1/inference",),
        )
    )
    return found


def _cors(origins: tuple[str, ...]) -> Middleware:
    return Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=("*",),
        expose_headers=("Retry-After", "X-Request-Id"),
    )


def _device_routes(
    upstream: Upstream, hardware: Callable[[], BaseModel], metrics: Metrics
) -> list[Route]:
    """Return the routes about the device; the two that may take long run in a thread."""

    def describe(_: Request) -> Response:
        return Response(hardware().model_dump_json(), media_type="application/json")

    def scrape(_: Request) -> Response:
        return Response(metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    async def live(_: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(_: Request) -> Response:
        serving, reason = upstream.get()
        if serving is None:
            raise ServiceUnavailableError(
                "No bundle is active", hint=reason, retry_after_s=_RETRY_AFTER_S
            )
        release = serving.release.model_dump(mode="json")
        return JSONResponse({"status": "ready", "slot": serving.slot, "release": release})

    return [
        Route("/v1/hardware", describe),
        Route("/metrics", scrape),
        Route("/health", ready),
        Route("/health/live", live),
        Route("/health/ready", ready),
    ]


def _endpoints(service: GenerationService) -> dict[str, Endpoint]:
    """Return what the dispatcher answers, by path."""

    async def inference(request: Request) -> ASGIApp:
        body = _parse(await request.body())
        if body.stream:
            expect_stream()
        wanted = GenerateRequest(body.prompt, body.max_tokens, Sampling.of(body))
        with CancelOnDisconnect(request.scope):
            generation = await service.start(wanted)
            if body.stream:
                return EventStream(generation, _Encoder(service.metrics))
            return await _whole(generation)

    return {"/v1/inference": inference, **routes.endpoints(service)}


def _parse(body: bytes) -> InferenceRequest:
    try:
        return InferenceRequest.model_validate_json(body)
    except ValidationError as error:
        hint = 'send {"prompt": "...", "max_tokens": 64, "stream": false}'
        found = problem(error)
        raise InvalidRequestError(
            found.message, param=found.param, code=found.code, hint=hint
        ) from None


async def _whole(generation: Generation) -> Response:
    text: list[str] = []
    end: Finished | None = None
    try:
        async with generation.limited():
            while end is None:
                for event in await generation.next():
                    if isinstance(event, Token):
                        text.append(event.text)
                    else:
                        end = event
        await generation.aclose("complete")
    finally:
        await generation.aclose()
    release = generation.serving.release
    about: dict[str, Json] = {"name": release.name, "version": release.version}
    return JSONResponse({"text": "".join(text), "release": about, **_end(end)})


class _Encoder:
    """Encodes a stream of /v1/inference."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.finished = False

    def start(self) -> bytes:
        return b""

    def feed(self, batch: Sequence[StreamEvent]) -> bytes:
        self.finished = isinstance(batch[-1], Finished)
        return b"".join(map(_event, batch))

    def end(self) -> bytes:
        return b""

    def error(self, error: ForgeError) -> bytes:
        self._metrics.add("forge_device_stream_errors_total")
        return _line("error", explain(error))


def _event(event: StreamEvent) -> bytes:
    if isinstance(event, Token):
        return _line("token", {"text": event.text})
    return _line("done", _end(event))


def _end(event: Finished) -> dict[str, Json]:
    usage: dict[str, Json] = {
        "input_tokens": event.input_tokens,
        "output_tokens": event.output_tokens,
    }
    return {"finish_reason": event.finish_reason, "usage": usage}


def _line(event: str, data: dict[str, Json]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event.encode(), to_json(data))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Answer a path or a method that the API does not have."""
    if not isinstance(error, HTTPException):
        raise error
    allowed = (error.headers or {}).get("Allow", "")
    if request.method == "OPTIONS" and allowed:
        headers = {"Allow": f"{allowed}, OPTIONS"}
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)
    problem = UsageError(f"{request.method} {request.url.path}: {error.detail}")
    response = json_error(request.url.path, problem, error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _on_error(request: Request, error: Exception) -> Response:
    if isinstance(error, ForgeError):
        return json_error(request.url.path, error)
    raise error


def _on_fault(metrics: Metrics) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def on_fault(request: Request, _: Exception) -> Response:
        """Answer a fault in Forge; starlette raises it again, so that it is logged."""
        if request.method == "POST":  # MetricsMiddleware does not see this response
            metrics.add("forge_device_requests_total", code="500")
        error = StepFailedError("Internal error of the gateway", hint="see the agent's log")
        response = json_error(request.url.path, error, HTTPStatus.INTERNAL_SERVER_ERROR)
        response.headers["Connection"] = "close"  # uvicorn closes it after an exception
        return response

    return on_fault
