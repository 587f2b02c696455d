"""The agent: drives the state machine. All decisions are in forge.device.machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from forge.device.journal import Journal, SlotName, Verdict
from forge.device.live import Live
from forge.device.machine import (
    Action,
    Activate,
    Event,
    Failed,
    Fetch,
    Fetched,
    GoBack,
    Prepare,
    Prepared,
    Probe,
    Probed,
    Ready,
    Serve,
    Started,
    Switch,
    Switched,
    UpdateFound,
    WentBack,
    next_state,
)
from forge.device.report import Look
from forge.device.servers import SlotServer
from forge.device.slots import Home
from forge.device.updater import Offer, Updater
from forge.errors import ConfigurationError, ForgeError, RolledBackError, StoreError, TrustError

__all__ = ["Agent", "timestamp"]

_DRAIN_S = 10.0
_MAX_PAUSE_S = 60.0
_STEADY_S = 300.0  # a Triton that lived this long did not crash for the same reason

Say = Callable[[str], None]


def timestamp(now: datetime) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Agent:
    """One device. Whoever makes one holds the lock of its state folder.

    `enter`, if it is set, is called before a slot is started: to set its power and heat limits.

    Args:
        home: the state folder.
        updater: the store as this device sees it.
        live: told what serves.
        say: gets one line per event.
        serves: False: a bundle is started to be probed, and not beyond that.
        clock: the time for the journal.
    """

    def __init__(
        self,
        home: Home,
        updater: Updater,
        live: Live,
        say: Say,
        *,
        serves: bool = True,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.look: Look | None = None
        self.enter: Callable[[SlotName], None] = lambda _slot: None
        self._home = home
        self._updater = updater
        self._live = live
        self._say = say
        self._serves = serves
        self._clock = clock
        self._server = SlotServer(home)
        self._journal = home.journal()
        self._offer: Offer | None = None
        self._error: ForgeError | None = None
        self._told: set[Verdict] = set()
        self._crashes = 0
        self._served_since = 0.0

    def start(self) -> None:
        """Go on from the journal: whatever was under way ends or is taken back."""
        self._error = None
        self._drive(Started(self._now()))
        if self._error:
            self._say(str(self._error))

    def update(self) -> None:
        """Look at the channel once and install what it offers.

        Raises:
            RolledBackError: the bundle was tried and not kept.
            FitError: it does not fit this device; nothing was downloaded.
            TrustError: metadata that does not hold; nothing was changed.
            StoreError: the store is out of reach; nothing was changed.
        """
        if self._journal.state != "idle":  # the journal could not be written when it should
            self.start()
        try:
            self._offer = offer = self._updater.look()
        except ForgeError as error:
            self.look = Look(at=self._now(), error=str(error))
            raise
        self.look = self._looked(offer)
        if offer.release == self._journal.active_release:
            return
        if verdict := self._journal.is_bad(offer.release):
            if verdict not in self._told:
                self._told.add(verdict)
                self._say(f"{offer.release} is known to be bad and not tried: {verdict.reason}")
            return
        offer.require_fit()
        self._error = None
        self._say(f"installing {offer.release}")
        self._drive(UpdateFound(offer.release))
        if self._error:
            self.look = self.look.model_copy(update={"error": str(self._error)})
            raise self._error

    def tend(self) -> float:
        """See that the active slot serves; returns the seconds until the next call is due."""
        if self._journal.active is None or self._server.slot is not None:
            return 1.0
        lived = time.monotonic() - self._served_since
        self._crashes = 1 if lived > _STEADY_S else self._crashes + 1
        if reasons := self._server.reasons():
            self._live.clear(f"Triton ended by itself: {reasons}")
            self._say(f"Triton ended by itself: {reasons}")
        self._perform(Serve(self._journal.active))
        return min(_MAX_PAUSE_S, 2.0**self._crashes)

    def stop(self) -> None:
        """Stop serving; the journal stays as it is."""
        self._live.clear("the device is stopping")
        self._server.stop()

    def _drive(self, event: Event | None) -> None:
        while event is not None:
            journal, action = next_state(self._journal, event)
            if journal != self._journal:
                self._write(journal)
            event = self._perform(action)

    def _write(self, journal: Journal) -> None:
        try:
            self._home.write_journal(journal)
        except ForgeError:
            # Nothing may change without a journal; what was committed can serve without one.
            if self._journal.active and self._server.slot != self._journal.active:
                self._perform(Serve(self._journal.active))
            raise
        self._journal = journal

    def _perform(self, action: Action) -> Event | None:
        try:
            return self._do(action)
        except ForgeError as error:
            if isinstance(action, Serve):
                self._live.clear(str(error))
                self._say(f"slot {action.slot} does not serve: {error}")
                return None
            # A full disk explains any failure.
            blame = _blames(action, error) and self._home.free_mib() > 0
            self._error = _rolled_back(error, self._journal.active) if blame else error
            return Failed(str(error), self._now(), blame=blame)

    def _do(self, action: Action) -> Event | None:
        match action:
            case Fetch(_, slot):
                return self._fetch(slot)
            case Prepare(slot):
                self._server.prepare(slot)
                return Prepared()
            case Activate(slot):
                return self._activate(slot)
            case Probe():
                self._server.probe()
                return Probed()
            case Switch(slot):
                return self._switch(slot)
            case _:
                return self._rest(action)

    def _rest(self, action: Action) -> Event | None:
        match action:
            case GoBack():
                self._server.stop()
                return WentBack()
            case Serve(slot):
                self._serve(slot)
            case _:
                self._no_bundle()
        return None

    def _fetch(self, slot: SlotName) -> Event:
        if self._offer is None:
            raise ForgeError("The agent has no offer to fetch", why="this is a mistake in Forge")
        moved = self._updater.fetch(self._offer.manifest, slot, self._journal.active)
        self._say(
            f"slot {slot} holds {self._offer.release}: {moved.fetched_bytes} bytes fetched,"
            f" {moved.reused_bytes} reused"
        )
        if self.look is not None:
            self.look = self.look.model_copy(
                update={"fetched_bytes": moved.fetched_bytes, "reused_bytes": moved.reused_bytes}
            )
        return Fetched()

    def _activate(self, slot: SlotName) -> Event:
        self._live.clear(f"{self._journal.candidate} is being activated")
        if left := self._live.drain(_DRAIN_S):
            self._say(f"{left} requests did not end within {_DRAIN_S:g} s and are cut off")
        self.enter(slot)
        seconds = self._server.start(slot)
        self._say(f"slot {slot} is ready after {seconds:.1f} s")
        return Ready()

    def _switch(self, slot: SlotName) -> Event:
        self._point(slot)
        self._say(f"committed: slot {slot} holds {self._journal.active_release}")
        return Switched()

    def _point(self, slot: SlotName) -> None:
        try:
            if self._home.current() != slot:
                self._home.switch(slot)
        except ForgeError as error:  # the journal knows better; put right at the next start
            self._say(str(error))

    def _serve(self, slot: SlotName) -> None:
        release = self._journal.active_release
        if release is None:
            raise ConfigurationError(f"The journal does not say what slot {slot} holds")
        self._point(slot)
        if not self._serves:
            return
        if self._server.slot != slot:
            self._live.clear(f"slot {slot} is being started")
            self.enter(slot)
            self._server.start(slot)
        self._live.set(self._server.serving(release))
        self._served_since = time.monotonic()
        self._say(f"slot {slot} serves {release}")

    def _no_bundle(self) -> None:
        if self._journal.active is None:
            last = self._journal.rollbacks[-1:]
            why = f": {last[0].release} was not kept: {last[0].reason}" if last else ""
            self._live.clear(f"no bundle is installed{why}")

    def _looked(self, offer: Offer) -> Look:
        return Look(
            at=self._now(),
            offered=offer.release,
            profile=offer.detection.profile,
            reasons=offer.detection.reasons,
            warnings=offer.detection.warnings,
            fits=not offer.refusals,
            refusals=tuple(map(str, offer.refusals)),
        )

    def _now(self) -> str:
        return timestamp(self._clock())


def _blames(action: Action, error: ForgeError) -> bool:
    """Whether the bundle is at fault, and not the network, the disk or the package index."""
    if isinstance(action, Fetch):
        return isinstance(error, TrustError | ConfigurationError)  # proofs; serving.json
    if isinstance(action, Prepare):
        return isinstance(error, ConfigurationError)
    return not isinstance(error, StoreError)


def _rolled_back(error: ForgeError, active: SlotName | None) -> ForgeError:
    """What `update` raises for a bundle that was tried and not kept."""
    kept = f"slot {active} serves on" if active else "no other bundle is installed"
    hint = f"{kept}; forge device status shows the reason; publish another version"
    return RolledBackError("The bundle was not kept", why=str(error), hint=hint)
