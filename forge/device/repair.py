"""Finding out whether a slot is damaged, and putting it right from the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from forge.device import health
from forge.device.events import Happened, Tell
from forge.device.journal import Release, SlotName
from forge.device.slots import Home
from forge.device.updater import Updater
from forge.errors import BundleError, ForgeError

__all__ = ["Condition", "Repair"]

Condition = Literal["whole", "healed", "damaged"]


@dataclass(frozen=True, slots=True)
class Repair:
    """What looks after the slots' bytes.

    Attributes:
        home: the state folder.
        updater: the store.
        say: gets one line per event.
        tell: gets an event for each repair.
        now: RFC 3339.
    """

    home: Home
    updater: Updater
    say: Callable[[str], None]
    tell: Tell
    now: Callable[[], str]

    def require_sizes(self, slot: SlotName, release: Release) -> None:
        """The cheap check before each start. Raises BundleError, OSError."""
        if damages := health.by_size(self.home, slot, release):
            raise BundleError(f"Slot {slot} is damaged", why=str(damages[0]))

    def mend(self, slot: SlotName, release: Release) -> Condition:
        """Read the whole slot and heal what is damaged; says what it finds."""
        try:
            damages = health.by_digest(self.home, slot, release)
            if not damages:
                return "whole"
            self.say(f"slot {slot} is damaged: {damages[0]} ({len(damages)} in all)")
            self.heal(slot, release)
        except (ForgeError, OSError) as error:
            self.say(f"slot {slot} cannot be put right: {error}")
            return "damaged"
        return "healed"

    def heal(self, slot: SlotName, release: Release) -> None:
        """Fetch what is damaged. Raises TrustError, StoreError."""
        moved = self.updater.heal(slot, release)
        text = f"{moved.fetched_bytes} bytes fetched, {moved.reused_bytes} kept"
        self.say(f"slot {slot} is whole again: {text}")
        happened = Happened(
            at=self.now(),
            event="repaired",
            release=release,
            slot=slot,
            fetched_bytes=moved.fetched_bytes,
            reused_bytes=moved.reused_bytes,
        )
        self.tell(happened)
