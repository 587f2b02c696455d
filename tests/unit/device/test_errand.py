"""Long work beside the main thread."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

import pytest

from forge.device import errand
from forge.device.signals import StopAskedError, stop_on_signals
from forge.errors import TrustError
from forge.store import stopping
from forge.store.workers import Workers


def sleeps() -> None:
    stopping.sleep(60)


def sleeps_in_a_pool() -> None:
    with Workers(2) as workers:
        for _ in range(40):  # more than the pool takes at once
            workers.submit(sleeps)


def sleeps_in_a_map() -> None:
    with Workers(2) as workers:
        list(workers.map(lambda _: sleeps(), range(4)))


def never() -> float:
    return 3600.0


def test_the_caller_looks_after_things_until_the_work_is_done() -> None:
    seen: list[threading.Thread] = []

    def work() -> threading.Thread:
        while len(seen) < 3:
            time.sleep(0.01)
        return threading.current_thread()

    def look() -> float:
        seen.append(threading.current_thread())
        return 0.0

    worker = errand.run(work, look)
    assert set(seen) == {threading.current_thread()}
    assert worker is not threading.current_thread()
    assert not worker.is_alive()


def test_what_the_work_raises_is_raised() -> None:
    def work() -> None:
        raise TrustError("no")

    with pytest.raises(TrustError, match="no"):
        errand.run(work, never)


def test_what_fails_meanwhile_is_raised_once_the_work_has_ended() -> None:
    ended = threading.Event()

    def work() -> None:
        try:
            sleeps()
        finally:
            ended.set()

    def look() -> float:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        errand.run(work, look)
    assert ended.is_set()


@pytest.mark.parametrize("work", [sleeps, sleeps_in_a_pool, sleeps_in_a_map])
def test_unwanted_work_that_waits_for_a_network_ends_at_once(work: Callable[[], None]) -> None:
    begin = time.monotonic()
    with pytest.raises(stopping.StoppedError):
        errand.run(work, never, lambda: time.monotonic() > begin + 0.3)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("work", [sleeps, sleeps_in_a_pool, lambda: time.sleep(30)])
def test_a_signal_ends_even_work_that_takes_no_notice(work: Callable[[], None]) -> None:
    begin = time.monotonic()
    killer = threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGTERM))
    killer.start()
    with pytest.raises(StopAskedError), stop_on_signals():
        errand.run(work, never)
    assert time.monotonic() - begin < 10
