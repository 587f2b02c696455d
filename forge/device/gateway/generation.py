"""One request: a place in Triton, the model's events, a deadline, its metrics, and its end."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from forge.device.gateway.admission import Admission, Place
from forge.device.gateway.backend import AnswerDroppedError, Backend, Ended, ModelAnswer
from forge.device.gateway.caller import current_caller
from forge.device.gateway.errors import ModelNotFoundError, RequestTimeoutError
from forge.device.gateway.keep_alive import place_taken
from forge.device.shared.upstream import ActiveServer, Upstream
from forge.device.telemetry import tracing
from forge.device.telemetry.metrics import Metrics, count_answer, count_embeddings
from forge.errors import ForgeError, UsageError
from forge.serving.triton.request import GenerateRequest
from forge.serving.triton.stream import Finished, StreamEvent, Token

__all__ = [
    "Deadline",
    "Generation",
    "GenerationService",
    "ModelChoice",
    "Outcome",
    "embedding_model",
    "generating_model",
]

Outcome: TypeAlias = Literal["complete", "error", "cancelled"]
ModelChoice: TypeAlias = Callable[[ActiveServer], ActiveServer]
"""Returns a server with that of its models in front which is asked, or raises ForgeError."""
_PROCESS: Final = secrets.token_hex(8)
_NUMBERS: Final = itertools.count(1)
_GENERATING: Final = ("user", "messages", "raw", "ids")  # of the values of input_format


class _Timing:
    """Measures one request and records it when it ends."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._trace = tracing.current()
        self._generates = True
        self._embeds = False
        self._arrived = time.monotonic()
        self._first: float | None = None
        self._ended = False
        self.outcome: Outcome = "cancelled"  # until something else is known

    def admitted(self) -> None:
        """Record the time that the request waited."""
        self._trace.admitted()
        self._metrics.observe(
            "forge_device_request_queue_time_seconds", time.monotonic() - self._arrived
        )

    def asked(self, request: GenerateRequest, serving: ActiveServer) -> None:
        """Tell what the model is asked; only what is generated has tokens and a pace."""
        self._generates = request.input_format in _GENERATING
        self._embeds = request.input_format == "embed"
        self._trace.asked(request, serving.model, str(serving.release))

    def received(self, batch: Sequence[StreamEvent]) -> None:
        """Record the first text, and at the end the pace of the others."""
        if self._embeds and isinstance(batch[-1], Finished):
            count_embeddings(self._metrics, batch[-1].input_tokens)
            self._trace.finished(batch[-1].input_tokens, 0, batch[-1].finish_reason)
        if not self._generates:
            return
        if self._first is None and isinstance(batch[0], Token):
            self._first = time.monotonic()
            self._trace.first_token()
            self._metrics.observe(
                "forge_device_time_to_first_token_seconds", self._first - self._arrived
            )
        end = batch[-1]
        if isinstance(end, Finished):
            count_answer(self._metrics, end.input_tokens, end.output_tokens, end.finish_reason)
            self._trace.finished(end.input_tokens, end.output_tokens, end.finish_reason)
        if isinstance(end, Finished) and self._first is not None and end.output_tokens > 1:
            # (latency - time to first token) / (tokens - 1), as AIPerf defines it
            seconds = (time.monotonic() - self._first) / (end.output_tokens - 1)
            self._metrics.observe("forge_device_inter_token_latency_seconds", seconds)

    def count_slow_client(self, limit: str) -> None:
        """Count a client that did not read its answer, by the limit that it reached."""
        self._metrics.add("forge_device_slow_clients_total", limit=limit)

    def ended(self) -> None:
        """Record the whole time, at the first call."""
        if self._ended:
            return
        self._ended = True
        self._trace.ended(self.outcome)
        seconds = time.monotonic() - self._arrived
        self._metrics.observe(
            "forge_device_e2e_request_latency_seconds", seconds, outcome=self.outcome
        )


@dataclass(frozen=True, slots=True)
class Deadline:
    """When an answer must be complete.

    Attributes:
        until: on the event loop's clock.
        limit_s: from the arrival of the request until then.
        what: what is late, with its verb.
        hint: for the client.
    """

    until: float
    limit_s: float
    what: str = "The answer was"
    hint: str = "ask for fewer tokens"

    @asynccontextmanager
    async def enforced(self) -> AsyncIterator[None]:
        """Raise RequestTimeoutError at the deadline."""
        timeout = asyncio.timeout_at(self.until)
        try:
            async with timeout:
                yield
        except TimeoutError:
            if not timeout.expired():
                raise
            message = f"{self.what} not complete after {self.limit_s:g} s"
            raise RequestTimeoutError(message, hint=self.hint) from None


