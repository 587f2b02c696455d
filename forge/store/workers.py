"""A bounded crowd of threads that stops at the first failure."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

from forge.store import stopping

__all__ = ["Workers"]

_T = TypeVar("_T")
_R = TypeVar("_R")


class Workers:
    """Runs tasks; leaving the block waits for them and raises the first failure.

    After a failure, a signal in the thread that has the block, or when that thread is told to stop,
    tasks that wait for a network are told to end.

    `submit` blocks while twice as many tasks wait as there are threads, so that a long list of
    tasks is made only as fast as it is worked off.
    """

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count)
        self._room = threading.BoundedSemaphore(2 * count)
        self._failure: BaseException | None = None
        self._stop = threading.Event()
        self._stops = (self._stop, *stopping.listened_to())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if error is not None:
            self._fail(error)
        try:
            self._pool.shutdown(wait=True)
        except BaseException as interrupted:  # a signal came while this thread waited
            self._fail(interrupted)
            self._pool.shutdown(wait=True)
            raise
        if self._failure is not None and self._failure is not error:
            raise self._failure

    def submit(self, task: Callable[[], None]) -> None:
        """Run a task some time. Raises the first failure of an earlier one."""
        self._room.acquire()
        if self._failure is not None:
            self._room.release()
            raise self._failure
        self._pool.submit(self._run, task)

    @property
    def stopping(self) -> bool:
        """Whether something failed, so that nobody needs the rest."""
        return self._failure is not None

    def map(self, function: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
        """`function` of each item, in order."""

        def run(item: _T) -> _R:
            with stopping.until(*self._stops):
                stopping.check()
                return function(item)

        return self._pool.map(run, items)

    def _run(self, task: Callable[[], None]) -> None:
        try:
            if self._failure is None:
                with stopping.until(*self._stops):
                    stopping.check()
                    task()
        except BaseException as error:  # noqa: BLE001  raised where the work was asked for
            self._fail(error)
        finally:
            self._room.release()

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._stop.set()
