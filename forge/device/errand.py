"""Long work in a thread of its own, while the main thread looks after what serves.

The journal, the servers and what the gateway is told stay the main thread's; an errand reads the
store, writes the inactive slot, or makes an environment.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, TypeVar

from forge.device.signals import StopAskedError, check_signals
from forge.store import stopping

__all__ = ["run"]

_TURN_S: Final = 0.2
_LEAVE_S: Final = 5.0

_T = TypeVar("_T")


def run(
    work: Callable[[], _T],
    meanwhile: Callable[[], float],
    unwanted: Callable[[], bool] = lambda: False,
) -> _T:
    """Do `work` and return what it returns.

    Args:
        work: what takes long.
        meanwhile: called at once and whenever it is due; says in how many seconds again.
        unwanted: asked now and then; once it is true, what waits for a network is told to end.

    Raises:
        StoppedError: it was unwanted, and ended for that.
        StopAskedError: a signal came. Work that does not end soon then ends with the process, as by
            a kill.
        BaseException: whatever `work` or `meanwhile` raises.
    """
    stop, done = threading.Event(), Future[_T]()
    thread = threading.Thread(target=_work, args=(work, stop, done), name="errand", daemon=True)
    try:
        thread.start()
        _look_after(thread, stop, meanwhile, unwanted)
    except StopAskedError:
        stop.set()
        thread.join(_LEAVE_S)
        raise
    except BaseException:
        stop.set()
        thread.join()  # nothing else may use what it uses
        raise
    return done.result()


def _look_after(
    thread: threading.Thread,
    stop: threading.Event,
    meanwhile: Callable[[], float],
    unwanted: Callable[[], bool],
) -> None:
    due = 0.0
    while thread.is_alive():
        check_signals()
        if unwanted():
            stop.set()
        if time.monotonic() >= due:
            due = meanwhile() + time.monotonic()
        thread.join(_TURN_S)


def _work(work: Callable[[], _T], stop: threading.Event, done: Future[_T]) -> None:
    with stopping.until(stop):
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001  raised where the work was asked for
            done.set_exception(error)
