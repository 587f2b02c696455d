"""Execute what the state machine decided; each action may be executed twice.

An action that takes long runs in a thread; how each one ended is an event on the agent's queue.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from forge.device.agent.background import JOIN_S, ActionDone, AgentEvent, BackgroundWorker
from forge.device.agent.cutover import Cutover
from forge.device.agent.repair import Repair
from forge.device.agent.slot_servers import SlotServers
from forge.device.agent.supervisor import Supervisor
from forge.device.shared.release import SlotName
from forge.device.state.directory import StateDirectory
from forge.device.state.disk_errors import as_forge_error
from forge.device.state_machine.actions import (
    Action,
    Activate,
    Fetch,
    GoBack,
    Prepare,
    Probe,
    Serve,
    Switch,
)
from forge.device.state_machine.events import (
    Failed,
    Fetched,
    MachineEvent,
    Prepared,
    Probed,
    Ready,
    Stopped,
    Switched,
    WentBack,
)
from forge.device.state_machine.journal import Journal
from forge.device.telemetry.fetch_progress import FetchMeter
from forge.device.update.failure_policy import judge, slot_to_check
from forge.device.update.resource_pressure import ResourceSnapshot
from forge.device.update.system_fit import because
from forge.device.update.updater import Offer, Updater
from forge.errors import ConfigurationError, ForgeError, StepFailedError
from forge.store.cancellation import CancelledError

__all__ = ["ActionExecutor"]

_log = logging.getLogger(__name__)

_LONG: Final = (Fetch, Prepare, Activate, Probe)

_T = TypeVar("_T")


class ActionExecutor:
    """Executes the actions of one device. Used by the agent's main thread only.

    Args:
        home: the state directory.
        updater: the store as this device sees it.
        servers: of the slots.
        cutover: of the requests.
        repair: of the slots' files.
        supervisor: of the active slot.
        meter: measures the download under way.
        post: puts an event on the agent's queue.
        now: RFC 3339.
        serves: False: a bundle is started to be probed, and not beyond that.
    """

    def __init__(  # noqa: PLR0913 - the parts of one device
        self,
        home: StateDirectory,
        updater: Updater,
        servers: SlotServers,
        cutover: Cutover,
        repair: Repair,
        supervisor: Supervisor,
        meter: FetchMeter,
        *,
        post: Callable[[AgentEvent], None],
        now: Callable[[], str],
        serves: bool,
    ) -> None:
        self._home = home
        self._updater = updater
        self._system = updater.system
        self._servers = servers
        self._cutover = cutover
        self._repair = repair
        self._supervisor = supervisor
        self._meter = meter
        self._post = post
        self._now = now
        self._serves = serves
        self._worker = BackgroundWorker("action", post, threaded=serves)
        self._running: Action | None = None  # until its event is handled
        self._interrupted = threading.Event()

    @property
    def busy(self) -> bool:
        """Whether an action is under way, or its event was not handled yet."""
        return self._running is not None

    @property
    def starts_server(self) -> bool:
        """Whether the action under way starts or probes a slot's server."""
        return isinstance(self._running, Activate | Probe)

    def execute(self, action: Action, journal: Journal, offer: Offer | None = None) -> None:
        """Begin an action, and end a short one; its event is posted when it has ended.

        Args:
            action: what.
            journal: as it was just written.
            offer: what a Fetch is about.
        """
        match action:
            case Serve(slot):
                self._serve(slot, journal)
            case _ if isinstance(action, _LONG):
                if isinstance(action, Fetch):
                    # One may be left of an update whose journal could not be written.
                    self._servers.stop(action.slot)
                self._running = action
                self._interrupted.clear()
                work = functools.partial(self._work, action, journal, offer)
                self._worker.start(functools.partial(self._attempt, action, journal, work))
            case Switch() | GoBack():
                self._running = action
                work = functools.partial(self._now_done, action, journal)
                self._post(self._attempt(action, journal, work))
            case _:
                self._refuse_without_bundle(journal)

    def finished(self) -> None:
        """Note that the event of the action under way is being handled."""
        self._running = None

    def interrupt_fetch(self) -> None:
        """End a Fetch under way with Stopped: something else goes first."""
        if isinstance(self._running, Fetch) and not self._interrupted.is_set():
            self._interrupted.set()
            self._worker.cancel()

    def cancel(self) -> None:
        """Tell what is under way to end, because the agent does."""
        self._worker.cancel()

    def join(self, timeout_s: float | None = JOIN_S) -> None:
        """End what is under way and wait for it."""
        self._worker.join(timeout_s)

    def blue_green(self, *slots: SlotName) -> bool:
        """Whether the bundles in all these slots are activated in blue-green. Raises OSError."""
        manifests = [self._home.slots.manifest(slot) for slot in slots]
        return all(one is not None and one.serving.activation == "blue-green" for one in manifests)

    def _attempt(
        self, action: Action, journal: Journal, work: Callable[[], MachineEvent]
    ) -> ActionDone:
        before = ResourceSnapshot.now(self._home.path)
        try:
            return ActionDone(work())
        except (ForgeError, OSError) as caught:
            error = as_forge_error(self._home.path, caught)
            return self._failed(action, error, journal, before.lack())

    def _failed(self, action: Action, error: ForgeError, journal: Journal, lack: str) -> ActionDone:
        if lack:
            _log.warning("not the release's fault: %s", lack)
        found = slot_to_check(action, error, journal, lack=lack)
        condition = self._repair.check_and_repair(*found) if found else "intact"
        started = isinstance(action, Prepare | Activate | Probe)
        unfit = self._system.explain(journal.candidate) if started else ""
        verdict = judge(action, error, journal, lack=lack, condition=condition, unfit=unfit)
        reason = f"{error}{because(unfit)}"
        return ActionDone(Failed(reason, self._now(), release_fault=verdict.release_fault), verdict)

    def _work(self, action: Action, journal: Journal, offer: Offer | None) -> MachineEvent:
        match action:
            case Fetch(_, slot):
                return self._fetch(slot, journal, offer)
            case Prepare(slot):
                self._servers.prepare(slot)
                return Prepared(blue_green=self.blue_green(slot))
            case Activate(slot, beside):
                return self._activate(slot, beside, journal)
            case Probe(slot):
                _retry(lambda: self._servers.probe(slot))
                return Probed()
            case _:
                raise ForgeError(f"{action} is not long work", why="this is a bug in Forge")

    def _now_done(self, action: Switch | GoBack, journal: Journal) -> MachineEvent:
        if isinstance(action, GoBack):
            self._cutover.stop_others(action.slot)
            return WentBack()
        return self._switch(action.slot, journal)

    def _fetch(self, slot: SlotName, journal: Journal, offer: Offer | None) -> MachineEvent:
        if offer is None:
            raise ForgeError("The agent has no offer to fetch", why="this is a bug in Forge")
        if journal.active is not None:
            # It could not be switched when the slot was committed. A slot that `current` names is
            # never overwritten: it is what a device without a journal starts.
            self._require_current(journal.active)
        try:
            with self._meter.measuring(offer.release):
                moved = self._updater.fetch(
                    offer, slot, journal.active, self._meter.done, self._meter.moved
                )
        except CancelledError:
            if not self._interrupted.is_set():  # the agent stops
                raise
            _log.info("%s is not fetched for now: an operator's request goes first", offer.release)
            return Stopped(restored=self._home.slots.restore(slot))
        fetched, reused = moved.fetched_bytes, moved.reused_bytes
        text = "slot %s holds %s: %d bytes fetched, %d reused"
        _log.info(text, slot, offer.release, fetched, reused)
        return Fetched(fetched, reused)

    def _activate(self, slot: SlotName, beside: SlotName | None, journal: Journal) -> MachineEvent:
        candidate = journal.candidate
        if candidate is None:
            raise ConfigurationError(f"The journal does not say what slot {slot} holds")
        self._repair.make_whole(slot, candidate)
        seconds = _retry(lambda: self._cutover.start(slot, beside, candidate))
        meanwhile = f" while slot {beside} served" if beside and self._serves else ""
        _log.info("slot %s is ready after %.1f s%s", slot, seconds, meanwhile)
        return Ready()

    def _switch(self, slot: SlotName, journal: Journal) -> MachineEvent:
        self._point(slot)
        _log.info("committed: slot %s holds %s", slot, journal.active_release)
        if journal.active_release:
            self._system.serves(journal.active_release)
        try:
            self._servers.prune(journal.slots)
        except (ForgeError, OSError) as error:  # disk space that is lost, no harm
            _log.warning("unused environments could not be removed: %s", error)
        return Switched()

    def _point(self, slot: SlotName) -> None:
        try:
            self._require_current(slot)
        except ForgeError as error:  # the journal decides; put right at the next start
            _log.error("%s", error)

    def _require_current(self, slot: SlotName) -> None:
        """Switch the link `current` to a slot, if it is not there. Raises ForgeError."""
        if self._home.current() != slot:
            self._home.switch(slot)

    def _serve(self, slot: SlotName, journal: Journal) -> None:
        self._point(slot)
        if self._serves:
            self._supervisor.serve(slot, journal)

    def _refuse_without_bundle(self, journal: Journal) -> None:
        if journal.active is None:
            last = journal.rollbacks[-1:]
            why = f": {last[0].release} was not kept: {last[0].reason}" if last else ""
            self._cutover.refuse(f"no bundle is installed{why}")


def _retry(work: Callable[[], _T]) -> _T:
    """Try once more if a model did not load or answer in time: the machine may have been busy."""
    try:
        return work()
    except StepFailedError as error:
        _log.warning("tried once more: %s", error)
        return work()
