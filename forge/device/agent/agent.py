"""The agent: one loop takes events from one queue, and is the only writer of the journal.

The state machine decides what follows from an event (forge.device.state_machine.transitions).
Actions that take long, and reading the channel, run in threads that post an event at their end; the
supervisor posts crashes of the active slot's server. No action begins while another one is on the
stack.
"""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from forge.device.agent.background import (
    ActionDone,
    AgentEvent,
    BackgroundWorker,
    ChannelRead,
    SlotRepaired,
    WorkFailed,
    WorkKind,
)
from forge.device.agent.cutover import Cutover
from forge.device.agent.executor import ActionExecutor
from forge.device.agent.repair import Repair
from forge.device.agent.slot_servers import SlotServers
from forge.device.agent.supervisor import Supervisor
from forge.device.agent.weights_reader import DamageFound, ReadingSchedule
from forge.device.agent.weights_repair import WeightsRepair
from forge.device.shared.release import SLOTS, Release, SlotName
from forge.device.shared.signals import check_signals
from forge.device.shared.upstream import Upstream
from forge.device.state.directory import StateDirectory
from forge.device.state.disk_errors import as_forge_error
from forge.device.state.weights_record import WeightsRecord
from forge.device.state_machine.actions import Action, Activate, Fetch, Prepare, Serve
from forge.device.state_machine.events import (
    Crashed,
    Fetched,
    GoBackAsked,
    HoldLifted,
    MachineEvent,
    Started,
    UpdateFound,
)
from forge.device.state_machine.journal import FailedRelease, Journal
from forge.device.state_machine.transitions import next_state
from forge.device.telemetry.contact import ContactLog, StoreContact
from forge.device.telemetry.fetch_progress import FetchMeter, FetchProgress
from forge.device.telemetry.history import EventListener, FitLog, between
from forge.device.telemetry.status import ChannelCheck, ServerStarting
from forge.device.update.backoff import ReleaseBackoff
from forge.device.update.failure_policy import FailureVerdict, not_kept
from forge.device.update.updater import Offer, Updater
from forge.errors import ForgeError, RolledBackError, UsageError
from forge.store.cancellation import CancelledError

__all__ = ["Agent", "timestamp"]

_log = logging.getLogger(__name__)

_TURN_S: Final = 0.2


