"""Check the files of a slot, and repair them from the store."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from forge.device.shared.release import Release, SlotName
from forge.device.state import integrity
from forge.device.state.directory import StateDirectory
from forge.device.telemetry.history import DeviceEvent, EventListener
from forge.device.update.failure_policy import SlotCondition
from forge.device.update.updater import Updater
from forge.errors import BundleError, ForgeError
from forge.store.cancellation import CancelledError

__all__ = ["Repair"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Repair:
    """Checks and repairs slots; safe between threads, as each slot is used by one of them.

    Attributes:
        home: the state directory.
        updater: the store.
        notify: gets an event for each repair.
        now: RFC 3339.
    """

    home: StateDirectory
    updater: Updater
    notify: EventListener
    now: Callable[[], str]

    def check_before_start(self, slot: SlotName, release: Release) -> None:
        """Check a slot's code and configuration, and all sizes. Raises BundleError, OSError."""
        if damages := integrity.before_start(self.home, slot, release):
            raise BundleError(f"Slot {slot} is damaged", why=str(damages[0]))

    def make_whole(self, slot: SlotName, release: Release) -> None:
        """Check a slot before its start, and repair what is damaged. Raises BundleError, OSError.

        It may read the store, so the agent's main thread uses `check_before_start`.
        """
        try:
            self.check_before_start(slot, release)
        except BundleError:
            if self.check_and_repair(slot, release) != "repaired":
                raise

    def check_and_repair(self, slot: SlotName, release: Release) -> SlotCondition:
        """Read the whole slot, repair what is damaged, and return what was found."""
        try:
            damages = integrity.by_digest(self.home, slot, release)
            if not damages:
                return "intact"
            _log.warning("slot %s is damaged: %s (%d in all)", slot, damages[0], len(damages))
            self.repair(slot, release)
        except (ForgeError, OSError) as error:
            _log.error("slot %s cannot be repaired: %s", slot, error)
            return "damaged"
        return "repaired"

    def fetch_damaged(self, slot: SlotName, release: Release) -> SlotCondition:
        """Repair a slot that is known to be damaged; it is not read twice for that."""
        try:
            self.repair(slot, release)
        except CancelledError:
            return "damaged"  # the agent stops
        except (ForgeError, OSError) as error:
            _log.error("slot %s cannot be repaired: %s", slot, error)
            return "damaged"
        return "repaired"

    def repair(self, slot: SlotName, release: Release) -> None:
        """Fetch what is damaged. Raises TrustError, StoreError."""
        moved = self.updater.repair(slot, release)
        text = f"{moved.fetched_bytes} bytes fetched, {moved.reused_bytes} kept"
        _log.info("slot %s is repaired: %s", slot, text)
        happened = DeviceEvent(
            at=self.now(),
            event="repaired",
            release=release,
            slot=slot,
            fetched_bytes=moved.fetched_bytes,
            reused_bytes=moved.reused_bytes,
        )
        self.notify(happened)
