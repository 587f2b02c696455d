"""The device's HTTP API in front of Triton.

    POST /v1/inference   {"prompt", "max_tokens"?, "stream"?}; 429 beyond the governor's limit
    GET  /v1/hardware    what this machine is, which profile, does its bundle fit, versions, slot
    GET  /health/live    200 while the process answers
    GET  /health/ready   200 while a committed slot serves, else 503 with the reason
    GET  /metrics        for Prometheus

A streamed answer is Server-Sent Events: `token` {"text"}, then one `done` {"finish_reason",
"usage"} or one `error` {"error"}: a stream that ends without either was cut off.
Every refusal is JSON: {"error": {"message", "hint"}}.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forge.canonical import Json
from forge.device.answers import Answers
from forge.device.limit import Limit
from forge.device.live import Live, Serving
from forge.device.metrics import CONTENT_TYPE, Metrics
from forge.errors import ForgeError, StepFailedError, UsageError
from forge.serving.events import Event, Finished, Token

__all__ = ["MAX_BODY_BYTES", "InferenceRequest", "create_app"]

MAX_BODY_BYTES: Final = 512 * 1024
_MAX_PROMPT_CHARACTERS: Final = 100_000
_MAX_TOKENS: Final = 32_768
_RETRY_AFTER_S: Final = "5"
_BUSY_RETRY_AFTER_S: Final = "1"
_DISCONNECT_POLL_S: Final = 0.1


class InferenceRequest(BaseModel):
    """What an application asks."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: str = Field(min_length=1, max_length=_MAX_PROMPT_CHARACTERS)
    max_tokens: int | None = Field(default=None, ge=1, le=_MAX_TOKENS)
    stream: bool = False


class _BusyError(ForgeError):
    """As many requests as may be are in Triton."""


