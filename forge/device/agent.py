"""The agent: drives the state machine. All decisions are in forge.device.machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from forge.device.blame import blames, rolled_back
from forge.device.events import Tell, between
from forge.device.handover import Handover
from forge.device.journal import SLOTS, Journal, Release, SlotName, Verdict
from forge.device.live import Live
from forge.device.machine import STEADY_S, next_state
from forge.device.moves import (
    Action,
    Activate,
    Crashed,
    Event,
    Failed,
    Fetched,
    GoBackAsked,
    HoldLifted,
    Prepare,
    Probe,
    Serve,
    Started,
    UpdateFound,
)
from forge.device.patience import Patience
from forge.device.performer import Performer
from forge.device.repair import Repair
from forge.device.report import Look
from forge.device.room import Room
from forge.device.servers import SlotServers
from forge.device.signals import check_signals
from forge.device.slots import Home
from forge.device.updater import Updater
from forge.errors import (
    BundleError,
    ForgeError,
    LoadFailedError,
    RolledBackError,
    StoreError,
    UsageError,
)
from forge.store.stopping import StoppedError

__all__ = ["Agent", "timestamp"]

_MAX_PAUSE_S = 60.0

Say = Callable[[str], None]


def timestamp(now: datetime) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Agent:
    """One device. Whoever makes one holds the lock of its state folder.

    `handover.enter`, if it is set, is called before a slot gets requests: to set its power and heat
    limits.

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
        self.asked: Callable[[], bool] = lambda: False  # whether a wish waits: it goes first
        self.looked: Callable[[], None] = lambda: None  # called when `look` has changed
        self._home = home
        self._updater = updater
        self._say = say
        self._tell = tell
        self._clock = clock
        self._servers = servers = SlotServers(home, runtime or {}, say)
        self.handover = Handover(live, servers, say)
        self._repair = Repair(home, updater, say, tell, self._now)
        self._performer = Performer(
            home, updater, servers, self.handover, self._repair, say, serves=serves
        )
        self._journal = home.journal()
        self._error: ForgeError | None = None
        self._told: set[Verdict] = set()
        self._patience = Patience()
        self._failures = 0  # in a row, of the active slot
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
        """Look at the channel once and install what it offers; a wish that comes ends it.

        Raises:
            RolledBackError: the bundle was tried and not kept.
            FitError: it does not fit this device; nothing was downloaded.
            TrustError: metadata that does not hold; nothing was changed.
            StoreError: the store or the disk is out of reach; nothing was changed.
        """
        if self._journal.state != "idle":  # the journal could not be written when it should
            self.start()
        active = self._journal.active_release
        try:
            offer = self._performer.beside(
                lambda: self._updater.look(active), self.tend, unwanted=self.asked
            )
        except StoppedError:
            return
        except (ForgeError, OSError) as caught:
            error = self._as_forge(caught)
            self._see(Look(at=self._now(), error=str(error)))
            raise error from None
        self._see(Look.of(offer, self._now()))
        # Once the other slot is written there is nothing left to go back to.
        if self.asked() or self._journal.state != "idle":
            return
        if offer.release == self._journal.active_release or self._unwanted(offer.release):
            return
        offer.require_fit()
        if self._patience.lets_pass(offer.release):
            return
        self._performer.offer = offer
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
        self._drive(GoBackAsked(reason, self._now(), self._both_blue_green()))
        if isinstance(self._error, RolledBackError):
            raise self._error
        if self._error:
            raise rolled_back(self._error, self._journal.active)

    def _both_blue_green(self) -> bool:
        """Whether both slots' bundles allow for each other; only then was room for both checked."""
        try:
            return self._performer.blue_green(*SLOTS)
        except OSError as error:
            raise self._as_forge(error) from None

    def lift_hold(self) -> None:
        """Let the release that was gone back from be installed again. Raises UsageError."""
        if self._journal.state != "idle" or self._journal.held is None:
            raise UsageError("No release is held back", hint="forge device status shows it")
        self._say(f"{self._journal.held.release} may be installed again")
        self._drive(HoldLifted())

    def tend(self) -> float:
        """See that the active slot serves; returns the seconds until the next call is due."""
        check_signals()
        try:
            self.handover.look()
        except (ForgeError, OSError) as error:
            self._say(f"what is leaving could not be stopped: {error}")
        active = self._journal.active
        if active is None or self._servers.alive(active):
            return 1.0
        lived = self.handover.lived_s()
        self._failures = 1 if lived > STEADY_S else self._failures + 1
        crash, self._unservable = self._unservable, None
        if reasons := self.handover.ended(active):
            crash = Crashed(reasons, self._now(), lived, blame=True)
        try:
            if crash and self._journal.state == "idle":
                self._drive(crash)
            else:
                self._perform(Serve(active))
        except ForgeError as error:  # the journal cannot be written now
            self._say(str(error))
        return min(_MAX_PAUSE_S, 2.0 ** min(self._failures, 10))

    def stop(self) -> None:
        """Stop serving; the journal stays as it is."""
        self.handover.stop("the device is stopping")

    def _drive(self, event: Event | None) -> None:
        while event is not None:
            check_signals()
            before = self._journal
            journal, action = next_state(before, event)
            if journal != before:
                self._write(journal)
            for happened in between(before, event, journal, self._now()):
                self._tell(happened)
            event = self._perform(action)

    def _write(self, journal: Journal) -> None:
        try:
            self._home.write_journal(journal)
        except ForgeError:
            # Nothing may change without a journal; what was committed can serve without one.
            if self._journal.active:
                self._perform(Serve(self._journal.active))
            raise
        self._journal = journal

    def _perform(self, action: Action) -> Event | None:
        room = Room.now(self._home.path)
        try:
            return self._do(action)
        except (ForgeError, OSError) as caught:
            error = self._as_forge(caught)
            if isinstance(action, Serve):
                self._not_served(action.slot, error, room)
                return None
            blame = blames(action, error) and not self._short(room)
            blame = blame and not self._returns_to_damage(action)
            self._error = rolled_back(error, self._journal.active) if blame else error
            if self._journal.candidate and not (blame and self._journal.active):
                self._have_patience(self._journal.candidate)
            return Failed(str(error), self._now(), blame=blame)

    def _short(self, room: Room) -> bool:
        """Whether the machine lacked room, which explains any failure; says it."""
        if lack := room.lack():
            self._say(f"nobody's fault: {lack}")
        return bool(lack)

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

    def _have_patience(self, release: Release) -> None:
        if looks := self._patience.failed(release):
            again = "restart the agent to try at once"
            self._say(f"{release} is tried again after {looks} more looks; {again}")

    def _not_served(self, slot: SlotName, error: ForgeError, room: Room) -> None:
        """Say it, and put the slot right if it is damaged; `tend` tries it again."""
        self.handover.refuse(str(error))
        self._say(f"slot {slot} does not serve: {error}")
        release = self._journal.active_release
        if release is not None and isinstance(error, BundleError | LoadFailedError):
            condition = self._repair.mend(slot, release)
            blame = condition == "whole" and not self._short(room)
            crash = Crashed(str(error), self._now(), 0.0, blame=blame)
            self._unservable = None if condition == "healed" else crash

    def _as_forge(self, error: ForgeError | OSError) -> ForgeError:
        if isinstance(error, ForgeError):
            return error
        free = self._home.free_mib()
        message = f"The device could not read or write below {self._home.path}"
        hint = f"{free} MiB are free there; see what dmesg says of the disk; it is tried again"
        return StoreError(message, why=str(error), hint=hint)

    def _do(self, action: Action) -> Event | None:
        if isinstance(action, Prepare) and (slot := action.serving):
            self._perform(Serve(slot))
        event = self._performer.do(action, self._journal, self.tend, self.asked)
        if isinstance(event, Fetched) and self.look is not None:
            moved = {"fetched_bytes": event.fetched_bytes, "reused_bytes": event.reused_bytes}
            self._see(self.look, **moved)
        return event

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
        changes["places"] = self._updater.places()
        self.look = look.model_copy(update=changes) if look else None
        self.looked()

    def _now(self) -> str:
        return timestamp(self._clock())
