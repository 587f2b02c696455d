"""An error that recurs at each check is logged once an hour, and a new one at once."""

from __future__ import annotations

import logging

import pytest

from forge.device.telemetry.repeated_errors import RepeatedErrors


class Clock:
    """Seconds by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_same_error_is_logged_once_an_hour_with_its_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    errors = RepeatedErrors(logging.getLogger("forge.test"), clock)
    for minute in range(121):
        clock.now = minute * 60.0
        errors.error(f"no answer within 30.{minute % 10} s")
    assert [one.split(" (")[0] for one in caplog.messages] == ["no answer within 30.0 s"] * 3
    assert caplog.messages[1].endswith("(and 60 times before, in 1 h 00 min)")
    assert {one.levelname for one in caplog.records} == {"ERROR"}


def test_an_error_of_checks_that_are_far_apart_says_over_which_time_it_recurred(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    errors = RepeatedErrors(logging.getLogger("forge.test"), clock)
    for hour in (0, 2, 8):
        clock.now = hour * 3600.0
        errors.error("the store is away")
    assert caplog.messages == [
        "the store is away",
        "the store is away (and 1 time before, in 2 h 00 min)",
        "the store is away (and 1 time before, in 6 h 00 min)",
    ]


def test_another_error_is_logged_at_once_and_two_that_alternate_are_not_repeated(
    caplog: pytest.LogCaptureFixture,
) -> None:
    errors = RepeatedErrors(logging.getLogger("forge.test"), Clock())
    for _ in range(5):
        errors.error("the store is away")
        errors.error("the disk is full")
    assert caplog.messages == ["the store is away", "the disk is full"]


def test_after_a_success_the_same_error_is_a_new_one(caplog: pytest.LogCaptureFixture) -> None:
    errors = RepeatedErrors(logging.getLogger("forge.test"), Clock())
    errors.error("the store is away")
    errors.clear()
    errors.error("the store is away")
    assert caplog.messages == ["the store is away"] * 2


def test_what_is_remembered_is_bounded() -> None:
    errors = RepeatedErrors(logging.getLogger("forge.test"), Clock())
    for number in range(1000):
        errors.error(f"error {chr(0x4E00 + number)}")
    assert len(errors._seen) == 32