def timestamp(now: datetime) -> str:
    """Return RFC 3339 in UTC, whole seconds."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Agent:
    """The agent of one device. Its maker holds the lock of the state directory.

    Args:
        home: the state directory.
        updater: the store as this device sees it.
        upstream: told what serves.
        runtime: returns exact versions of what the machine itself provides now.
        serves: False: a bundle is started to be probed, and not beyond that.
        notify: gets every event.
        configure: sets the power and thermal limits of a slot before it gets requests.
        environment: the variables by which the server of a slot sees its one GPU.
        drain_s: how long a server may finish its last requests after a cutover.
        request_pending: whether an operator's request waits; it goes before an update.
        checked: gets what is known of the channel, whenever that has changed.
        schedule: of the background reading of the slots' files.
        clock: the time for the journal.
    """

    def __init__(  # noqa: PLR0913 - the parts of one device
        self,
        home: StateDirectory,
        updater: Updater,
        upstream: Upstream,
        *,
        runtime: Callable[[], Mapping[str, str]] = dict,
        serves: bool = True,
        notify: EventListener = lambda _happened: None,
        configure: Callable[[SlotName], None] = lambda _slot: None,
        environment: Callable[[SlotName], Mapping[str, str]] = lambda _slot: {},
        drain_s: float = 600.0,
        request_pending: Callable[[], bool] = lambda: False,
        checked: Callable[[ChannelCheck | None], None] = lambda _check: None,
        schedule: ReadingSchedule = ReadingSchedule(),  # noqa: B008 - frozen
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._home = home
        self._updater = updater
        self._serves = serves
        self._notify = notify
        self._request_pending = request_pending
        self._checked = checked
        self._clock = clock
        self._events: queue.SimpleQueue[AgentEvent] = queue.SimpleQueue()
        servers, post = SlotServers(home, runtime, environment), self._events.put
        self._cutover = Cutover(upstream, servers, configure, drain_s)
        repair = Repair(home, updater, notify, self._now)
        self._supervisor = Supervisor(home, servers, self._cutover, repair, post, self._now)
        self._servers, self._meter = servers, FetchMeter()
        self._executor = ActionExecutor(
            home, updater, servers, self._cutover, repair, self._supervisor, self._meter,
            post=post, now=self._now, serves=serves,
        )  # fmt: skip
        self._weights = WeightsRepair(
            home, repair, self._supervisor, schedule, post=post, notify=notify, now=self._now
        )
        self._checker = BackgroundWorker("check", post, threaded=serves)
        self._checking = False  # until the event of the check is handled
        self._found: ChannelRead | None = None  # waits until no action is under way
        self._offer: Offer | None = None  # what is being installed
        self._waiting: Action | None = None  # until a server has drained
        self._channel_check: ChannelCheck | None = None
        self._journal = home.journal()
        self._error: ForgeError | None = None
        self._logged: set[FailedRelease] = set()
        self._backoff = ReleaseBackoff()
        self._fit = FitLog(home.path, notify, self._now)
        self._contact = ContactLog(home.path, notify, self._now)

    @property
    def journal(self) -> Journal:
        """The journal as it was last written."""
        return self._journal

    @property
    def channel_check(self) -> ChannelCheck | None:
        """What the last check of the channel brought."""
        return self._channel_check

    @property
    def contact(self) -> StoreContact:
        """What is known of the store."""
        return self._contact.contact

    @property
    def fetching(self) -> FetchProgress | None:
        """The download under way; None: there is none."""
        return self._meter.progress

    @property
    def starting(self) -> ServerStarting | None:
        """The start of a slot's server that is under way; None: there is none."""
        return self._servers.starting

    @property
    def weights(self) -> WeightsRecord:
        """What the background reading of the slots' files has found."""
        return self._weights.record

    @property
    def busy(self) -> bool:
        """Whether anything is under way: an action, a check of the channel, an event."""
        under_way = self._executor.busy or self._checking or self._waiting or self._found
        return bool(under_way) or self._weights.busy or not self._events.empty()

    def start(self, cause: str = "an error interrupted the agent") -> None:
        """Continue from the journal: what was under way is finished or undone.

        Args:
            cause: how the agent before this one ended, as a clause; "": not known.
        """
        self._error = None
        before = self._journal.interrupted
        self._settle(Started(self._now(), cause))
        late = self._journal.interrupted
        if late and late != before:
            _log.error("%s is not tried for now: %s", late.release, late.reason)
        if self._error:
            _log.error("%s", self._error)

    def update(self) -> None:
        """Read the channel once and install what it offers; an operator's request ends it.

        Raises:
            RolledBackError: the bundle was tried and not kept.
            FitError: it does not fit this device; nothing was downloaded.
            TrustError: metadata that is not valid; nothing was changed.
            StoreError: the store or the disk cannot be reached; nothing was changed.
        """
        self._settle()
        if self._journal.state != "idle":  # the journal could not be written when it should
            self.start()
        self._error = None
        active = self._journal.active_release
        self._checking = True
        self._checker.start(lambda: self._check_channel(active))
        self._settle()
        if self._error:
            raise self._error

    def go_back(self, reason: str) -> None:
        """Activate what served before; what serves now is held until a newer one comes.

        Raises:
            UsageError: the other slot holds nothing that served.
            RolledBackError: it did not pass its probe; what served keeps serving.
        """
        self._settle()
        if self._journal.state != "idle" or self._journal.previous is None:
            message = "There is nothing to go back to"
            hint = "a device can go back once after each update; forge device history shows them"
            raise UsageError(message, why="the other slot holds nothing that served", hint=hint)
        self._error = None
        _log.info("going back to %s: %s", self._journal.previous, reason)
        self._settle(GoBackAsked(reason, self._now(), self._both_blue_green()))
        if isinstance(self._error, RolledBackError):
            raise self._error
        if self._error:
            raise not_kept(self._error, self._journal.active)

    def lift_hold(self) -> None:
        """Allow the release that was rolled back, or interrupted, to be installed again at once.

        Raises UsageError.
        """
        self._settle()
        lifted = self._journal.held or self._journal.interrupted
        if self._journal.state != "idle" or lifted is None:
            raise UsageError("No release is held back", hint="forge device status shows it")
        _log.info("%s may be installed again", lifted.release)
        self._settle(HoldLifted())

    def turn(self, timeout_s: float = _TURN_S) -> None:
        """Keep the active slot served, and handle the next event if one comes in that time.

        Raises:
            StopAskedError: a signal came.
        """
        try:
            self._turn(timeout_s)
        except ForgeError as error:  # the journal cannot be written now
            _log.error("%s", error)

    def stop(self) -> None:
        """Stop serving; the journal stays as it is."""
        self._checker.cancel()
        self._executor.cancel()
        self._weights.stop()
        self._checker.join()
        self._executor.join()
        self._cutover.stop("the device is stopping")

    def _settle(self, event: MachineEvent | None = None) -> None:
        """Handle this event and all that follow from it, until nothing is under way."""
        if event is not None:
            self._events.put(event)
        try:
            while self.busy:
                self._turn(_TURN_S)
        except Exception:
            self._abandon()
            raise

    def _abandon(self) -> None:
        """End what is under way after an error; the journal says where `start` continues."""
        for worker in (self._checker, self._executor, self._weights):
            worker.join(None)  # nothing else may use what it uses
        self._executor.finished()
        self._checking, self._found, self._waiting = False, None, None
        while not self._events.empty():
            self._events.get()

    def _turn(self, timeout_s: float) -> None:
        check_signals()
        if self._events.empty():
            self._supervise()
        try:
            event = self._events.get(timeout=timeout_s)
        except queue.Empty:
            return
        self._handle(event)

    def _supervise(self) -> None:
        """What is due while no event waits; may post one."""
        if not self._serves:
            return
        if self._request_pending():
            self._checker.cancel()
            self._executor.interrupt_fetch()
            self._weights.cancel_repair()
        repairs_it = self._weights.busy and self._weights.repairing == self._journal.active
        may_restart = not (self._executor.starts_server or repairs_it)
        self._supervisor.check(self._journal, may_restart=may_restart)
        if self._waiting and not self._cutover.draining:
            action, self._waiting = self._waiting, None
            self._executor.execute(action, self._journal, self._offer)
        elif self._found and not (self._executor.busy or self._waiting):
            found, self._found = self._found, None
            self._consider(found)
        else:
            self._tend_weights()

    def _tend_weights(self) -> None:
        idle = self._journal.state == "idle" and not self._cutover.draining
        quiet = idle and not (self._executor.busy or self._checking or self._waiting)
        self._weights.tick(self._journal, quiet=quiet and self._events.empty())

    def _handle(self, event: AgentEvent) -> None:
        match event:
            case ActionDone(happened, verdict):
                self._executor.finished()
                if verdict:
                    self._note_failure(verdict)
                self._advance(happened)
                if isinstance(happened, Fetched):
                    self._note_fetched(happened)
            case ChannelRead():
                self._checking = False
                self._note_check(event)
            case WorkFailed(kind, error):
                self._end(kind)
                raise error
            case DamageFound() | SlotRepaired():
                self._weights.handle(event, self._journal)
            case Crashed():
                self._handle_crash(event)
            case _:
                self._advance(event)

    def _end(self, kind: WorkKind) -> None:
        match kind:
            case "check":
                self._checking = False
            case "repair":
                self._weights.failed()
            case "action":
                self._executor.finished()

    def _handle_crash(self, crash: Crashed) -> None:
        """Restart the active slot; while nothing is under way, the state machine counts it."""
        if self._journal.state != "idle" or self._weights.busy:
            if self._journal.active:
                self._perform(Serve(self._journal.active))
            return
        try:
            self._advance(crash)
        except ForgeError as error:  # the journal cannot be written now
            _log.error("%s", error)

    def _advance(self, event: MachineEvent) -> None:
        """Ask the state machine, write the journal, and begin the action."""
        before = self._journal
        journal, action = next_state(before, event)
        if journal != before:
            self._write(journal)
        for happened in between(before, event, journal, self._now()):
            self._notify(happened)
        self._perform(action)

    def _write(self, journal: Journal) -> None:
        try:
            self._home.write_journal(journal)
        except ForgeError:
            # Nothing may change without a journal; what was committed can serve without one.
            if self._journal.active:
                self._perform(Serve(self._journal.active))
            raise
        self._journal = journal
        self._contact.serves(journal.active_release)

    def _perform(self, action: Action) -> None:
        if isinstance(action, Prepare) and action.serving:
            self._executor.execute(Serve(action.serving), self._journal)
        self._weights.pause()
        # A slot whose server still answers may be neither overwritten nor started again.
        if isinstance(action, Fetch | Activate) and self._cutover.draining:
            self._waiting = action
        else:
            self._executor.execute(action, self._journal, self._offer)

    def _note_failure(self, verdict: FailureVerdict) -> None:
        self._error = verdict.error
        candidate = self._journal.candidate
        if self._offer and candidate == self._offer.release:
            self._see(self._channel_check, error=str(verdict.error))
        if candidate and verdict.back_off and (skipped := self._backoff.failed(candidate)):
            text = "%s is retried after %d more checks; restart the agent to retry at once"
            _log.warning(text, candidate, skipped)

    def _check_channel(self, active: Release | None) -> ChannelRead:
        offer: Offer | None = None
        error: ForgeError | None = None
        try:
            offer = self._updater.check_channel(active)
        except CancelledError:
            pass  # neither an offer nor an error
        except (ForgeError, OSError) as caught:
            error = as_forge_error(self._home.path, caught)
        return ChannelRead(offer, error, self._updater.unfit(active).told)

    def _note_check(self, found: ChannelRead) -> None:
        self._fit.note(self._journal.active_release, found.unfit)
        if found.error:
            self._error = found.error
            self._contact.failed(found.error)
            self._see(ChannelCheck(at=self._now(), error=str(found.error)))
        elif found.offer:
            self._contact.succeeded(found.offer.release, self._journal.active_release)
            self._see(ChannelCheck.of(found.offer, self._now()))
            if self._executor.busy or self._waiting:  # the active slot has crashed
                self._found = found
            else:
                self._consider(found)

    def _consider(self, found: ChannelRead) -> None:
        """Begin to install an offer, unless something speaks against it."""
        offer = found.offer
        # Once the other slot is overwritten there is nothing left to go back to.
        if offer is None or self._request_pending() or self._journal.state != "idle":
            return
        if offer.release == self._journal.active_release or self._refused(offer.release):
            return
        try:
            offer.require_fit()
        except ForgeError as error:
            self._error = error
            return
        late = self._journal.is_interrupted(offer.release)
        if late and late.checks:
            self._events.put(UpdateFound(offer.release))  # it waits one check less
            return
        if self._backoff.skips(offer.release):
            return
        self._offer = offer
        self._error = None
        _log.info("installing %s", offer.release)
        self._events.put(UpdateFound(offer.release))

    def _refused(self, release: Release) -> bool:
        if verdict := self._journal.is_bad(release):
            text = f"{release} is known to be bad and not tried: {verdict.reason}"
        elif verdict := self._journal.is_held(release):
            text = f"{release} is held back ({verdict.reason}); forge device rollback --unhold"
        else:
            return False
        if verdict not in self._logged:
            self._logged.add(verdict)
            _log.warning("%s", text)
        return True

    def _both_blue_green(self) -> bool:
        """Whether both slots' bundles allow for each other; only then was room for both checked."""
        try:
            return self._executor.blue_green(*SLOTS)
        except OSError as error:
            raise as_forge_error(self._home.path, error) from None

    def _note_fetched(self, fetched: Fetched) -> None:
        moved = {"fetched_bytes": fetched.fetched_bytes, "reused_bytes": fetched.reused_bytes}
        self._see(self._channel_check, **moved)

    def _see(self, check: ChannelCheck | None, **changes: object) -> None:
        changes |= {"places": self._updater.places(), "unfit": self._fit.unfit}
        self._channel_check = check.model_copy(update=changes) if check else None
        self._checked(self._channel_check)

    def _now(self) -> str:
        return timestamp(self._clock())