class _Places:
    """Requests that are in Triton, never more than the limit; used from one event loop only.

    When the limit falls, those that are inside end in peace; nobody else enters before.
    """

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._taken = 0

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Hold one place. Raises _BusyError if there is none."""
        allowed, reason = self._limit.get()
        if self._taken >= allowed:
            what = f"The device may answer {allowed} at once and answers {self._taken}"
            raise _BusyError(what, why=reason, hint="ask again a little later")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


def create_app(
    live: Live,
    answers: Answers,
    hardware: Callable[[], BaseModel],
    limit: Limit,
    metrics: Metrics | None = None,
) -> FastAPI:
    """The application.

    Args:
        live: what serves now; requests are counted there.
        answers: asks Triton.
        hardware: the document of /v1/hardware.
        limit: how many requests may be in Triton at once.
        metrics: gets what is counted here, and is what /metrics shows.
    """
    places = _Places(limit)
    metrics = metrics or Metrics()
    app = FastAPI(title="Forge device", docs_url=None, redoc_url=None)
    app.add_middleware(_LimitBody)
    app.add_middleware(_Count, metrics=metrics)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ForgeError, _failed)

    @app.post("/v1/inference", response_model=None)
    async def inference(body: InferenceRequest, request: Request) -> Response:
        return await _inference(live, places, answers, metrics, body, request)

    @app.get("/v1/hardware")
    def describe() -> Response:
        return Response(hardware().model_dump_json(), media_type="application/json")

    @app.get("/metrics")
    def numbers() -> Response:
        return Response(metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    @app.get("/health/live")
    async def alive() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/health/ready")
    async def ready() -> Response:
        serving, reason = live.get()
        if serving is None:
            return _refusal(503, "no bundle serves", reason)
        release = serving.release.model_dump(mode="json")
        return JSONResponse({"status": "ready", "slot": serving.slot, "release": release})

    return app


async def _inference(
    live: Live,
    places: _Places,
    answers: Answers,
    metrics: Metrics,
    body: InferenceRequest,
    request: Request,
) -> Response:
    serving, reason = live.get()
    if serving is None:
        return _refusal(503, "no bundle serves", reason)
    max_tokens = body.max_tokens or serving.default_max_tokens
    if max_tokens > serving.max_seq_len:
        message = f"max_tokens {max_tokens} is more than this bundle's {serving.max_seq_len}"
        return _refusal(422, message, "ask for fewer")
    events = _counted(live, places, answers(serving, body.prompt, max_tokens))
    if not body.stream:
        return await _until_disconnect(request, _whole(events, serving))
    # The first event decides the status: what fails before a token is no 200.
    first = await anext(events)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(
        _server_sent(first, events, metrics), media_type="text/event-stream", headers=headers
    )


async def _counted(
    live: Live, places: _Places, source: AsyncGenerator[Event]
) -> AsyncGenerator[Event]:
    with places.one(), live.request():
        async with contextlib.aclosing(source):
            async for answer in source:
                yield answer
                if isinstance(answer, Finished):
                    return
    raise StepFailedError("Triton's answer ended before it was complete")


async def _whole(events: AsyncGenerator[Event], serving: Serving) -> Response:
    text: list[str] = []
    end: dict[str, Json] = {}
    async with contextlib.aclosing(events):
        async for event in events:
            if isinstance(event, Token):
                text.append(event.text)
            else:
                end = _end(event)
    release = {"name": serving.release.name, "version": serving.release.version}
    return JSONResponse({"text": "".join(text), "release": release, **end})


async def _server_sent(
    first: Event, rest: AsyncGenerator[Event], metrics: Metrics
) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(rest):
        try:
            yield _event(first)
            async for answer in rest:
                yield _event(answer)
        except ForgeError as error:  # too late for a status: the stream itself must say it
            metrics.add("forge_device_stream_errors_total")
            yield _line("error", _explain(error))


async def _until_disconnect(request: Request, work: Coroutine[None, None, Response]) -> Response:
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=_DISCONNECT_POLL_S)
            if not task.done() and await request.is_disconnected():
                return Response(status_code=499)  # nobody reads it
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


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
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()


def _explain(error: ForgeError) -> dict[str, Json]:
    message = f"{error.what}: {error.why}" if error.why else error.what
    return {"error": {"message": message, "hint": error.hint}}


def _refusal(status: int, message: str, hint: str) -> JSONResponse:
    headers = {"Retry-After": _RETRY_AFTER_S} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    body = {"error": {"message": message, "hint": hint}}
    return JSONResponse(body, status_code=status, headers=headers)


async def _failed(_request: Request, error: Exception) -> Response:
    if isinstance(error, _BusyError):
        headers = {"Retry-After": _BUSY_RETRY_AFTER_S}
        return JSONResponse(_explain(error), HTTPStatus.TOO_MANY_REQUESTS, headers)
    if isinstance(error, UsageError):
        return JSONResponse(_explain(error), status_code=HTTPStatus.UNPROCESSABLE_ENTITY)
    if isinstance(error, ForgeError):
        return JSONResponse(_explain(error), status_code=HTTPStatus.BAD_GATEWAY)
    raise error


async def _invalid(_request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    problems = [
        f"{'.'.join(map(str, item['loc'][1:])) or 'body'}: {item['msg']}" for item in error.errors()
    ]
    hint = 'send {"prompt": "...", "max_tokens": 64, "stream": false} as application/json'
    return _refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(problems), hint)


class _Count:
    """Counts requests for an answer by the status they get."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.add("forge_device_requests_total", code=str(message["status"]))
            await send(message)

        asked = scope["type"] == "http" and scope["method"] == "POST"
        await self._app(scope, receive, counting if asked else send)


class _LimitBody:
    """Answers 413 before a body beyond the limit is read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"0")
        chunked = b"transfer-encoding" in headers
        if chunked or not declared.isdigit() or int(declared) > MAX_BODY_BYTES:
            message = f"the body must have a Content-Length of at most {MAX_BODY_BYTES} bytes"
            await _refusal(413, message, "send a shorter prompt")(scope, receive, send)
            return
        await self._app(scope, receive, send)
