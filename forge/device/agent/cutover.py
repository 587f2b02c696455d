"""Route the requests from one slot's server to the other's."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from forge.device.agent.slot_servers import SlotServers
from forge.device.shared.release import Release, SlotName, other
from forge.device.shared.signals import check_signals
from forge.device.shared.upstream import Upstream

__all__ = ["Cutover"]

_log = logging.getLogger(__name__)

_SWAP_DRAIN_S: Final = 10.0  # no request is answered during it
_WATCH_S: Final = 1.0


class Cutover:
    """Decides which slot's server gets the requests.

    Args:
        upstream: tells the gateway what serves.
        servers: of the slots.
        configure: sets the power and thermal limits of a slot. Called right before the slot gets
            requests: in a swap before its server starts, in blue-green when the other slot's server
            has got its last one.
        drain_s: how long a server may finish its last requests: as long as a request may take.
    """

    def __init__(
        self,
        upstream: Upstream,
        servers: SlotServers,
        configure: Callable[[SlotName], None] = lambda _slot: None,
        drain_s: float = 600.0,
    ) -> None:
        self._upstream = upstream
        self._servers = servers
        self._configure = configure
        self._drain_s = drain_s
        self._since: float | None = None
        self._draining: tuple[SlotName, float] | None = None  # and until when
        self._watched = 0.0

    @property
    def draining(self) -> bool:
        """Whether a server finishes its last requests while the other slot gets the new ones."""
        return self._draining is not None

    def start(self, slot: SlotName, beside: SlotName | None, release: Release) -> float:
        """Start a slot's server, which gets no requests yet; return the seconds it took.

        Args:
            slot: which.
            beside: the slot that keeps getting requests; None: they are refused from now on.
            release: in the slot.

        Raises:
            As `SlotServers.start`.
        """
        if beside is None:
            self._upstream.clear(f"{release} is being activated")
            self._drain()
            self._since = None
            self._configure(slot)
        return self._servers.start(slot, beside)

    def retire(self, slot: SlotName, reason: str) -> None:
        """Stop a slot's server after its last request, for which it gets some seconds."""
        self._upstream.clear(f"slot {slot}: {reason}")
        self._drain()
        self._since = None
        self._servers.stop(slot)

    def activate(self, slot: SlotName, release: Release) -> None:
        """Route new requests to this slot. Raises as `SlotServers.start`.

        The server that got them until now is not waited for: `finish_drain` stops it after its last
        request.
        """
        serving, _ = self._upstream.get()
        if not self._servers.alive(slot):
            self._upstream.clear(f"slot {slot} is being started")
            self._configure(slot)
            seconds = self._servers.start(slot, self._draining[0] if self._draining else None)
            _log.info("slot %s is ready after %.1f s", slot, seconds)
            self._set(slot, release)
        elif serving is None or serving.slot != slot:
            self._configure(slot)
            self._set(slot, release)
        if self._draining is None and self._servers.alive(other(slot)):
            self._draining = other(slot), time.monotonic() + self._drain_s

    def finish_drain(self) -> None:
        """Stop the server that drains once its last request has ended, or its time is over."""
        if self._draining is None:
            return
        slot, until = self._draining
        left = self._upstream.behind
        if left and time.monotonic() < until:
            return
        if left:
            _log.warning("%d requests did not end within %g s and are cut off", left, self._drain_s)
        self._draining = None
        self._servers.stop(slot)
        _log.info("slot %s has answered its last request", slot)

    def stop_others(self, slot: SlotName | None) -> None:
        """Stop every server but this slot's, whether that gets requests now or not."""
        self._draining = None
        self._servers.stop_all(but=slot)

    def handle_exit(self, slot: SlotName) -> str:
        """Stop routing to a server that ended by itself; return why. "" if none was started."""
        if reasons := self._servers.reasons(slot):
            self._servers.stop(slot)
            self._upstream.clear(f"Triton ended by itself: {reasons}")
            _log.error("Triton ended by itself: %s", reasons)
        return reasons

    def uptime_s(self) -> float:
        """Return how long the slot had got requests, once after its server ended; 0 if never."""
        since, self._since = self._since, None
        return 0.0 if since is None else time.monotonic() - since

    def refuse(self, reason: str) -> None:
        """Refuse requests from now on, with this reason."""
        self._upstream.clear(reason)

    def watch(self) -> None:
        """Stop routing to a server that has ended. An activation then continues as a swap.

        Raises:
            StopAskedError: a signal came.
        """
        check_signals()
        if time.monotonic() - self._watched < _WATCH_S:  # each check reads all of /proc
            return
        self._watched = time.monotonic()
        serving, _ = self._upstream.get()
        if serving is not None and not self._servers.alive(serving.slot):
            self.handle_exit(serving.slot)

    def stop(self, reason: str) -> None:
        """Refuse requests and stop every server."""
        self._upstream.clear(reason)
        self.stop_others(None)

    def _drain(self) -> None:
        if left := self._upstream.drain(_SWAP_DRAIN_S):
            text = "%d requests did not end within %g s and are cut off"
            _log.warning(text, left, _SWAP_DRAIN_S)

    def _set(self, slot: SlotName, release: Release) -> None:
        self._upstream.set(self._servers.serving(slot, release))
        self._since = time.monotonic()
        _log.info("slot %s serves %s", slot, release)
