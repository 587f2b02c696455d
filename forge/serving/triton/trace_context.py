"""W3C trace context of the request that is being answered, which Triton gets with its own.

https://www.w3.org/TR/trace-context/: `traceparent` is VERSION-TRACE-PARENT-FLAGS in lower-case
hexadecimal. A value that is not valid is ignored, with its `tracestate`.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

__all__ = ["CURRENT", "TraceContext", "outgoing_headers", "parse"]

_TRACEPARENT: Final = re.compile(
    rb"([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]*)?"
)
_TRACESTATE: Final = re.compile(rb"[ -~]{1,512}")  # what a participant must pass on at least


@dataclass(frozen=True, slots=True)
class TraceContext:
    """The headers `traceparent` and `tracestate`; the second may be empty."""

    traceparent: str
    tracestate: str = ""


CURRENT: Final[ContextVar[TraceContext | None]] = ContextVar("trace_context", default=None)


def parse(traceparent: bytes, tracestate: bytes = b"") -> TraceContext | None:
    """Return the context of a request's headers; None if there is none that is valid."""
    found = _TRACEPARENT.fullmatch(traceparent)
    # Only later versions than 00 may have more fields; ff is none.
    if not found or found[1] == b"ff" or (found[1] == b"00" and found[2]):
        return None
    state = tracestate.strip() if _TRACESTATE.fullmatch(tracestate.strip()) else b""
    return TraceContext(traceparent.decode("ascii"), state.decode("ascii"))


def outgoing_headers() -> str:
    """Return the lines of an HTTP head for the current context; empty if there is none."""
    context = CURRENT.get()
    if context is None:
        return ""
    state = f"tracestate: {context.tracestate}\r\n" if context.tracestate else ""
    return f"traceparent: {context.traceparent}\r\n{state}"
