"""Bodies of S3's answers: exactly as long as they should be, and not too slow."""

from __future__ import annotations

import http.client
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import IncompleteReadError, ResponseStreamingError
from urllib3.exceptions import ProtocolError, ReadTimeoutError

from forge.store import cancellation
from forge.store.backends import s3_body
from forge.store.backends.s3_body import BROKEN_OFF, blocks
from forge.store.backends.throttle import MinimumRate

BLOCK = 64 * 1024


class Raw:
    """A connection that gives the next of some blocks at each read, each after some seconds."""

    def __init__(self, *parts: bytes | Exception, seconds: float = 0.0) -> None:
        self.parts = list(parts)
        self.seconds = seconds
        self.now = 0.0
        self.asked: list[int] = []

    def read1(self, size: int) -> bytes:
        self.asked.append(size)
        self.now += self.seconds
        part = self.parts.pop(0) if self.parts else b""
        if isinstance(part, Exception):
            raise part
        assert len(part) <= size
        return part

    @property
    def body(self) -> Any:
        return SimpleNamespace(_raw_stream=self)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Where the module takes the time from: of the connection in `raw`."""
    found = SimpleNamespace(raw=Raw())
    found.monotonic = lambda: found.raw.now
    monkeypatch.setattr(s3_body, "time", found)
    return found


def test_blocks_come_as_they_are_read_and_no_byte_more_is_asked_for() -> None:
    raw = Raw(b"a" * BLOCK, b"b", b"c" * 9, b"not asked for")
    assert list(blocks(raw.body, BLOCK + 10, MinimumRate())) == [b"a" * BLOCK, b"b", b"c" * 9]
    assert raw.asked == [BLOCK, 10, 9]


def test_an_empty_body_is_not_read() -> None:
    raw = Raw()
    assert list(blocks(raw.body, 0, MinimumRate())) == []
    assert raw.asked == []


def test_a_body_that_ends_early_is_an_error_with_both_lengths() -> None:
    with pytest.raises(IncompleteReadError, match="5") as caught:
        list(blocks(Raw(b"12345").body, 9, MinimumRate()))
    assert "9" in str(caught.value)
    assert isinstance(caught.value, BROKEN_OFF)


@pytest.mark.parametrize(
    "error",
    [
        ReadTimeoutError(None, "", "timed out"),  # type: ignore[arg-type]
        ProtocolError("broken"),
        http.client.IncompleteRead(b""),
        ConnectionResetError("reset"),
    ],
)
def test_each_fault_of_the_connection_breaks_the_body_off(error: Exception) -> None:
    found = blocks(Raw(b"12345", error).body, 9, MinimumRate())
    assert next(found) == b"12345"
    with pytest.raises(ResponseStreamingError) as caught:
        next(found)
    assert caught.value.__cause__ is error


def test_a_body_slower_than_the_minimum_rate_is_given_up(time: SimpleNamespace) -> None:
    time.raw = Raw(*[b"x"] * 100, seconds=20.0)
    with pytest.raises(ResponseStreamingError, match="4096 bytes"):
        list(blocks(time.raw.body, 100, MinimumRate()))
    assert time.raw.now == 40.0


def test_a_slow_body_at_the_minimum_rate_may_take_hours(time: SimpleNamespace) -> None:
    time.raw = Raw(*[b"x" * 4096] * 5000, seconds=1.0)
    assert len(list(blocks(time.raw.body, 4096 * 5000, MinimumRate()))) == 5000
    assert time.raw.now == 5000.0


def test_the_last_block_counts_however_late_it_comes(time: SimpleNamespace) -> None:
    time.raw = Raw(b"1", seconds=3600.0)
    assert list(blocks(time.raw.body, 1, MinimumRate())) == [b"1"]


def test_a_cancelled_thread_reads_no_further_block() -> None:
    stop, raw = threading.Event(), Raw(b"1", b"2")
    with cancellation.until(stop):
        found = blocks(raw.body, 2, MinimumRate())
        assert next(found) == b"1"
        stop.set()
        with pytest.raises(cancellation.CancelledError):
            next(found)
    assert raw.asked == [2]
