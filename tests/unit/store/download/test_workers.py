"""Tasks on threads: all of them run, or the first failure is raised and the rest is cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from forge.store import cancellation
from forge.store.download.workers import Workers


class FirstError(Exception):
    """What a task fails with."""


def fail() -> None:
    raise FirstError


def test_every_task_has_run_when_the_block_ends() -> None:
    done: list[int] = []
    with Workers(3) as workers:
        for number in range(50):
            workers.submit(lambda number=number: done.append(number))  # type: ignore[misc]
    assert sorted(done) == list(range(50))


def test_map_keeps_the_order_and_hands_on_errors() -> None:
    def half(number: int) -> float:
        return 1 / number

    with Workers(4) as workers:
        assert list(workers.map(half, [1, 2, 4, 8])) == [1.0, 0.5, 0.25, 0.125]
        with pytest.raises(ZeroDivisionError):
            list(workers.map(half, [1, 0]))


def test_no_more_tasks_run_at_once_than_there_are_threads() -> None:
    running, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(3)

    def task() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(60)  # three must be here at once
        with lock:
            running -= 1

    with Workers(3) as workers:
        for _ in range(6):
            workers.submit(task)
    assert most == 3


def test_the_first_failure_is_raised_at_the_end() -> None:
    with pytest.raises(FirstError), Workers(1) as workers:
        workers.submit(fail)


def test_after_a_failure_submit_raises_it_and_nothing_more_runs() -> None:
    done: list[int] = []

    def submit_until_it_raises(workers: Workers) -> None:
        while True:
            workers.submit(lambda: None)

    def run() -> None:
        with Workers(1) as workers:
            assert not workers.stopping
            workers.submit(fail)
            with pytest.raises(FirstError):
                submit_until_it_raises(workers)
            assert workers.stopping
            with pytest.raises(FirstError):
                workers.submit(lambda: done.append(1))

    with pytest.raises(FirstError):
        run()
    assert done == []


def test_an_error_of_the_block_is_raised_rather_than_what_it_caused() -> None:
    began = threading.Event()
    errors: list[BaseException] = []

    def wait() -> None:
        began.set()
        try:
            cancellation.sleep(600)
        except cancellation.CancelledError as error:
            errors.append(error)
            raise

    def run() -> None:
        with Workers(1) as workers:
            workers.submit(wait)
            began.wait(60)
            raise KeyError

    with pytest.raises(KeyError):
        run()
    assert len(errors) == 1  # the task did not wait for ten minutes


def test_a_failing_task_ends_the_waiting_of_the_others() -> None:
    began = threading.Event()

    def wait() -> None:
        began.set()
        cancellation.sleep(600)

    def fail_later() -> None:
        began.wait(60)
        raise FirstError

    def run() -> None:
        with Workers(2) as workers:
            workers.submit(wait)
            workers.submit(fail_later)

    with pytest.raises(FirstError):
        run()


@pytest.mark.parametrize(
    "use",
    [
        lambda workers, task: workers.submit(task),
        lambda workers, task: list(workers.map(lambda _: task(), [1])),
    ],
    ids=["submit", "map"],
)
def test_what_cancels_the_thread_that_has_the_block_cancels_its_tasks(
    use: Callable[[Workers, Callable[[], None]], object],
) -> None:
    outer, done = threading.Event(), list[int]()
    outer.set()

    def run() -> None:
        with cancellation.until(outer), Workers(1) as workers:
            use(workers, lambda: done.append(1))

    with pytest.raises(cancellation.CancelledError):
        run()
    assert done == []
