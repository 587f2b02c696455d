"""Rates, patience and pauses, on a clock the test moves."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from forge.store.pace import LEAST_BYTES_PER_S, Patience, RateLimit, pause, retry_after


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
    patience = Patience()
    assert patience.left_s == 30
    patience.note(29.9, 0)
    assert patience.left_s == pytest.approx(0.1)


def test_one_byte_every_20_s_is_given_up_within_a_minute() -> None:
    patience, waited = Patience(), 0.0
    while patience.left_s > 0:
        step = min(20.0, patience.left_s)
        patience.note(step, 1 if step == 20.0 else 0)
        waited += step
    assert waited < 60


def test_slow_but_honest_server_may_take_as_long_as_it_needs() -> None:
    patience = Patience()
    for _ in range(10_000):
        patience.note(1.0, LEAST_BYTES_PER_S)
    assert patience.left_s == 30


def test_fast_start_earns_no_longer_silence_than_the_grace() -> None:
    patience = Patience()
    patience.note(0.1, 100_000_000)
    assert patience.left_s == 30


def test_pauses_grow_and_heed_the_server_up_to_a_minute() -> None:
    assert all(0.5 * top <= pause(tries) <= top for tries, top in ((1, 0.2), (2, 0.8), (4, 12.8)))
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