class Generation:
    """An answer that has begun; its model stops when it is closed.

    Attributes:
        serving: the server that answers.
        until: the deadline, on the event loop's clock.
    """

    def __init__(
        self,
        serving: ActiveServer,
        first: Sequence[StreamEvent],
        answer: ModelAnswer,
        deadline: Deadline,
        timing: _Timing,
    ) -> None:
        self.serving = serving
        self.until = deadline.until
        self._first: Sequence[StreamEvent] = first
        self._answer = answer
        self._deadline = deadline
        self._timing = timing

    async def next(self) -> Sequence[StreamEvent]:
        """Return the next events, those that arrived together; the last of all is Finished.

        Raises UsageError or StepFailedError, as the backend does.
        """
        if self._first:
            batch, self._first = self._first, ()
        else:
            batch = await self._answer.next()
            self._timing.received(batch)
        return batch

    async def pump(self, handle: Callable[[Sequence[StreamEvent]], bool]) -> None:
        """Call `handle` with events as they come, until it returns False. See ModelAnswer.pump."""

        def record(batch: Sequence[StreamEvent]) -> bool:
            self._timing.received(batch)
            return handle(batch)

        await self._answer.pump(record)

    @asynccontextmanager
    async def limited(self) -> AsyncIterator[None]:
        """Raise RequestTimeoutError at the deadline; record that and other errors."""
        try:
            async with self._deadline.enforced():
                yield
        except ForgeError as error:
            self._timing.outcome = "error"
            if isinstance(error, AnswerDroppedError):
                self._timing.count_slow_client("unread")
            raise

    async def aclose(self, outcome: Outcome | None = None) -> None:
        """Stop the model if it has not ended, without waiting for it. May be called again."""
        self._timing.outcome = outcome or self._timing.outcome
        self._answer.close()
        self._timing.ended()


def generating_model(serving: ActiveServer) -> ActiveServer:
    """Return the server as it is: its first model answers."""
    return serving


def embedding_model(serving: ActiveServer) -> ActiveServer:
    """Return the server with its embedding model in front. Raises ModelNotFoundError."""
    found = serving.embedding
    if found is None:
        hint = "GET /v1/models lists what is"
        raise ModelNotFoundError("No embedding model is active here", hint=hint)
    return replace(serving, model=found.model, max_seq_len=found.max_seq_len, default_max_tokens=1)


@dataclass(frozen=True, slots=True)
class GenerationService:
    """Starts generations.

    Attributes:
        upstream: the active server.
        admission: the queue in front of it.
        backend: sends requests to it.
        limit_s: from the arrival of a request to the end of its answer, waiting included.
        metrics: get the times and results of all requests.
    """

    upstream: Upstream
    admission: Admission
    backend: Backend
    limit_s: float
    metrics: Metrics

    async def start(
        self, request: GenerateRequest, model: ModelChoice = generating_model
    ) -> Generation:
        """Wait for a place and for the first events, which decide the HTTP status.

        The place is free again when the model has ended the request, also if the client has gone.

        Args:
            request: what the model is asked.
            model: which model of the server; asked again after the wait, when another bundle may
                be active.

        Raises:
            UsageError: this bundle cannot take the request.
            UnsupportedParameterError: its model does not support a parameter.
            TooManyRequestsError, ServiceUnavailableError, RequestTimeoutError: no place, no active
                server, no time.
            StepFailedError: Triton cannot be reached or broke off.
        """
        deadline = Deadline(asyncio.get_running_loop().time() + self.limit_s, self.limit_s)
        timing = _Timing(self.metrics)
        serving, _ = self.upstream.get()
        if serving:
            _fitted(request, model(serving))  # refused before it waits
        place = await self.admission.enter(current_caller())
        timing.admitted()
        place_taken()
        try:
            async with deadline.enforced():
                serving, answer = await self._send(request, place, timing, model)
                try:
                    first = await answer.next()
                except BaseException:
                    answer.close()
                    raise
        except BaseException as error:
            timing.outcome = "error" if isinstance(error, ForgeError) else "cancelled"
            timing.ended()
            raise
        timing.received(first)
        return Generation(serving, first, answer, deadline, timing)

    async def _send(
        self, request: GenerateRequest, place: Place, timing: _Timing, model: ModelChoice
    ) -> tuple[ActiveServer, ModelAnswer]:
        def on_end(ended: Ended) -> None:
            if ended == "given up":
                self.metrics.add("forge_device_unended_requests_total")
            place.leave()

        try:
            serving = model(place.serving)
            request = replace(_fitted(request, serving), request_id=_new_id())
            timing.asked(request, serving)
            await self.backend.check(serving, request)
            return serving, await self.backend.start(serving, request, on_end)
        except BaseException:
            place.leave()
            raise


def _new_id() -> str:
    """Return an id with which no client can have another's request cancelled."""
    return f"{_PROCESS}-{next(_NUMBERS)}"


def _fitted(request: GenerateRequest, serving: ActiveServer) -> GenerateRequest:
    max_tokens = request.max_tokens or serving.default_max_tokens
    if max_tokens > serving.max_seq_len:
        message = f"max_tokens {max_tokens} is more than this bundle's {serving.max_seq_len}"
        raise UsageError(message, hint="ask for fewer")
    return replace(request, max_tokens=max_tokens)
