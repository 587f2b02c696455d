"""Handing the requests from one slot's server to the other's."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from forge.device.journal import Release, SlotName, other
from forge.device.live import Live
from forge.device.servers import SlotServers
from forge.device.signals import check_signals

__all__ = ["Handover"]

_SWAP_DRAIN_S: Final = 10.0  # nobody is answered meanwhile
_WATCH_S: Final = 1.0


class Handover:
    """Which slot's server gets the requests.

    `enter`, if it is set, is called with a slot right before it gets requests: in a swap before its
    server starts, in blue-green when the other slot's server has got its last one. It sets the
    slot's power and heat limits.

    `leave_s` is how long a server that is leaving may answer on: as long as a request may take.

    Args:
        live: told what serves.
        servers: of the slots.
        say: gets one line per event.
    """

    def __init__(self, live: Live, servers: SlotServers, say: Callable[[str], None]) -> None:
        self.enter: Callable[[SlotName], None] = lambda _slot: None
        self.leave_s = 600.0
        self._live = live
        self._servers = servers
        self._say = say
        self._since: float | None = None
        self._leaving: tuple[SlotName, float] | None = None  # and until when
        self._watched = 0.0

    @property
    def leaving(self) -> bool:
        """Whether a server still answers its last requests while the other slot gets the new."""
        return self._leaving is not None

    def start(self, slot: SlotName, beside: SlotName | None, release: Release) -> float:
        """Start a slot's server, which gets no requests yet; returns the seconds it took.

        Args:
            slot: which.
            beside: what goes on getting requests; None: they are refused from now on.
            release: in the slot.

        Raises:
            As `SlotServers.start`.
        """
        if beside is None:
            self._live.clear(f"{release} is being activated")
            if left := self._live.drain(_SWAP_DRAIN_S):
                self._say(f"{left} requests did not end within {_SWAP_DRAIN_S:g} s and are cut off")
            self._since = None
            self.enter(slot)
        return self._servers.start(slot, beside, self._watch)

    def give(self, slot: SlotName, release: Release) -> None:
        """From now on requests go to this slot. Raises as `SlotServers.start`.

        Whatever serves until now is not waited for: `look` stops it after its last request.
        """
        serving, _ = self._live.get()
        if not self._servers.alive(slot):
            self._live.clear(f"slot {slot} is being started")
            self.enter(slot)
            self._servers.start(slot, self._leaving[0] if self._leaving else None)
            self._set(slot, release)
        elif serving is None or serving.slot != slot:
            self.enter(slot)
            self._set(slot, release)
        if self._leaving is None and self._servers.alive(other(slot)):
            self._leaving = other(slot), time.monotonic() + self.leave_s

    def look(self) -> None:
        """Stop the server that is leaving once its last request has ended."""
        if self._leaving is None:
            return
        slot, until = self._leaving
        left = self._live.behind
        if left and time.monotonic() < until:
            return
        if left:
            self._say(f"{left} requests did not end within {self.leave_s:g} s and are cut off")
        self._leaving = None
        self._servers.stop(slot)
        self._say(f"slot {slot} has answered its last request")

    def take_back(self, slot: SlotName | None) -> None:
        """Stop every server but this slot's, whether that gets requests now or not."""
        self._leaving = None
        self._servers.stop_all(but=slot)

    def ended(self, slot: SlotName) -> str:
        """Why a slot's server ended by itself; it gets no requests then. "" if none was started."""
        if reasons := self._servers.reasons(slot):
            self._servers.stop(slot)
            self._live.clear(f"Triton ended by itself: {reasons}")
            self._say(f"Triton ended by itself: {reasons}")
        return reasons

    def lived_s(self) -> float:
        """Seconds the slot has got requests, asked once after its server ended; 0 if it did not."""
        since, self._since = self._since, None
        return 0.0 if since is None else time.monotonic() - since

    def refuse(self, reason: str) -> None:
        """From now on requests are refused with this reason."""
        self._live.clear(reason)

    def watch(self) -> float:
        """See whether what gets requests still runs; it gets none if not. When to look again, s."""
        self._watch()
        return _WATCH_S

    def stop(self, reason: str) -> None:
        """Refuse requests and stop every server."""
        self._live.clear(reason)
        self.take_back(None)

    def _set(self, slot: SlotName, release: Release) -> None:
        self._live.set(self._servers.serving(slot, release))
        self._since = time.monotonic()
        self._say(f"slot {slot} serves {release}")

    def _watch(self) -> None:
        """While a server starts: the other one may end by itself. Then this goes on as a swap."""
        check_signals()
        if time.monotonic() - self._watched < _WATCH_S:  # each look reads all of /proc
            return
        self._watched = time.monotonic()
        serving, _ = self._live.get()
        if serving is not None and not self._servers.alive(serving.slot):
            self.ended(serving.slot)
