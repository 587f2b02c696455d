"""What a written time says, and that one from a clock that was not set says nothing."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from forge.device.shared.times import Beginning, Timestamp, is_set, lasted_s, seconds_between

NOW = "2026-11-30T00:00:00Z"


@pytest.mark.parametrize(
    "text", ["x", "", "2026-13-01T00:00:00Z", "2026-11-30T00:00:00", "9" * 400]
)
def test_what_is_no_time_with_a_zone_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Timestamp).validate_python(text)


@pytest.mark.parametrize("text", [NOW, "2026-11-30T00:00:00.5+01:00", "1970-01-01T00:00:00Z"])
def test_a_time_stays_as_it_was_written(text: str) -> None:
    assert TypeAdapter(Timestamp).validate_python(text) == text


@pytest.mark.parametrize(
    ("earlier", "seconds"),
    [
        ("2026-11-29T23:59:00Z", 60),
        ("2026-11-30T01:00:00+02:00", 3600),
        ("2026-12-01T00:00:00Z", 0),  # the clock was set back
        ("2026-11-29T00:00:00", 0),
        ("x", 0),
        (None, 0),
    ],
)
def test_the_seconds_between_two_times_are_never_negative(
    earlier: str | None, seconds: float
) -> None:
    assert seconds_between(earlier, NOW) == seconds
    assert lasted_s(earlier, NOW) == seconds


def test_two_times_of_a_clock_that_is_not_set_yet_have_their_distance() -> None:
    assert lasted_s("1970-01-01T00:00:00Z", "1970-01-01T00:01:00Z") == 60
    assert lasted_s("1970-01-01T00:00:00Z", NOW) == 0


def test_a_beginning_stays_where_the_clock_drifts_and_moves_where_it_is_set() -> None:
    now, passed = "1970-01-01T00:00:10Z", 0.0
    began = Beginning(lambda: now, lambda: 1000.0 + passed)
    assert began.at == now
    now, passed = "1970-01-01T00:02:00Z", 60.0
    assert began.at == "1970-01-01T00:00:10Z"
    now, passed = NOW, 90.0
    assert began.at == "2026-11-29T23:58:30Z"
    now, passed = "2026-11-30T00:00:01Z", 90.5
    assert began.at == "2026-11-29T23:58:30Z"


@pytest.mark.parametrize(
    ("time", "known"),
    [
        ("1970-01-01T00:00:59Z", False),
        ("2024-12-31T23:59:59Z", False),
        ("2025-01-01T00:00:00Z", True),
        (NOW, True),
        ("x", False),
        (None, False),
    ],
)
def test_since_a_clock_that_was_not_set_nothing_lasts(time: str | None, *, known: bool) -> None:
    assert is_set(time) is known
    assert (lasted_s(time, NOW) > 0) is (known and time != NOW)
