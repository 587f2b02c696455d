"""A receiver of OTLP over HTTP that decodes OpenTelemetry's own messages."""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

__all__ = ["Receiver", "Seen"]


@dataclass(frozen=True)
class Seen:
    """One span as it arrived."""

    name: str
    trace: str
    span: str
    parent: str
    kind: int
    status: int
    attributes: dict[str, Any]
    events: list[str]
    resource: dict[str, Any]


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)


def _attributes(found: Any) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in found}


@dataclass
class Receiver:
    """Listens at `url`; `seen` are the spans that arrived."""

    url: str
    seen: list[Seen] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @classmethod
    @contextlib.contextmanager
    def running(cls, status: int = 200) -> Iterator[Receiver]:
        """Answer every export with this status."""

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/v1/traces":
                    receiver.headers.append(dict(self.headers.items()))
                    receiver.take(body)
                self.send_response(status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.end_headers()
                self.wfile.write(ExportTraceServiceResponse().SerializeToString())

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            receiver = cls(f"http://127.0.0.1:{server.server_port}")
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield receiver
            finally:
                server.shutdown()
                thread.join()

    def take(self, body: bytes) -> None:
        """Decode one export."""
        for one in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _attributes(one.resource.attributes)
            for span in (span for scope in one.scope_spans for span in scope.spans):
                self.seen.append(
                    Seen(
                        name=span.name,
                        trace=span.trace_id.hex(),
                        span=span.span_id.hex(),
                        parent=span.parent_span_id.hex(),
                        kind=span.kind,
                        status=span.status.code,
                        attributes=_attributes(span.attributes),
                        events=[event.name for event in span.events],
                        resource=resource,
                    )
                )

    def wait(self, number: int, timeout_s: float = 10) -> list[Seen]:
        """The spans, once there are so many."""
        until = time.monotonic() + timeout_s
        while len(self.seen) < number:
            assert time.monotonic() < until, self.seen
            time.sleep(0.02)
        return self.seen
