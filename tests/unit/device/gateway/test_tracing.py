"""Spans of requests at a real receiver, and trace context without spans."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

from forge.device.gateway.app import create_app
from forge.device.gateway.tracing import TracingMiddleware
from forge.device.shared.concurrency import ConcurrencyLimit
from forge.device.shared.upstream import ActiveServer, Upstream
from forge.device.telemetry.tracing import Tracer, current, tracer_of
from forge.errors import ConfigurationError, StepFailedError
from forge.serving.triton.request import GenerateRequest
from forge.serving.triton.trace_context import CURRENT, TraceContext
from tests.support.gateway import listening
from tests.support.gateway_app import SERVING, Machine, Script, ScriptedBackend
from tests.support.otlp import Receiver, Seen

ROOT = Path(__file__).resolve().parents[4]
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SERVER, UNSET, ERROR = 2, 0, 2  # of OpenTelemetry's SpanKind and StatusCode, on the wire
CHAT = {
    "model": "llm",
    "messages": [{"role": "user", "content": "a secret"}],
    "max_tokens": 9,
    "temperature": 0.5,
}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver.running() as made:
        yield made


@dataclass
class Recording(Script):
    """A model whose backend sees the trace context."""

    contexts: list[TraceContext | None] = field(default_factory=list)

    async def check(self, serving: ActiveServer, request: GenerateRequest) -> None:
        self.contexts.append(CURRENT.get())
        await super().check(serving, request)


def asked(
    receiver: Receiver | None,
    script: Recording,
    *bodies: tuple[str, dict[str, object]],
    headers: dict[str, str] | None = None,
) -> tuple[list[int], list[TraceContext | None]]:
    """Statuses of the answers, and the context that the backend saw at each request."""
    upstream = Upstream()
    upstream.set(SERVING)
    app = create_app(upstream, ScriptedBackend(script), Machine, ConcurrencyLimit(2, "of the test"))
    tracer = Tracer(OTLPSpanExporter(f"{receiver.url}/v1/traces")) if receiver else None
    with listening(TracingMiddleware(app, tracer)) as url, httpx.Client(trust_env=False) as client:
        statuses = [
            client.post(f"{url}{path}", json=body, headers=headers).status_code
            for path, body in bodies
        ]
        client.get(f"{url}/health/live")
    if tracer:
        tracer.close()
    return statuses, script.contexts


def one(receiver: Receiver) -> Seen:
    [span] = receiver.wait(1)
    return span


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_is_a_span_with_the_names_of_the_conventions(
    receiver: Receiver, *, stream: bool
) -> None:
    asked(receiver, Recording(), ("/v1/chat/completions", CHAT | {"stream": stream}))
    span = one(receiver)
    assert (span.name, span.kind, span.status) == ("chat llm", SERVER, UNSET)
    seconds = span.attributes.pop("gen_ai.response.time_to_first_chunk")
    assert 0 < seconds < 5
    usage = {
        name: span.attributes.pop(f"gen_ai.usage.{name}")
        for name in ("input_tokens", "output_tokens")
    }
    assert all(value > 0 for value in usage.values())
    assert span.attributes == {
        "http.request.method": "POST",
        "url.path": "/v1/chat/completions",
        "http.response.status_code": 200,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "forge",
        "gen_ai.request.model": "llm",
        "gen_ai.response.model": "llm",
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.finish_reasons": ["stop"],
        "forge.release": str(SERVING.release),
        "forge.outcome": "complete",
    }
    assert span.resource["service.name"] == "forge-device"
    assert span.resource["service.version"]
    assert span.events == ["forge.admitted"]


def test_no_span_has_text_of_a_prompt_or_an_answer(receiver: Receiver) -> None:
    asked(receiver, Recording(), ("/v1/chat/completions", CHAT))
    assert "secret" not in repr(one(receiver))
    assert "Paris" not in repr(receiver.seen)


def test_a_caller_s_trace_goes_on_in_the_span_and_in_triton(receiver: Receiver) -> None:
    headers = {"traceparent": PARENT, "tracestate": "a=1"}
    _, [context] = asked(receiver, Recording(), ("/v1/chat/completions", CHAT), headers=headers)
    span = one(receiver)
    assert span.trace == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert span.parent == "00f067aa0ba902b7"
    assert context == TraceContext(f"00-{span.trace}-{span.span}-01", "a=1")


def test_a_caller_that_does_not_sample_is_obeyed(receiver: Receiver) -> None:
    headers = {"traceparent": PARENT[:-2] + "00"}
    _, [context] = asked(receiver, Recording(), ("/v1/chat/completions", CHAT), headers=headers)
    assert context
    assert context.traceparent.endswith("-00")
    assert receiver.seen == []


def test_each_request_is_its_own_trace_and_others_than_post_are_none(receiver: Receiver) -> None:
    chat = ("/v1/chat/completions", CHAT)
    text = ("/v1/completions", {"model": "llm", "prompt": "France", "max_tokens": 9})
    asked(receiver, Recording(), chat, text)
    first, second = receiver.wait(2)
    assert first.trace != second.trace
    assert first.parent == second.parent == ""
    assert second.name == "text_completion llm"


def test_errors_of_the_client_are_told_by_status_and_of_the_device_are_errors(
    receiver: Receiver,
) -> None:
    wrong = ("/v1/chat/completions", CHAT | {"model": "other"})
    assert asked(receiver, Recording(), wrong)[0] == [404]
    span = one(receiver)
    assert (span.attributes["http.response.status_code"], span.status) == (404, UNSET)
    receiver.seen.clear()
    broken = Recording(pieces=(), error=StepFailedError("Triton broke off"))
    [status], _ = asked(receiver, broken, ("/v1/chat/completions", CHAT))
    span = one(receiver)
    assert status >= 500
    assert (span.attributes["forge.outcome"], span.status) == ("error", ERROR)
    assert span.attributes["error.type"] == str(status)


def test_without_a_tracer_the_context_goes_to_triton_as_it_came() -> None:
    for headers, expected in (
        ({"traceparent": PARENT, "tracestate": "a=1"}, TraceContext(PARENT, "a=1")),
        ({"traceparent": "nonsense"}, None),
        (None, None),
    ):
        _, [context] = asked(None, Recording(), ("/v1/chat/completions", CHAT), headers=headers)
        assert context == expected


def test_a_receiver_that_is_away_delays_and_breaks_nothing() -> None:
    with Receiver.running(status=503) as receiver:
        away = Receiver("http://127.0.0.1:9")
        assert receiver.url != away.url
    statuses, _ = asked(away, Recording(), ("/v1/chat/completions", CHAT))
    assert statuses == [200]


def test_outside_of_a_request_nothing_is_recorded() -> None:
    current().first_token()
    current().finished(1, 2, "stop")
    current().close()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_it_is_off_unless_an_endpoint_is_named(environment: dict[str, str]) -> None:
    assert tracer_of(environment) is None


def test_the_standard_variables_are_obeyed(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=7")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "kitchen")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "site=cellar")
    tracer = tracer_of(os.environ)
    assert tracer
    trace, _ = tracer.begin("POST", "/tokenize", None)
    trace.close()
    tracer.close()
    span = one(receiver)
    assert span.name == "POST /tokenize"
    assert span.resource["service.name"] == "kitchen"
    assert span.resource["site"] == "cellar"
    assert {name.lower(): value for name, value in receiver.headers[0].items()}["x-key"] == "7"


@pytest.mark.parametrize(
    ("name", "value"),
    [("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_TRACES_EXPORTER", "zipkin")],
)
def test_another_protocol_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"does not support '{value}'") as caught:
        tracer_of({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", name: value})
    assert "http/protobuf" in str(caught.value.hint)


def test_off_it_loads_no_package_of_opentelemetry() -> None:
    program = (
        "import sys; from forge.device.telemetry.tracing import tracer_of;"
        "assert not tracer_of({});"
        "import forge.device.daemon, forge.device.gateway.tracing;"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
