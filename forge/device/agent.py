"""The agent: drives the state machine. All decisions are in forge.device.machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from forge.device.blame import blames, rolled_back
from forge.device.events import Happened, Tell, between
from forge.device.journal import Journal, Release, SlotName, Verdict
from forge.device.live import Live
from forge.device.machine import STEADY_S, next_state
from forge.device.moves import (
    Action,
    Activate,
    Crashed,
    Event,
    Failed,
    Fetch,
    Fetched,
    GoBack,
    GoBackAsked,
    HoldLifted,
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
)
from forge.device.repair import Repair
from forge.device.report import Look
from forge.device.servers import SlotServer
from forge.device.slots import Home
from forge.device.updater import Offer, Updater
from forge.errors import (
    BundleError,
    ConfigurationError,
    ForgeError,
    LoadFailedError,
    RolledBackError,
    StoreError,
    UsageError,
)

__all__ = ["Agent", "timestamp"]

_DRAIN_S = 10.0
_MAX_PAUSE_S = 60.0

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
        runtime: exact versions of what the machine itself provides.
        serves: False: a bundle is started to be probed, and not beyond that.
        tell: gets every event.
        clock: the time for the journal.
    """

    def __init__(  # noqa: PLR0913 - the parts of one device
        self,
        home: Home,
        updater: Updater,
        live: Live,
        say: Say,
        *,
        runtime: Mapping[str, str] | None = None,
        serves: bool = True,
        tell: Tell = lambda _happened: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.look: Look | None = None
        self.enter: Callable[[SlotName], None] = lambda _slot: None
        self.looked: Callable[[], None] = lambda: None  # called when `look` has changed
        self._home = home
        self._updater = updater
        self._live = live
        self._say = say
        self._serves = serves
        self._tell = tell
        self._clock = clock
        self._server = SlotServer(home, runtime or {}, say)
        self._repair = Repair(home, updater, say, tell, self._now)
        self._journal = home.journal()
        self._offer: Offer | None = None
        self._error: ForgeError | None = None
        self._told: set[Verdict] = set()
        self._failures = 0  # in a row, of the active slot
        self._served_since: float | None = None
        self._unservable: Crashed | None = None

    @property
    def journal(self) -> Journal:
        """What the device is doing, as it was last written down."""
        return self._journal

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
            StoreError: the store or the disk is out of reach; nothing was changed.
        """
        if self._journal.state != "idle":  # the journal could not be written when it should
            self.start()
        try:
            self._offer = offer = self._updater.look(self._journal.active_release)
        except (ForgeError, OSError) as caught:
            error = self._as_forge(caught)
            self._see(Look(at=self._now(), error=str(error)))
            raise error from None
        self._see(self._looked(offer))
        if offer.release == self._journal.active_release or self._unwanted(offer.release):
            return
        offer.require_fit()
        self._error = None
        self._say(f"installing {offer.release}")
        self._drive(UpdateFound(offer.release))
        if self._error:
            self._see(self.look, error=str(self._error))
            raise self._error

    def go_back(self, reason: str) -> None:
        """Activate what served before; what serves now is held until a newer one comes.

        Raises:
            UsageError: the other slot holds nothing that served.
            RolledBackError: it did not pass its probe; what served serves on.
        """
        if self._journal.state != "idle" or self._journal.previous is None:
            message = "There is nothing to go back to"
            hint = "a device can go back once after each update; forge device history shows them"
            raise UsageError(message, why="the other slot holds nothing that served", hint=hint)
        self._error = None
        self._say(f"going back to {self._journal.previous}: {reason}")
        self._drive(GoBackAsked(reason, self._now()))
        if isinstance(self._error, RolledBackError):
            raise self._error
        if self._error:
            raise rolled_back(self._error, self._journal.active)

    def lift_hold(self) -> None:
        """Let the release that was gone back from be installed again. Raises UsageError."""
        if self._journal.state != "idle" or self._journal.held is None:
            raise UsageError("No release is held back", hint="forge device status shows it")
        self._say(f"{self._journal.held.release} may be installed again")
        self._drive(HoldLifted())

    def tend(self) -> float:
        """See that the active slot serves; returns the seconds until the next call is due."""
        if self._journal.active is None or self._server.slot is not None:
            return 1.0
        since, self._served_since = self._served_since, None
        lived = 0.0 if since is None else time.monotonic() - since
        self._failures = 1 if lived > STEADY_S else self._failures + 1
        crash, self._unservable = self._unservable, None
        if reasons := self._server.reasons():
            self._server.stop()
            self._live.clear(f"Triton ended by itself: {reasons}")
            self._say(f"Triton ended by itself: {reasons}")
            crash = Crashed(reasons, self._now(), lived, blame=True)
        try:
            if crash and self._journal.state == "idle":
                self._drive(crash)
            else:
                self._perform(Serve(self._journal.active))
        except ForgeError as error:  # the journal cannot be written now
            self._say(str(error))
        return min(_MAX_PAUSE_S, 2.0 ** min(self._failures, 10))

    def stop(self) -> None:
        """Stop serving; the journal stays as it is."""
        self._live.clear("the device is stopping")
        self._server.stop()

    def _drive(self, event: Event | None) -> None:
        while event is not None:
            before = self._journal
            journal, action = next_state(before, event)
            if journal != before:
                self._write(journal)
            for happened in between(before, event, journal, self._now()):
                self._tell(self._with_bytes(happened))
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
        except (ForgeError, OSError) as caught:
            error = self._as_forge(caught)
            if isinstance(action, Serve):
                self._not_served(action.slot, error)
                return None
            # A full disk explains any failure.
            blame = blames(action, error) and self._home.free_mib() > 0
            blame = blame and not self._returns_to_damage(action)
            self._error = rolled_back(error, self._journal.active) if blame else error
            return Failed(str(error), self._now(), blame=blame)

    def _returns_to_damage(self, action: Action) -> bool:
        """Whether it failed in going back to a slot whose files have changed since they served."""
        candidate = self._journal.candidate
        if candidate is None or candidate != self._journal.previous:
            return False
        return (
            isinstance(action, Activate | Probe)
            and self._journal.target is not None
            and self._repair.mend(self._journal.target, candidate) != "whole"
        )

    def _not_served(self, slot: SlotName, error: ForgeError) -> None:
        """Say it, and put the slot right if it is damaged; `tend` tries it again."""
        self._live.clear(str(error))
        self._say(f"slot {slot} does not serve: {error}")
        release = self._journal.active_release
        if release is not None and isinstance(error, BundleError | LoadFailedError):
            condition = self._repair.mend(slot, release)
            crash = Crashed(str(error), self._now(), 0.0, blame=condition == "whole")
            self._unservable = None if condition == "healed" else crash

    def _as_forge(self, error: ForgeError | OSError) -> ForgeError:
        if isinstance(error, ForgeError):
            return error
        free = self._home.free_mib()
        message = f"The device could not read or write below {self._home.path}"
        hint = f"{free} MiB are free there; see what dmesg says of the disk; it is tried again"
        return StoreError(message, why=str(error), hint=hint)

    def _do(self, action: Action) -> Event | None:
        match action:
            case Fetch(_, slot):
                return self._fetch(slot)
            case Prepare(slot):
                # While an engine compiles, the active slot serves on and is looked after.
                self._server.prepare(slot, meanwhile=self.tend)
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
                if action.slot is None or self._server.slot != action.slot:
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
        moved = self._updater.fetch(self._offer, slot, self._journal.active)
        self._say(
            f"slot {slot} holds {self._offer.release}: {moved.fetched_bytes} bytes fetched,"
            f" {moved.reused_bytes} reused"
        )
        if self.look is not None:
            bytes_ = {"fetched_bytes": moved.fetched_bytes, "reused_bytes": moved.reused_bytes}
            self._see(self.look, **bytes_)
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
        try:
            self._server.prune(self._journal.slots)
        except (ForgeError, OSError) as error:  # room that is lost, no harm
            self._say(f"unused environments are left: {error}")
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
            self._repair.require_sizes(slot, release)
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

    def _unwanted(self, release: Release) -> bool:
        if verdict := self._journal.is_bad(release):
            text = f"{release} is known to be bad and not tried: {verdict.reason}"
        elif verdict := self._journal.is_held(release):
            text = f"{release} is held back ({verdict.reason}); forge device rollback --release"
        else:
            return False
        if verdict not in self._told:
            self._told.add(verdict)
            self._say(text)
        return True

    def _see(self, look: Look | None, **changes: object) -> None:
        self.look = look.model_copy(update=changes) if look else None
        self.looked()

    def _with_bytes(self, happened: Happened) -> Happened:
        if happened.event != "fetched" or self.look is None:
            return happened
        moved = self.look.model_dump(include={"fetched_bytes", "reused_bytes"})
        return happened.model_copy(update=moved)

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
