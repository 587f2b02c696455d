"""The moment that is kept."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from forge.errors import TrustError
from forge.trust.clock import WRITTEN, believable, moment

DAY = timedelta(days=1)
LATER = WRITTEN + 100 * DAY


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
