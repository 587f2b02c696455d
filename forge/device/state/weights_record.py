"""What the background reading of the slots' files has found, and how far it is.

weights.json    in the state directory, replaced during a reading after each 32 MiB (by whole
                files), at its end, and when damage is found or repaired
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge import canonical
from forge.device.shared.release import Release, SlotName
from forge.device.shared.times import Timestamp
from forge.files import write_durably

__all__ = ["SlotReading", "WeightsRecord", "read_record", "write_record"]

_FILE: Final = "weights.json"
_MAX_BYTES: Final = 1024 * 1024
_MOST_DAMAGED: Final = 64


class SlotReading(BaseModel):
    """The readings of one slot's files.

    Attributes:
        release: in the slot; of another one nothing is known.
        began: of the reading under way, RFC 3339; None: there is none.
        after: the last file that it has read, in the order of their paths.
        read_bytes: that it has read.
        total_bytes: of all files.
        finished: when a reading last ended with all files intact, or repaired.
        boot: the kernel's boot id at that time.
        damaged: files that had other bytes, and were not repaired yet.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    release: Release
    began: Timestamp | None = None
    after: str = ""
    read_bytes: int = Field(default=0, ge=0)
    total_bytes: int = Field(default=0, ge=0)
    finished: Timestamp | None = None
    boot: str = ""
    damaged: tuple[str, ...] = Field(default=(), max_length=_MOST_DAMAGED)

    def done(self, at: str, boot: str) -> SlotReading:
        """Return the record after a complete reading, or a repair. Pure."""
        ended = {"began": None, "after": "", "damaged": (), "finished": at, "boot": boot}
        return self.model_copy(update=ended)


class WeightsRecord(BaseModel):
    """The readings of both slots."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    slots: dict[SlotName, SlotReading] = {}

    def of(self, slot: SlotName, release: Release) -> SlotReading:
        """Return what is known of a release in a slot."""
        found = self.slots.get(slot)
        return found if found and found.release == release else SlotReading(release=release)

    def with_slot(self, slot: SlotName, reading: SlotReading) -> WeightsRecord:
        """Return the record with another reading of one slot."""
        return self.model_copy(update={"slots": {**self.slots, slot: reading}})


def read_record(folder: Path) -> WeightsRecord:
    """Return the record of a state directory; an empty one where that is lost."""
    try:
        with (folder / _FILE).open("rb") as file:
            return WeightsRecord.model_validate_json(file.read(_MAX_BYTES))
    except (OSError, ValidationError):
        return WeightsRecord()


def write_record(folder: Path, record: WeightsRecord) -> None:
    """Replace the record, durably. Raises OSError."""
    write_durably(folder / _FILE, canonical.dumps(record.model_dump(mode="json")))
