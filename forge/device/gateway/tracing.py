"""Middleware that takes W3C trace context, passes it on to Triton, and makes spans by option."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forge.device.telemetry.tracing import Tracer, use
from forge.serving.triton.trace_context import CURRENT, TraceContext, parse

__all__ = ["TracingMiddleware"]


class TracingMiddleware:
    """Without a tracer the context of a request is passed on as it came.

    Args:
        tracer: makes a span of each POST; None makes none.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer | None) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; end its span when it is answered."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        context = _context_of(scope)
        if self._tracer is None:
            if context is not None:
                CURRENT.set(context)
            await self._app(scope, receive, send)
            return
        trace, outgoing = self._tracer.begin(scope["method"], scope["path"], context)
        use(trace)
        CURRENT.set(outgoing)

        async def observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                trace.answered(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except Exception:
            trace.answered(500)
            raise
        finally:
            trace.close()


def _context_of(scope: Scope) -> TraceContext | None:
    parent, states = b"", []
    for name, value in scope["headers"]:
        if name == b"traceparent":
            if parent:
                return None  # two parents are none
            parent = value
        elif name == b"tracestate":
            states.append(value)  # several are one list
    return parse(parent, b",".join(states)) if parent else None
