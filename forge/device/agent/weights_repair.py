"""Repair what the background reading found damaged, and restart the server on it.

The device stays idle during a repair: no update begins, and the state machine is not asked, as
nothing that it decides has changed. The slot that serves keeps serving until its files are right;
then its server is started again, as after any end of its process (`Serve`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from forge.device.agent.background import AgentEvent, BackgroundWorker, SlotRepaired
from forge.device.agent.repair import Repair
from forge.device.agent.supervisor import Supervisor
from forge.device.agent.weights_reader import DamageFound, ReadingSchedule, WeightsReader
from forge.device.shared.release import Release, SlotName
from forge.device.state.directory import StateDirectory
from forge.device.state.weights_record import WeightsRecord
from forge.device.state_machine.journal import Journal
from forge.device.telemetry.history import DeviceEvent, EventListener
from forge.device.update.last_run import AgentRun
from forge.progress import bytes_text

__all__ = ["WeightsRepair"]

_log = logging.getLogger(__name__)

_RETRY_S: Final = 600.0  # without the store, say; each try may read the whole slot


class WeightsRepair:
    """Owns the background reading of one device. Used by the agent's main thread only.

    Args:
        home: the state directory.
        repair: of the slots' files.
        supervisor: of the active slot.
        schedule: of the reading.
        post: puts an event on the agent's queue.
        notify: gets the result of each reading.
        now: RFC 3339.
    """

    def __init__(
        self,
        home: StateDirectory,
        repair: Repair,
        supervisor: Supervisor,
        schedule: ReadingSchedule,
        *,
        post: Callable[[AgentEvent], None],
        notify: EventListener,
        now: Callable[[], str],
    ) -> None:
        self._repair = repair
        self._supervisor = supervisor
        self._notify = notify
        self._now = now
        self._reader = WeightsReader(home, schedule, post, self._ended, now, AgentRun.begun().boot)
        self._worker = BackgroundWorker("repair", post, threaded=True)
        self._repairing: SlotName | None = None  # until the event of its end is handled
        self._retries: dict[SlotName, float] = {}  # monotonic times before which none begins

    @property
    def busy(self) -> bool:
        """Whether a repair is under way, or its event was not handled yet."""
        return self._repairing is not None

    @property
    def repairing(self) -> SlotName | None:
        """The slot that is being repaired."""
        return self._repairing

    @property
    def record(self) -> WeightsRecord:
        """What the readings have found."""
        return self._reader.record

    def tick(self, journal: Journal, *, quiet: bool) -> None:
        """Let the slots be read, and repair what is damaged, while nothing else is under way.

        Args:
            journal: of the device.
            quiet: the device is idle, and neither an action nor a check of the channel is under
                way.
        """
        self._reader.start()
        may_read = quiet and not self.busy
        self._reader.allow(journal if may_read else None)
        if not may_read:
            return
        for slot, reading in self._reader.record.slots.items():
            waits = time.monotonic() < self._retries.get(slot, 0.0)
            if reading.damaged and reading.release == journal.slots.get(slot) and not waits:
                self._begin(slot, reading.release)
                return

    def pause(self) -> None:
        """Stop reading at once: an action begins."""
        self._reader.allow(None)

    def handle(self, event: DamageFound | SlotRepaired, journal: Journal) -> None:
        """Tell what was found, which `tick` repairs; or restart the server of a repaired slot."""
        if isinstance(event, SlotRepaired):
            self._repairing = None
            self._note_repair(event, journal)
            return
        _log.warning("slot %s is damaged: %s", event.slot, event.what)
        happened = DeviceEvent(at=self._now(), event="damaged", release=event.release)
        self._notify(happened.model_copy(update={"slot": event.slot, "reason": event.what}))

    def failed(self) -> None:
        """Note that the repair ended by a bug; it is tried again later."""
        self._repairing = None

    def cancel_repair(self) -> None:
        """Tell a repair under way to end, because something else goes first."""
        self._worker.cancel()

    def join(self, timeout_s: float | None) -> None:
        """End a repair under way."""
        self._worker.join(timeout_s)
        self._repairing = None

    def stop(self) -> None:
        """End the reading and a repair under way."""
        self._worker.cancel()
        self._reader.stop()
        self._worker.join()

    def _begin(self, slot: SlotName, release: Release) -> None:
        self._reader.allow(None)
        self._repairing = slot
        self._retries[slot] = time.monotonic() + _RETRY_S
        self._worker.start(
            lambda: SlotRepaired(slot, release, self._repair.fetch_damaged(slot, release))
        )

    def _note_repair(self, event: SlotRepaired, journal: Journal) -> None:
        if event.condition == "damaged":
            _log.warning("the repair of slot %s is tried again in %g s", event.slot, _RETRY_S)
            return
        self._retries.pop(event.slot, None)
        self._reader.repaired(event.slot, event.release)
        if event.slot == journal.active and event.release == journal.active_release:
            self._supervisor.restart(event.slot, journal)

    def _ended(self, slot: SlotName, release: Release, read_bytes: int) -> None:
        """Tell that all of a slot is intact; called by the thread of the reading."""
        size = bytes_text(read_bytes)
        _log.info("slot %s is intact: %s read", slot, size)
        happened = DeviceEvent(at=self._now(), event="verified", release=release, slot=slot)
        self._notify(happened.model_copy(update={"reason": f"all files are intact, {size} read"}))
