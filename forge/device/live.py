"""What serves right now: written by the agent's thread, read by the gateway's."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass

from forge.device.journal import Release, SlotName

__all__ = ["Live", "Serving"]


@dataclass(frozen=True, slots=True)
class Serving:
    """A committed slot behind a Triton that is ready."""

    url: str
    model: str
    slot: SlotName
    release: Release
    triton: str
    runtime: dict[str, str]
    default_max_tokens: int
    max_seq_len: int


class Live:
    """The one `Serving`, or the reason why there is none; and which requests are under way where.

    A request keeps the server that it entered: after the change to another one it ends where it
    began, and `behind` counts it until it has.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._serving: Serving | None = None
        self._reason = "the device has just started"
        self._requests: Counter[str] = Counter()  # by URL: two servers never share a port

    def set(self, serving: Serving) -> None:
        """From now on requests go there."""
        with self._changed:
            self._serving, self._reason = serving, ""

    def clear(self, reason: str) -> None:
        """From now on requests are refused with this reason."""
        with self._changed:
            self._serving, self._reason = None, reason

    def get(self) -> tuple[Serving | None, str]:
        """What serves, and why nothing does."""
        with self._changed:
            return self._serving, self._reason

    def enter(self) -> Serving | None:
        """What serves, with one request more under way; None, and nothing counted, if nothing does.

        Both in one step: a server that `set` or `clear` gave free is asked by nobody any more.
        """
        with self._changed:
            if self._serving is not None:
                self._requests[self._serving.url] += 1
            return self._serving

    def leave(self, serving: Serving) -> None:
        """A request that entered there has ended."""
        with self._changed:
            self._requests[serving.url] -= 1
            self._requests += Counter()  # forgets what has come to nothing
            self._changed.notify_all()

    @property
    def under_way(self) -> int:
        """Requests that have not ended."""
        with self._changed:
            return self._requests.total()

    @property
    def behind(self) -> int:
        """Requests that have not ended at a server that gets no new ones."""
        with self._changed:
            here = self._requests[self._serving.url] if self._serving else 0
            return self._requests.total() - here

    def drain(self, timeout_s: float) -> int:
        """Wait until no request is under way; returns how many still are after the time."""
        until = time.monotonic() + timeout_s
        with self._changed:
            while self._requests.total() and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            return self._requests.total()
