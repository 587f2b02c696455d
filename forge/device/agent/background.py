"""Long work in a thread, which ends by an event on the agent's queue.

The journal, the active slot and what the gateway is told stay the main thread's. A worker reads
the store, writes or starts the inactive slot, or makes an environment; it posts its result, and
never calls back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from forge.device.agent.weights_reader import DamageFound
from forge.device.shared.release import Release, SlotName
from forge.device.state_machine.events import MachineEvent
from forge.device.update.failure_policy import FailureVerdict, SlotCondition
from forge.device.update.updater import Offer
from forge.errors import ForgeError
from forge.store import cancellation

__all__ = [
    "JOIN_S",
    "ActionDone",
    "AgentEvent",
    "BackgroundWorker",
    "ChannelRead",
    "SlotRepaired",
    "WorkFailed",
    "WorkKind",
]

JOIN_S: Final = 5.0

WorkKind: TypeAlias = Literal["check", "action", "repair"]


@dataclass(frozen=True, slots=True)
class ActionDone:
    """An action has ended.

    Attributes:
        event: what the state machine is told.
        verdict: on its failure, if it failed.
    """

    event: MachineEvent
    verdict: FailureVerdict | None = None


@dataclass(frozen=True, slots=True)
class ChannelRead:
    """The channel was read: the offer, or why there is none; neither if that was cancelled.

    Attributes:
        offer: of the channel.
        error: why there is none.
        unfit: why what serves does not fit this machine any more; "": it does.
    """

    offer: Offer | None = None
    error: ForgeError | None = None
    unfit: str = ""


@dataclass(frozen=True, slots=True)
class WorkFailed:
    """Work ended by an error that nothing expects: a bug in Forge or in a library."""

    kind: WorkKind
    error: BaseException


@dataclass(frozen=True, slots=True)
class SlotRepaired:
    """A repair of a slot that was found damaged while the device ran has ended.

    Attributes:
        slot: which.
        release: in it.
        condition: `repaired`, or still `damaged`.
    """

    slot: SlotName
    release: Release
    condition: SlotCondition


AgentEvent: TypeAlias = (
    MachineEvent | ActionDone | ChannelRead | DamageFound | SlotRepaired | WorkFailed
)


class _Job:
    """One piece of work: told to stop, done once its event was posted."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.done = threading.Event()
        self.thread: threading.Thread | None = None


class BackgroundWorker:
    """Runs one piece of work at a time and posts the event that it returns.

    Args:
        kind: what it works on.
        post: puts an event on the agent's queue.
        threaded: False: work is done in the caller's thread, before `start` returns.
    """

    def __init__(
        self, kind: WorkKind, post: Callable[[AgentEvent], None], *, threaded: bool
    ) -> None:
        self._kind = kind
        self._post = post
        self._threaded = threaded
        self._job = _Job()
        self._job.done.set()

    def start(self, work: Callable[[], AgentEvent]) -> None:
        """Begin work. The event of the last one must have been posted."""
        if not self._job.done.wait(JOIN_S):
            raise ForgeError(f"The agent's {self._kind} worker is busy", why="a bug in Forge")
        self._job = job = _Job()
        if not self._threaded:
            self._run(work, job)
            return
        job.thread = threading.Thread(
            target=self._run, args=(work, job), name=f"agent-{self._kind}", daemon=True
        )
        job.thread.start()

    def cancel(self) -> None:
        """Tell work that waits for a network or a process to end."""
        self._job.stop.set()

    def join(self, timeout_s: float | None = JOIN_S) -> None:
        """Cancel and wait. Work that has not ended by then ends with the process, as by a kill."""
        self.cancel()
        if self._job.thread:
            self._job.thread.join(timeout_s)

    def _run(self, work: Callable[[], AgentEvent], job: _Job) -> None:
        try:
            with cancellation.until(job.stop):
                event = work()
        except Exception as error:  # noqa: BLE001  raised by the agent's loop
            event = WorkFailed(self._kind, error)
        except BaseException as error:
            if not self._threaded:
                job.done.set()
                raise
            event = WorkFailed(self._kind, error)
        self._post(event)
        job.done.set()
