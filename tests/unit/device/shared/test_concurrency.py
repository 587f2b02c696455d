from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from forge.device.shared.concurrency import UNGOVERNED, ConcurrencyLimit, LimitChange


def test_nothing_is_limited_before_somebody_governs() -> None:
    assert ConcurrencyLimit().get() == (UNGOVERNED, "no limit is set")


def test_changes_are_kept_with_their_time_and_reason() -> None:
    limit = ConcurrencyLimit(4, clock=lambda: datetime(2026, 11, 24, 4, tzinfo=UTC))
    assert limit.set(2, "hot")
    assert not limit.set(2, "still hot")
    assert limit.set(3, "cooler")
    assert limit.get() == (3, "cooler")
    assert limit.moves == (1, 1)
    at = "2026-11-24T04:00:00Z"
    assert limit.history == (
        LimitChange(at=at, limit=2, reason="hot"), LimitChange(at=at, limit=3, reason="cooler")
    )  # fmt: skip


def test_history_does_not_grow_for_ever() -> None:
    limit = ConcurrencyLimit(1)
    for number in range(1000):
        limit.set(1 + number % 2, "x")
    assert len(limit.history) == 32
    assert sum(limit.moves) == 999


def test_nothing_at_all_is_no_limit() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ConcurrencyLimit().set(0, "too hot")


def test_who_waits_is_woken_by_a_change_and_not_by_a_new_reason() -> None:
    limit = ConcurrencyLimit(1)
    waits, woken = threading.Event(), threading.Event()

    def wait() -> None:
        with limit.changed:
            waits.set()
            if limit.changed.wait(20):
                woken.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert waits.wait(10)
    limit.set(1, "another reason")  # takes the lock, so the other waits by now
    assert not woken.wait(0.3)
    limit.set(2, "another reason")
    assert woken.wait(10)
    waiting.join()


def test_number_and_reason_belong_together_whoever_writes() -> None:
    limit = ConcurrencyLimit(1, "1")
    writers = [
        threading.Thread(target=lambda: [limit.set(n, str(n)) for n in range(1, 500)])
        for _ in range(4)
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        current, reason = limit.get()
        assert reason == str(current)
    for writer in writers:
        writer.join()


def test_limit_is_lowered_below_what_the_bundle_decodes_and_not_at_it() -> None:
    limit = ConcurrencyLimit(1, "the batch")
    assert not limit.lowered
    limit.set(8, "another bundle", 8)
    limit.set(2, "hot")
    assert limit.lowered
    limit.set(8, "cool")
    assert not limit.lowered
    limit.set(2, "a bundle of a smaller batch", 2)
    assert not limit.lowered
