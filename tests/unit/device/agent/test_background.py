"""Long work in a thread of its own, which reports by an event."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable

import pytest

from forge.device.agent.background import AgentEvent, BackgroundWorker, ChannelRead, WorkFailed
from forge.device.shared.signals import StopAskedError, stop_on_signals
from forge.errors import ForgeError, TrustError
from forge.store import cancellation
from forge.store.download.workers import Workers

DONE = ChannelRead(error=TrustError("no"))


def sleeps() -> None:
    cancellation.sleep(60)


def sleeps_in_a_pool() -> None:
    with Workers(2) as workers:
        for _ in range(40):  # more than the pool takes at once
            workers.submit(sleeps)


def sleeps_in_a_map() -> None:
    with Workers(2) as workers:
        list(workers.map(lambda _: sleeps(), range(4)))


@pytest.fixture
def events() -> queue.SimpleQueue[AgentEvent]:
    return queue.SimpleQueue()


@pytest.fixture
def worker(events: queue.SimpleQueue[AgentEvent]) -> BackgroundWorker:
    return BackgroundWorker("check", events.put, threaded=True)


def test_work_is_done_in_another_thread_and_posts_what_it_returns(
    worker: BackgroundWorker, events: queue.SimpleQueue[AgentEvent]
) -> None:
    go_on, seen = threading.Event(), list[threading.Thread]()

    def work() -> AgentEvent:
        assert go_on.wait(30)
        seen.append(threading.current_thread())
        return DONE

    worker.start(work)
    assert events.empty()
    go_on.set()
    assert events.get(timeout=30) == DONE
    assert seen != [threading.current_thread()]


def test_without_threads_the_event_is_posted_before_start_returns(
    events: queue.SimpleQueue[AgentEvent],
) -> None:
    seen: list[threading.Thread] = []

    def work() -> AgentEvent:
        seen.append(threading.current_thread())
        return DONE

    BackgroundWorker("check", events.put, threaded=False).start(work)
    assert events.get_nowait() == DONE
    assert seen == [threading.current_thread()]


@pytest.mark.parametrize("threaded", [True, False])
def test_an_error_that_nothing_expects_is_posted(
    events: queue.SimpleQueue[AgentEvent], *, threaded: bool
) -> None:
    def work() -> AgentEvent:
        raise KeyError("no")

    BackgroundWorker("action", events.put, threaded=threaded).start(work)
    failed = events.get(timeout=30)
    assert isinstance(failed, WorkFailed)
    assert failed.kind == "action"
    assert isinstance(failed.error, KeyError)


def test_work_may_be_started_as_soon_as_the_event_of_the_last_is_there(
    worker: BackgroundWorker, events: queue.SimpleQueue[AgentEvent]
) -> None:
    for _ in range(500):
        worker.start(lambda: DONE)
        assert events.get(timeout=30) == DONE


def test_two_pieces_of_work_at_once_are_refused(
    worker: BackgroundWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forge.device.agent.background.JOIN_S", 0.1)

    def work() -> AgentEvent:
        sleeps()
        return DONE

    worker.start(work)
    with pytest.raises(ForgeError, match="worker is busy"):
        worker.start(work)
    worker.join(30)


@pytest.mark.parametrize("work", [sleeps, sleeps_in_a_pool, sleeps_in_a_map])
def test_work_that_is_cancelled_while_it_waits_for_a_network_ends_at_once(
    worker: BackgroundWorker, events: queue.SimpleQueue[AgentEvent], work: Callable[[], None]
) -> None:
    def waits() -> AgentEvent:
        work()
        return DONE

    worker.start(waits)
    begin = time.monotonic()
    worker.cancel()
    failed = events.get(timeout=30)
    assert isinstance(failed, WorkFailed)
    assert isinstance(failed.error, cancellation.CancelledError)
    assert time.monotonic() - begin < 5


def test_work_that_takes_no_notice_is_not_waited_for_after_a_signal(
    worker: BackgroundWorker, events: queue.SimpleQueue[AgentEvent]
) -> None:
    go_on = threading.Event()

    def work() -> AgentEvent:
        go_on.wait(60)
        return DONE

    killer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    killer.start()
    worker.start(work)
    with pytest.raises(StopAskedError), stop_on_signals():
        events.get(timeout=60)
    worker.join(0.1)
    assert not go_on.is_set()
    go_on.set()
