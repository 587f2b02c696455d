"""Which variables make spans; the spans themselves: tests/unit/device/gateway/test_tracing.py."""

from __future__ import annotations

import pytest

from forge.device.telemetry.tracing import RequestTrace, current, tracer_of
from forge.errors import ConfigurationError

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        ENDPOINT | {"OTEL_SDK_DISABLED": "true"},
        ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_no_spans_are_made_unless_they_are_asked_for(environment: dict[str, str]) -> None:
    assert tracer_of(environment) is None


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "grpc"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "zipkin"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(more: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        tracer_of(ENDPOINT | more)


def test_without_spans_the_trace_of_a_request_records_nothing() -> None:
    assert type(current()) is RequestTrace
