"""Rates, minimum rates and pauses, on a clock the test moves."""

from __future__ import annotations

import email.utils
import inspect
import threading
from datetime import UTC, datetime, timedelta

import pytest

from forge.store.backends.throttle import (
    PROGRESS,
    MinimumRate,
    RateLimit,
    pause,
    retry_after,
)


def test_threads_share_one_limit() -> None:
    slept, now = list[float](), [0.0]
    limit = RateLimit(1000, clock=lambda: now[0], sleep=slept.append)
    threads = [threading.Thread(target=limit.take, args=(500,)) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(slept) == [0.5, 1.0, 1.5, 2.0]
    now[0] = 10.0
    limit.take(500)
    assert slept[-1] == 0.5  # no credit for the time in which nothing was read


@pytest.mark.parametrize(("rate", "block"), [(1024, 1024), (80_000, 10_000), (10**9, 65_536)])
def test_block_is_read_within_an_eighth_of_a_second(rate: int, block: int) -> None:
    assert RateLimit(rate).block == block


def test_patience_ends_after_half_a_minute_of_nothing() -> None:
    minimum_rate = MinimumRate()
    assert minimum_rate.left_s == 30
    minimum_rate.note(29.9, 0)
    assert minimum_rate.left_s == pytest.approx(0.1)


def test_one_byte_every_20_s_is_given_up_within_a_minute() -> None:
    minimum_rate, waited = MinimumRate(), 0.0
    while minimum_rate.left_s > 0:
        step = min(20.0, minimum_rate.left_s)
        minimum_rate.note(step, 1 if step == 20.0 else 0)
        waited += step
    assert waited < 60


def test_slow_but_honest_server_may_take_as_long_as_it_needs() -> None:
    minimum_rate = MinimumRate()
    for _ in range(10_000):
        minimum_rate.note(1.0, 4096)
    assert minimum_rate.left_s == 30


def test_server_slower_than_4_kib_a_second_is_given_up_in_the_end() -> None:
    minimum_rate = MinimumRate()
    for _ in range(10_000):
        minimum_rate.note(1.0, 4095)
    assert minimum_rate.left_s == pytest.approx(30 - 10_000 / 4096)


def test_64_kib_are_progress() -> None:
    assert PROGRESS == 65_536


def test_patience_begins_with_nothing_waited_and_nothing_received() -> None:
    assert list(inspect.signature(MinimumRate).parameters) == ["bytes_per_s", "grace_s"]


def test_nothing_read_costs_no_time() -> None:
    slept = list[float]()
    RateLimit(1000, clock=lambda: 0.0, sleep=slept.append).take(0)
    assert slept == []


def test_fast_start_earns_no_longer_silence_than_the_grace() -> None:
    minimum_rate = MinimumRate()
    minimum_rate.note(0.1, 100_000_000)
    assert minimum_rate.left_s == 30


def test_pauses_grow_and_heed_the_server_up_to_a_minute() -> None:
    assert all(0.5 * top <= pause(tries) <= top for tries, top in ((1, 0.2), (2, 0.8), (4, 12.8)))
    assert len({pause(4) for _ in range(20)}) > 1  # clients that failed together part
    assert pause(9) == 60
    assert pause(1, 7) == 7
    assert pause(1, 1e9) == 60


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        (" 120 ", 120),
        ("99999999999999999999", 999_999_999),
        ("Tue, 24 Nov 2026 12:00:30 GMT", 30),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0),
        ("Tue, 24 Nov 2026 12:00:30 -0000", 30),  # no time zone: UTC
        ("Tue, 24 Nov 2026 13:00:30 +0100", 30),
        ("-5", 0),
        ("soon", 0),
        ("", 0),
        ("1.5", 0),
        ("٣", 0),
    ],
)
def test_retry_after_is_a_number_or_a_date_or_nothing(header: str, seconds: float) -> None:
    now = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
    assert retry_after(header, now) == seconds


def test_retry_after_a_date_counts_from_now() -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert 86_000 < retry_after(email.utils.format_datetime(tomorrow, usegmt=True)) <= 86_400
