"""A span for each request, by option: OpenTelemetry over OTLP/HTTP, with the gen_ai conventions.

Spans are sent if OTEL_EXPORTER_OTLP_ENDPOINT (or …_TRACES_ENDPOINT) is set; all other settings are
the standard variables of the OpenTelemetry SDK too (OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER,
OTEL_EXPORTER_OTLP_HEADERS, …). The extra `otel` has the packages; they are imported only then.
No span has text of a prompt or of an answer.

Attributes: https://opentelemetry.io/docs/specs/semconv/gen-ai/. What a request is asked, and what
came of it, is told to `current()`; without the option that records nothing.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

import forge
from forge.errors import ConfigurationError
from forge.extras import needs_extra
from forge.serving.triton.request import GenerateRequest
from forge.serving.triton.trace_context import TraceContext

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

__all__ = ["RequestTrace", "Tracer", "current", "tracer_of", "use"]

_log = logging.getLogger(__name__)

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SUPPORTED: Final = "http/protobuf"
_CLOSE_MS: Final = 3000
_SERVER_ERRORS: Final = 500
_OPERATIONS: Final = {
    "/v1/inference": "chat",
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
# Names of sampling parameters → of the conventions, where these have one.
_SAMPLING: Final = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "seed": "gen_ai.request.seed",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
}


class RequestTrace:
    """What is told of one request. This class records nothing."""

    def asked(self, request: GenerateRequest, model: str, release: str) -> None:
        """Tell what the model is asked: names and numbers, no text."""

    def admitted(self) -> None:
        """Tell that the request has its place in the model."""

    def first_token(self) -> None:
        """Tell that the first text arrived."""

    def finished(self, prompt_tokens: int, generation_tokens: int, reason: str) -> None:
        """Tell of a complete answer; of one request there may be several."""

    def ended(self, outcome: str) -> None:
        """Tell how an answer ended: `complete`, `error` or `cancelled`."""

    def answered(self, status: int) -> None:
        """Tell the HTTP status."""

    def close(self) -> None:
        """End the span."""


_NOTHING: Final = RequestTrace()
_current: Final[ContextVar[RequestTrace]] = ContextVar("request_trace", default=_NOTHING)


def current() -> RequestTrace:
    """Return the trace of the request that this task answers."""
    return _current.get()


def use(trace: RequestTrace) -> None:
    """Make it the trace of this task and of those that it starts."""
    _current.set(trace)


class _SpanTrace(RequestTrace):
    """A request as a span of OpenTelemetry."""

    def __init__(self, span: Span, operation: str) -> None:
        self._span = span
        self._operation = operation
        self._arrived = time.monotonic()
        self._waiting = True
        self._tokens = [0, 0]
        self._reasons: list[str] = []

    def asked(self, request: GenerateRequest, model: str, release: str) -> None:
        if self._operation:
            self._span.update_name(f"{self._operation} {model}")
        found: dict[str, str | int | float] = {
            "gen_ai.request.model": model,
            "gen_ai.response.model": model,
            "forge.release": release,
        }
        if request.max_tokens is not None:
            found["gen_ai.request.max_tokens"] = request.max_tokens
        for name, value in request.sampling.body().items():
            if name in _SAMPLING and isinstance(value, int | float):
                found[_SAMPLING[name]] = value
        self._span.set_attributes(found)

    def admitted(self) -> None:
        self._span.add_event("forge.admitted")

    def first_token(self) -> None:
        if self._waiting:  # of several answers, the first one's
            self._waiting = False
            seconds = time.monotonic() - self._arrived
            self._span.set_attribute("gen_ai.response.time_to_first_chunk", seconds)

    def finished(self, prompt_tokens: int, generation_tokens: int, reason: str) -> None:
        self._tokens[0] += prompt_tokens
        self._tokens[1] += generation_tokens
        self._reasons.append(reason)
        self._span.set_attributes(
            {
                "gen_ai.usage.input_tokens": self._tokens[0],
                "gen_ai.usage.output_tokens": self._tokens[1],
                "gen_ai.response.finish_reasons": tuple(self._reasons),
            }
        )

    def ended(self, outcome: str) -> None:
        from opentelemetry.trace import StatusCode

        self._span.set_attribute("forge.outcome", outcome)
        if outcome == "error":
            self._span.set_attribute("error.type", "generation")
            self._span.set_status(StatusCode.ERROR)

    def answered(self, status: int) -> None:
        from opentelemetry.trace import StatusCode

        self._span.set_attribute("http.response.status_code", status)
        if status >= _SERVER_ERRORS:  # of a server's span, 4xx is the client's error
            self._span.set_attribute("error.type", str(status))
            self._span.set_status(StatusCode.ERROR)

    def close(self) -> None:
        self._span.end()


class Tracer:
    """Begins spans and sends them in the background; a receiver that is away delays nothing.

    Args:
        exporter: gets the spans.

    Raises:
        ConfigurationError: the extra `otel` is not installed.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        with needs_extra("otel", "Tracing"):
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

        name = os.environ.get("OTEL_SERVICE_NAME", "forge-device")
        about = {"service.name": name, "service.version": forge.__version__}
        self._provider: TracerProvider = TracerProvider(
            resource=Resource.create(about), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("forge.device", forge.__version__)

    def begin(
        self, method: str, path: str, parent: TraceContext | None
    ) -> tuple[RequestTrace, TraceContext]:
        """Begin the span of a request; return it and the context for other servers."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation import set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        propagator = TraceContextTextMapPropagator()
        given = (
            {"traceparent": parent.traceparent, "tracestate": parent.tracestate} if parent else {}
        )
        operation = _OPERATIONS.get(path, "")
        about = {"http.request.method": method, "url.path": path}
        if operation:
            about |= {"gen_ai.operation.name": operation, "gen_ai.provider.name": "forge"}
        span = self._tracer.start_span(
            operation or f"{method} {path}",
            context=propagator.extract(given),
            kind=SpanKind.SERVER,
            attributes=about,
        )
        carrier: dict[str, str] = {}
        propagator.inject(carrier, set_span_in_context(span))
        context = TraceContext(carrier["traceparent"], carrier.get("tracestate", ""))
        return _SpanTrace(span, operation), context

    def close(self) -> None:
        """Send what is left, for at most some seconds."""
        self._provider.force_flush(_CLOSE_MS)
        self._provider.shutdown()


def tracer_of(environment: Mapping[str, str]) -> Tracer | None:
    """Return the tracer that the variables ask for; None if they ask for none.

    Raises:
        ConfigurationError: the extra `otel` is not installed, or another protocol is asked for.
    """
    off = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    exporter = environment.get("OTEL_TRACES_EXPORTER", "otlp")
    if off or exporter == "none" or not any(environment.get(name) for name in _ENDPOINTS):
        return None
    protocol = next(filter(None, map(environment.get, _PROTOCOLS)), _SUPPORTED)
    if exporter != "otlp" or protocol != _SUPPORTED:
        asked = exporter if exporter != "otlp" else protocol
        message = f"Tracing does not support {asked!r}"
        hint = f"set OTEL_TRACES_EXPORTER=otlp and OTEL_EXPORTER_OTLP_PROTOCOL={_SUPPORTED}"
        raise ConfigurationError(message, hint=hint)
    with needs_extra("otel", "Tracing (OTEL_EXPORTER_OTLP_ENDPOINT)"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    return Tracer(OTLPSpanExporter())
