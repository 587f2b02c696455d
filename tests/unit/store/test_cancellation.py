"""Waiting that ends when its result is not needed: on events and clocks that the test controls."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from forge.errors import StoreError
from forge.store import cancellation
from forge.store.cancellation import SLICE_S, CancelledError, check, sleep, until


class Waited(threading.Event):
    """An event whose `wait` takes no time: it records how long, and may set an event."""

    def __init__(self, then_set: threading.Event | None = None) -> None:
        super().__init__()
        self.waits: list[float] = []
        self.then_set = then_set

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        if self.then_set is not None:
            self.then_set.set()
        return self.is_set()


def test_a_thread_that_has_no_event_is_never_cancelled() -> None:
    check()
    with until():
        check()


@pytest.mark.parametrize("which", [0, 1, 2])
def test_any_event_of_several_cancels(which: int) -> None:
    stops = [threading.Event() for _ in range(3)]
    with until(*stops):
        check()
        stops[which].set()
        with pytest.raises(CancelledError):
            check()
    check()


def test_the_events_of_before_are_back_after_the_body_also_after_an_error() -> None:
    outer, inner = threading.Event(), threading.Event()
    inner.set()
    with until(outer):
        with pytest.raises(KeyError), until(inner):
            raise KeyError
        check()
        outer.set()
        with pytest.raises(CancelledError):
            check()


def test_an_event_cancels_no_other_thread() -> None:
    stop, found = threading.Event(), list[str]()
    stop.set()

    def other() -> None:
        check()
        found.append("not cancelled")

    with until(stop):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert found == ["not cancelled"]


def test_being_cancelled_is_an_error_of_the_store() -> None:
    assert issubclass(CancelledError, StoreError)
    assert CancelledError("x").exit_code == 9


@pytest.mark.parametrize("seconds", [0.0, 3600.0])
def test_sleep_of_a_cancelled_thread_ends_at_once(seconds: float) -> None:
    stop = Waited()
    stop.set()
    with until(stop), pytest.raises(CancelledError):
        sleep(seconds)
    assert stop.waits == []


def test_sleep_ends_within_a_slice_of_any_event() -> None:
    outer = threading.Event()
    innermost = Waited(then_set=outer)
    with until(innermost, outer), pytest.raises(CancelledError):
        sleep(3600)
    assert innermost.waits == [SLICE_S]


@pytest.mark.parametrize("cancellable", [True, False])
def test_sleep_lasts_as_long_as_it_was_told(
    monkeypatch: pytest.MonkeyPatch, *, cancellable: bool
) -> None:
    now, slept = 100.0, list[float]()

    def pass_time(seconds: float | None = None) -> bool:
        nonlocal now
        assert seconds is not None
        slept.append(seconds)
        now += seconds
        return False

    clock = SimpleNamespace(monotonic=lambda: now, sleep=pass_time)
    monkeypatch.setattr(cancellation, "time", clock)
    stop = threading.Event()
    monkeypatch.setattr(stop, "wait", pass_time)
    with until(*([stop] if cancellable else [])):
        sleep(2.5)
    assert slept == ([1.0, 1.0, 0.5] if cancellable else [2.5])
