"""What time it is at least: a device's clock may stand at 1970, and expiry must mean something.

The bound is the newest moment that a believed signature speaks of (`signed_at` of the timestamp
metadata), kept between runs, and never older than this program. It is never taken from the clock of
this machine: one that was a year ahead for a minute would refuse everything for a year. `expires`
is no bound either: it lies in the future. Nor is a moment that a clock which may be right has not
reached: a publisher whose clock was a year ahead would lock every device.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from forge import canonical
from forge.errors import TrustError
from forge.files import write_durably

__all__ = ["TOLERANCE", "WRITTEN", "LowerBound", "believable", "moment"]

WRITTEN: Final = datetime(2026, 11, 24, tzinfo=UTC)
"""When this source was as it is: no clock that is right says less.

A new version moves it on: tests/unit/trust/test_clock.py fails until it does.
"""
TOLERANCE: Final = timedelta(days=1)
"""How far two clocks that are both right enough may be apart."""
_MAX_BYTES: Final = 64 * 1024
_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"


def moment(signed_at: object) -> datetime | None:
    """`signed_at` of timestamp metadata; None where it has none. Raises TrustError if no time."""
    if not isinstance(signed_at, str):
        return None
    try:
        return datetime.strptime(signed_at, _FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise TrustError("The timestamp metadata has no valid 'signed_at'") from None


def believable(signed_at: datetime, clock: datetime, bound: datetime) -> bool:
    """Whether a signature's moment may become the bound.

    A clock older than this program is wrong: then the signature is all there is. Another may be
    right, and what lies well ahead of it and of the bound was signed by a clock that is not.
    """
    return clock < WRITTEN or signed_at <= max(clock, bound) + TOLERANCE


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    signed_at: datetime
    keys: tuple[str, ...]  # that could sign it


class LowerBound:
    """The bound as kept in a file. Every method raises OSError.

    It holds as long as root names the same keys for the timestamp: somebody who stole one could
    sign a moment far ahead, and rotating the key undoes that, as it undoes versions set far ahead.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> datetime:
        """The bound; WRITTEN where nothing is kept."""
        kept = self._kept()
        return max(WRITTEN, kept.signed_at) if kept else WRITTEN

    def outdated(self, keys: Collection[str]) -> bool:
        """Whether what is kept was signed by others than these keys."""
        kept = self._kept()
        return kept is not None and set(kept.keys) != set(keys)

    def forget(self) -> None:
        """Start anew from WRITTEN."""
        self._path.unlink(missing_ok=True)

    def raise_to(self, signed_at: datetime, keys: Collection[str]) -> None:
        """Keep a newer moment; an older one changes nothing."""
        if self.read() < signed_at or self.outdated(keys):
            document = {"keys": sorted(keys), "signed_at": f"{signed_at:{_FORMAT}}"}
            write_durably(self._path, canonical.dumps(document))

    def _kept(self) -> _Kept | None:
        try:
            with self._path.open("rb") as file:
                found = _Kept.model_validate_json(file.read(_MAX_BYTES))
        except (FileNotFoundError, ValidationError):
            return None
        return found if found.signed_at.tzinfo is not None else None
