"""Keeps the active slot served: starts its server again, and reports each crash as an event."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from forge.device.agent.cutover import Cutover
from forge.device.agent.repair import Repair
from forge.device.agent.slot_servers import SlotServers
from forge.device.shared.release import SlotName
from forge.device.state.directory import StateDirectory
from forge.device.state.disk_errors import as_forge_error
from forge.device.state_machine.actions import Serve
from forge.device.state_machine.events import Crashed
from forge.device.state_machine.journal import Journal
from forge.device.state_machine.transitions import STEADY_S
from forge.device.telemetry.repeated_errors import RepeatedErrors
from forge.device.update.failure_policy import judge, slot_to_check
from forge.device.update.resource_pressure import ResourceSnapshot
from forge.device.update.system_fit import because
from forge.errors import ConfigurationError, ForgeError

__all__ = ["Supervisor"]

_log = logging.getLogger(__name__)

_CHECK_S: Final = 1.0  # each check reads all of /proc
_MAX_PAUSE_S: Final = 60.0


class Supervisor:
    """Watches the active slot. Used by the agent's main thread only.

    Args:
        home: the state directory.
        servers: of the slots.
        cutover: of the requests.
        repair: of the slots' files.
        post: puts a crash on the agent's queue.
        now: RFC 3339.
    """

    def __init__(
        self,
        home: StateDirectory,
        servers: SlotServers,
        cutover: Cutover,
        repair: Repair,
        post: Callable[[Crashed], None],
        now: Callable[[], str],
    ) -> None:
        self._home = home
        self._servers = servers
        self._cutover = cutover
        self._repair = repair
        self._post = post
        self._now = now
        self._errors = RepeatedErrors(_log, lambda: time.monotonic())  # noqa: PLW0108 - patched
        self._failures = 0  # in a row, of the active slot
        self._unreported: Crashed | None = None  # of the last start that failed
        self._check_at = 0.0
        self._restart_at = 0.0

    def serve(self, slot: SlotName, journal: Journal) -> None:
        """Route requests to a slot, whose server is started if it does not run.

        A failure is logged, a damaged slot is repaired from the store, and `check` tries again.
        """
        before = ResourceSnapshot.now(self._home.path)
        try:
            release = journal.active_release
            if release is None:
                raise ConfigurationError(f"The journal does not say what slot {slot} holds")
            if not self._servers.alive(slot):
                self._repair.check_before_start(slot, release)
            running = self._servers.alive(slot)
            self._cutover.activate(slot, release)
            self._errors.clear()
            if not running:
                self._repair.updater.system.serves(release)
        except (ForgeError, OSError) as caught:
            error = as_forge_error(self._home.path, caught)
            self._cutover.refuse(str(error))
            self._errors.error(f"slot {slot} does not serve: {error}")
            self._unreported = self._judge(Serve(slot), error, journal, before.lack())

    def restart(self, slot: SlotName, journal: Journal) -> None:
        """Start the server of the active slot again, on files that were repaired.

        Its requests get some seconds to end; new ones are refused until the model has loaded. It is
        not a crash: nothing is counted.
        """
        self._cutover.retire(slot, "its files were repaired and its server is started again")
        self.serve(slot, journal)

    def check(self, journal: Journal, *, may_restart: bool) -> None:
        """Stop what has drained, and see that the active slot serves; does nothing until it is due.

        Args:
            journal: names the active slot.
            may_restart: False while another slot's server is started or probed: there is room for
                two servers only.
        """
        now = time.monotonic()
        if now < self._check_at:
            return
        self._check_at = now + _CHECK_S
        try:
            self._cutover.finish_drain()
        except (ForgeError, OSError) as error:
            _log.warning("the server that drains could not be stopped: %s", error)
        if not may_restart:
            self._cutover.watch()
        elif journal.active and not self._servers.alive(journal.active) and now >= self._restart_at:
            self._restart(journal.active, journal)

    def _restart(self, slot: SlotName, journal: Journal) -> None:
        lived = self._cutover.uptime_s()
        self._failures = 1 if lived > STEADY_S else self._failures + 1
        self._restart_at = time.monotonic() + min(_MAX_PAUSE_S, 2.0 ** min(self._failures, 10))
        crash, self._unreported = self._unreported, None
        if reasons := self._cutover.handle_exit(slot):
            unfit = self._repair.updater.system.explain(journal.active_release)
            reasons = f"{reasons}{because(unfit)}"
            crash = Crashed(reasons, self._now(), lived, release_fault=not unfit)
        if crash:
            self._post(crash)  # the agent decides between this slot and the other one
        else:
            self.serve(slot, journal)

    def _judge(
        self, action: Serve, error: ForgeError, journal: Journal, lack: str
    ) -> Crashed | None:
        found = slot_to_check(action, error, journal)
        condition = self._repair.check_and_repair(*found) if found else "intact"
        unfit = self._repair.updater.system.explain(journal.active_release) if found else ""
        verdict = judge(action, error, journal, lack=lack, condition=condition, unfit=unfit)
        if lack:
            _log.warning("not the release's fault: %s", lack)
        if not verdict.crashed:
            return None
        reason = f"{error}{because(unfit)}"
        return Crashed(reason, self._now(), 0.0, release_fault=verdict.release_fault)
