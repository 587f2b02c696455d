"""How far a download is: in numbers, in words, and in the log."""

from __future__ import annotations

import contextlib

import pytest

from forge.device.shared.release import Release
from forge.device.telemetry.fetch_progress import FetchMeter
from tests.support.manifests import manifest

RELEASE = Release.of(manifest("1.1.0"))
MB = 1_000_000


class Clock:
    """Seconds by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_bytes_rate_and_time_left_are_known_during_a_download_and_not_after() -> None:
    clock = Clock()
    meter = FetchMeter(clock)
    assert meter.progress is None
    with meter.measuring(RELEASE):
        assert meter.progress is None  # its size is not known yet
        for second in range(11):
            clock.now = 100.0 + second
            come(meter, second * 2 * MB, 100 * MB)
        found = meter.progress
        assert found is not None
        assert (found.release, found.done_bytes, found.total_bytes) == (RELEASE, 20 * MB, 100 * MB)
        assert (found.bytes_per_s, found.left_s) == (2 * MB, 40)
        assert str(found) == "20.0 MB of 100.0 MB, 2.0 MB/s, 40 s left"
    assert meter.progress is None
    come(meter, 1, 2)  # by a thread that ends late
    assert meter.progress is None
    with meter.measuring(RELEASE):
        assert meter.progress is None


def come(meter: FetchMeter, done: int, total: int) -> None:
    """All that is done was downloaded."""
    meter.moved(done)
    meter.done(done, total)


def test_a_download_that_stands_still_has_neither_rate_nor_time_left() -> None:
    """Nothing tells the meter of that: the callbacks come with bytes."""
    clock = Clock()
    meter = FetchMeter(clock)
    with meter.measuring(RELEASE):
        for _ in range(10):
            clock.now += 1
            come(meter, int(clock.now - 100) * MB, 100 * MB)
        rates = []
        for _ in range(20):
            found = meter.progress
            assert found is not None
            rates.append(found.bytes_per_s)
            clock.now += 1
        assert (rates[0], rates[-1]) == (MB, 0)
        assert rates == sorted(rates, reverse=True)
        assert meter.progress is not None
        assert str(meter.progress) == "10.0 MB of 100.0 MB"


def test_files_of_the_slots_are_done_and_not_downloaded() -> None:
    clock = Clock()
    meter = FetchMeter(clock)
    with meter.measuring(RELEASE):
        meter.moved(0)
        meter.done(900 * MB, 1000 * MB)  # at once: they are linked
        clock.now += 10
        meter.moved(5 * MB)
        meter.done(905 * MB, 1000 * MB)
        found = meter.progress
    assert found is not None
    assert (found.done_bytes, found.bytes_per_s, found.left_s) == (905 * MB, MB / 2, 190)


def test_a_download_that_fails_is_not_under_way_any_more() -> None:
    meter = FetchMeter(Clock())
    with contextlib.suppress(OSError), meter.measuring(RELEASE):
        come(meter, 5, 10)
        raise OSError(28, "full")
    assert meter.progress is None


def test_the_log_has_a_line_each_half_minute_and_none_for_a_short_download(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    clock = Clock()
    meter = FetchMeter(clock)
    with meter.measuring(RELEASE):
        for second in range(66):
            clock.now = 100.0 + second
            come(meter, second * MB, 100 * MB)
    assert caplog.messages == [
        f"fetching {RELEASE}: {done}.0 MB of 100.0 MB, 1.0 MB/s, {left} left"
        for done, left in ((5, "1 min 35 s"), (35, "1 min 05 s"), (65, "35 s"))
    ]
    caplog.clear()
    with meter.measuring(RELEASE):
        come(meter, 100 * MB, 100 * MB)
    assert caplog.messages == []
