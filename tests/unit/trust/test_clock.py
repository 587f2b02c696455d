"""The moment that is kept, and the program's own date."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from forge import __version__
from forge.errors import TrustError
from forge.trust.clock import WRITTEN, believable, moment

DAY = timedelta(days=1)
LATER = WRITTEN + 100 * DAY


def test_date_of_the_program_moves_with_its_version() -> None:
    """A new version fails here: move WRITTEN to the day of the release, then both of these."""
    assert (__version__, WRITTEN.date()) == ("0.1.0", date(2026, 11, 24))


def test_date_of_the_program_is_not_ahead_of_a_clock_that_is_right() -> None:
    assert datetime.now(UTC) + DAY > WRITTEN


@pytest.mark.parametrize(
    ("signed_at", "clock", "bound", "believed"),
    [
        (LATER, LATER, WRITTEN, True),
        (LATER + DAY, LATER, WRITTEN, True),
        (LATER + 2 * DAY, LATER, WRITTEN, False),
        (LATER + 2 * DAY, LATER, LATER + DAY, True),  # stands still, and followed day by day
        (
            LATER + 365 * DAY,
            WRITTEN - DAY,
            WRITTEN,
            True,
        ),  # no clock: the signature is all there is
    ],
)
def test_moment_is_believed_unless_a_clock_that_may_be_right_has_not_reached_it(
    signed_at: datetime, clock: datetime, bound: datetime, *, believed: bool
) -> None:
    assert believable(signed_at, clock, bound) is believed


def test_moment_is_none_where_metadata_has_none_and_wrong_where_it_is_no_time() -> None:
    assert moment(None) is None
    assert moment("2026-11-24T00:00:00Z") == WRITTEN
    with pytest.raises(TrustError, match="signed_at"):
        moment("yesterday")
