"""The server that is active now: written by the agent's thread, read by the gateway's."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass

from forge.accuracy.receipt import Receipt
from forge.device.shared.release import Release, SlotName
from forge.serving.repository.spec import EmbeddingSpec

__all__ = ["ActiveServer", "Upstream"]


@dataclass(frozen=True, slots=True)
class ActiveServer:
    """A committed slot and its Triton server, which is ready."""

    url: str
    model: str
    slot: SlotName
    release: Release
    triton: str
    runtime: dict[str, str]
    default_max_tokens: int
    max_seq_len: int
    accuracy: Receipt | None = None  # of its engine; None: published without one
    metrics_url: str = ""  # of Triton's own metrics; empty: none are shown
    embedding: EmbeddingSpec | None = None  # its second model; None: it has none


class Upstream:
    """The `ActiveServer`, or why there is none, and the requests in flight on each server.

    A request stays on the server on which it started: after a change to another server it finishes
    there, and `behind` counts it until then.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._serving: ActiveServer | None = None
        self._reason = "the device has just started"
        self._requests: Counter[str] = Counter()  # by URL: two servers never share a port

    def set(self, serving: ActiveServer) -> None:
        """Route new requests to this server."""
        with self._changed:
            self._serving, self._reason = serving, ""

    def clear(self, reason: str) -> None:
        """Refuse new requests with this reason."""
        with self._changed:
            self._serving, self._reason = None, reason

    def get(self) -> tuple[ActiveServer | None, str]:
        """Return the active server, or None and the reason."""
        with self._changed:
            return self._serving, self._reason

    def enter(self) -> ActiveServer | None:
        """Return the active server and count one more request on it; None if there is none.

        In one step, so that a server which `set` or `clear` replaced gets no further request.
        """
        with self._changed:
            if self._serving is not None:
                self._requests[self._serving.url] += 1
            return self._serving

    def leave(self, serving: ActiveServer) -> None:
        """Count the end of a request on this server."""
        with self._changed:
            self._requests[serving.url] -= 1
            self._requests += Counter()  # removes zero counts
            self._changed.notify_all()

    @property
    def under_way(self) -> int:
        """Return the number of requests in flight."""
        with self._changed:
            return self._requests.total()

    @property
    def behind(self) -> int:
        """Return the number of requests in flight on servers that get no new ones."""
        with self._changed:
            here = self._requests[self._serving.url] if self._serving else 0
            return self._requests.total() - here

    def drain(self, timeout_s: float) -> int:
        """Wait until no request is in flight; return how many are after the timeout."""
        until = time.monotonic() + timeout_s
        with self._changed:
            while self._requests.total() and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            return self._requests.total()
