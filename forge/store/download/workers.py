"""A bounded thread pool that stops at the first failure."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

from forge.store import cancellation

__all__ = ["Workers"]

_T = TypeVar("_T")
_R = TypeVar("_R")


class Workers:
    """Runs tasks in threads; leaving the block waits for them and raises the first failure.

    Tasks that wait for a network are cancelled after a failure, after a signal in the thread that
    entered the block, or when that thread is cancelled.

    `submit` blocks while two tasks per thread are queued, so that a long list of tasks is generated
    only as fast as it is processed.
    """

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count)
        self._room = threading.BoundedSemaphore(2 * count)
        self._failure: BaseException | None = None
        self._stop = threading.Event()
        self._stops = (self._stop, *cancellation.current_events())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if error is not None:
            self._fail(error)
        try:
            self._pool.shutdown(wait=True)
        except BaseException as interrupted:  # a signal arrived while this thread waited
            self._fail(interrupted)
            self._pool.shutdown(wait=True)
            raise
        if self._failure is not None and self._failure is not error:
            raise self._failure

    def submit(self, task: Callable[[], None]) -> None:
        """Queue a task. Raises the first failure of an earlier task."""
        self._room.acquire()
        if self._failure is not None:
            self._room.release()
            raise self._failure
        self._pool.submit(self._run, task)

    @property
    def stopping(self) -> bool:
        """Return whether a task failed, so that the results of the others are not needed."""
        return self._failure is not None

    def map(self, function: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
        """Yield the result of `function` for each item, in order."""

        def run(item: _T) -> _R:
            with cancellation.until(*self._stops):
                cancellation.check()
                return function(item)

        return self._pool.map(run, items)

    def _run(self, task: Callable[[], None]) -> None:
        try:
            if self._failure is None:
                with cancellation.until(*self._stops):
                    cancellation.check()
                    task()
        except BaseException as error:  # noqa: BLE001  raised in the thread that submitted the task
            self._fail(error)
        finally:
            self._room.release()

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._stop.set()
