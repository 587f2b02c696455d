"""Bytes, rate and time left."""

import pytest

from forge.progress import ProgressMeter, Throttle, bytes_text, duration_text

MB = 10**6


def texts(*samples: tuple[float, int], total: int) -> list[str]:
    now = [0.0]
    meter = ProgressMeter(clock=lambda: now[0])
    found = []
    for second, done in samples:
        now[0] = second
        found.append(meter.text(done, total))
    return found


def test_a_progress_says_bytes_rate_and_time_left() -> None:
    first, later, last = texts((0, 0), (2, 10 * MB), (20, 100 * MB), total=100 * MB)
    assert first == "0 B of 100.0 MB"
    assert later == "10.0 MB of 100.0 MB, 5.0 MB/s, 18 s left"
    assert last == "100.0 MB of 100.0 MB, 5.0 MB/s"


def test_without_a_total_there_is_no_time_left() -> None:
    assert texts((0, 0), (2, 10 * MB), total=0)[1] == "10.0 MB, 5.0 MB/s"


def test_the_rate_is_that_of_the_last_seconds() -> None:
    fast_then_slow = [(0, 0), (1, 100 * MB), *((2 + n, (100 + n) * MB) for n in range(30))]
    assert "1.0 MB/s" in texts(*fast_then_slow, total=1000 * MB)[-1]


def test_a_stalled_transfer_shows_no_rate() -> None:
    assert texts((0, 5 * MB), (9, 5 * MB), total=9 * MB)[1] == "5.0 MB of 9.0 MB"


def test_a_smaller_number_begins_another_operation() -> None:
    assert texts((0, 0), (1, 9 * MB), (2, MB), (3, 2 * MB), total=0)[-1] == "2.0 MB, 1.0 MB/s"


def test_reports_are_throttled() -> None:
    now = [5.0]
    throttle = Throttle(10, clock=lambda: now[0])
    assert throttle.due()
    now[0] = 14.9
    assert not throttle.due()
    now[0] = 15
    assert throttle.due()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (245, "4 min 05 s"),
     (7800, "2 h 10 min"), (172_799, "47 h 59 min"), (172_800, "2 days 00 h"),
     (30 * 86_400 + 7200, "30 days 02 h")],
)  # fmt: skip
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (98_400_000, "98.4 MB"), (2 * 10**12, "2.0 TB")]
)
def test_sizes_are_in_powers_of_1000(size: int, text: str) -> None:
    assert bytes_text(size) == text
