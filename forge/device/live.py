"""What serves right now: written by the agent's thread, read by the gateway's."""

from __future__ import annotations

import threading
import time
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
    """The one `Serving`, or the reason why there is none; and how many requests are under way."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._serving: Serving | None = None
        self._reason = "the device has just started"
        self._requests = 0

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

        Both in one step: a slot that `clear` and `drain` gave free is asked by nobody any more.
        """
        with self._changed:
            self._requests += self._serving is not None
            return self._serving

    def leave(self) -> None:
        """A request that entered has ended."""
        with self._changed:
            self._requests -= 1
            self._changed.notify_all()

    @property
    def under_way(self) -> int:
        """Requests that have not ended."""
        with self._changed:
            return self._requests

    def drain(self, timeout_s: float) -> int:
        """Wait until no request is under way; returns how many still are after the time."""
        until = time.monotonic() + timeout_s
        with self._changed:
            while self._requests and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            return self._requests
