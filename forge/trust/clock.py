"""A lower bound of the current time, so that expiry is checked on devices whose clock is wrong.

The bound is the latest `signed_at` of verified timestamp metadata, kept between runs, and never
before the date of this program. Three times are not used, because they may be far in the future and
then make all metadata look expired: this machine's clock, `expires`, and a `signed_at` that is well
ahead of a plausible clock, since the publisher's clock may have been wrong.
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
"""Date of this source: a correct clock is never before it.

Update it with each version: tests/unit/trust/test_clock.py fails until then.
"""
TOLERANCE: Final = timedelta(days=1)
"""Accepted difference between two correct clocks."""
_MAX_BYTES: Final = 64 * 1024
_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"


def moment(signed_at: object) -> datetime | None:
    """Parse `signed_at` of timestamp metadata; None if absent. Raises TrustError if not valid."""
    if not isinstance(signed_at, str):
        return None
    try:
        return datetime.strptime(signed_at, _FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise TrustError("The timestamp metadata has no valid 'signed_at'") from None


def believable(signed_at: datetime, clock: datetime, bound: datetime) -> bool:
    """Return whether a signing time may become the bound.

    A clock before the date of this program is wrong, so the signing time is the best source. Any
    other clock may be correct: then a signing time well ahead of it and of the bound is wrong.
    """
    return clock < WRITTEN or signed_at <= max(clock, bound) + TOLERANCE


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    signed_at: datetime
    keys: tuple[str, ...]  # ids of the timestamp keys in root


class LowerBound:
    """The bound, stored in a file. Every method raises OSError.

    It is valid as long as root has the same timestamp keys: with a stolen key, an attacker could
    sign a time far in the future, and rotating the key must undo that, as it does for versions.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> datetime:
        """Return the bound, or WRITTEN if none is stored."""
        kept = self._kept()
        return max(WRITTEN, kept.signed_at) if kept else WRITTEN

    def outdated(self, keys: Collection[str]) -> bool:
        """Return whether the stored bound was signed by other keys than these."""
        kept = self._kept()
        return kept is not None and set(kept.keys) != set(keys)

    def forget(self) -> None:
        """Reset the bound to WRITTEN."""
        self._path.unlink(missing_ok=True)

    def raise_to(self, signed_at: datetime, keys: Collection[str]) -> None:
        """Store a later time; an earlier one is ignored."""
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
