"""Write the report of the running agent, which `forge device status` reads.

The agent's main thread starts servers and waits for them; what it does then, and how far a
download is, is reported by a thread.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from forge.device.state.directory import StateDirectory
from forge.device.telemetry.status import AgentActivity, AgentReport, ChannelCheck, write_agent

__all__ = ["StatusReporter"]

_log = logging.getLogger(__name__)

_EVERY_S: Final = 1.0
_PROGRESS_EVERY_S: Final = 5.0  # each report is synced to disk
_JOIN_S: Final = 5.0


class StatusReporter:
    """Writes the report whenever what it says has changed. Thread-safe.

    Args:
        home: the state directory.
        describe: returns the report without the activity, from the last check of the channel.
        clock: returns seconds.
    """

    def __init__(
        self,
        home: StateDirectory,
        describe: Callable[[ChannelCheck | None], AgentReport],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._home = home
        self._describe = describe
        self._clock = clock
        self._check: ChannelCheck | None = None
        self._activity: Callable[[], AgentActivity] = AgentActivity
        self._written: AgentReport | None = None
        self._progress_at = 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def checked(self, check: ChannelCheck | None) -> None:
        """Report at once what is known of the channel."""
        with self._lock:
            self._check = check
            self._write(self._report())

    def refresh(self) -> None:
        """Report what has changed; the progress of a download and of a start every 5 seconds."""
        with self._lock:
            report = self._report()
            if report == self._written:
                return
            known = self._written
            if known and report.without_figures() == known.without_figures():
                if self._clock() < self._progress_at:
                    return
                self._progress_at = self._clock() + _PROGRESS_EVERY_S
            self._write(report)

    @contextlib.contextmanager
    def running(self, activity: Callable[[], AgentActivity]) -> Iterator[None]:
        """Refresh the report each second during the body.

        Args:
            activity: returns what the agent does now; called from other threads.
        """
        self._activity = activity
        thread = threading.Thread(target=self._run, name="agent-status", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(_JOIN_S)

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            try:
                self.refresh()
            except Exception:  # noqa: BLE001 - a bug, which must not end the reports
                _log.exception("a bug in Forge, please report it:")
                self._stop.wait(60)

    def _report(self) -> AgentReport:
        report = self._describe(self._check)
        return report.model_copy(update={"activity": self._activity()})

    def _write(self, report: AgentReport) -> None:
        self._written = report
        with contextlib.suppress(OSError):  # a full disk must not end what serves
            write_agent(self._home, report)
