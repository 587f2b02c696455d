"""Doing what the state machine decided; each action may be done twice."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Final, TypeVar

from forge.device import errand
from forge.device.handover import Handover
from forge.device.journal import Journal, SlotName
from forge.device.moves import (
    Action,
    Activate,
    Event,
    Fetch,
    Fetched,
    GoBack,
    Prepare,
    Prepared,
    Probe,
    Probed,
    Ready,
    Serve,
    Stopped,
    Switch,
    Switched,
    WentBack,
)
from forge.device.repair import Repair
from forge.device.servers import SlotServers
from forge.device.slots import Home
from forge.device.updater import Offer, Updater
from forge.errors import ConfigurationError, ForgeError, StepFailedError
from forge.store.stopping import StoppedError

__all__ = ["Performer"]

_TURN_S: Final = 0.2

_T = TypeVar("_T")


class Performer:
    """The hands of one device.

    Args:
        home: the state folder.
        updater: the store as this device sees it.
        servers: of the slots.
        handover: of the requests.
        repair: of the slots' bytes.
        say: gets one line per event.
        serves: False: a bundle is started to be probed, and not beyond that.
    """

    def __init__(
        self,
        home: Home,
        updater: Updater,
        servers: SlotServers,
        handover: Handover,
        repair: Repair,
        say: Callable[[str], None],
        *,
        serves: bool,
    ) -> None:
        self.offer: Offer | None = None  # what Fetch is about
        self._home = home
        self._updater = updater
        self._servers = servers
        self._handover = handover
        self._repair = repair
        self._say = say
        self._serves = serves

    def do(
        self,
        action: Action,
        journal: Journal,
        tend: Callable[[], float],
        unwanted: Callable[[], bool],
    ) -> Event | None:
        """Do it; returns what has come of it.

        Args:
            action: what.
            journal: as it was just written.
            tend: sees that the active slot serves; called now and then while something takes long.
            unwanted: whether something waits that goes before fetching.

        Raises:
            ForgeError, OSError: it did not work.
        """
        match action:
            case Fetch(_, slot):
                return self._fetch(slot, journal, tend, unwanted)
            case Prepare(slot):
                return self._prepare(slot, tend)
            case Activate(slot, beside):
                return self._activate(slot, beside, journal, tend)
            case Probe(slot):
                # The server beside it is not started anew meanwhile: there is room for two only.
                self._twice(
                    lambda: self.beside(lambda: self._servers.probe(slot), self._handover.watch)
                )
                return Probed()
            case Switch(slot):
                return self._switch(slot, journal)
            case _:
                return self._rest(action, journal)

    def beside(
        self,
        work: Callable[[], _T],
        meanwhile: Callable[[], float],
        unwanted: Callable[[], bool] = lambda: False,
    ) -> _T:
        """`errand.run`; where nothing serves there is nothing to look after."""
        return errand.run(work, meanwhile, unwanted) if self._serves else work()

    def blue_green(self, *slots: SlotName) -> bool:
        """Whether the bundles in all these slots are activated beside another. Raises OSError."""
        manifests = [self._home.manifest(slot) for slot in slots]
        return all(one is not None and one.serving.activation == "blue-green" for one in manifests)

    def _rest(self, action: Action, journal: Journal) -> Event | None:
        match action:
            case GoBack(slot):
                self._handover.take_back(slot)
                return WentBack()
            case Serve(slot):
                self._serve(slot, journal)
            case _:
                self._no_bundle(journal)
        return None

    def _fetch(
        self,
        slot: SlotName,
        journal: Journal,
        tend: Callable[[], float],
        unwanted: Callable[[], bool],
    ) -> Event:
        offer = self.offer
        if offer is None:
            raise ForgeError("The agent has no offer to fetch", why="this is a mistake in Forge")
        self._let_leave(tend)
        fetch = functools.partial(self._updater.fetch, offer, slot, journal.active)
        try:
            moved = self.beside(fetch, tend, unwanted)
        except StoppedError:
            self._say(f"{offer.release} is left for now: something else was asked for")
            return Stopped(restored=self._home.restore(slot))
        self._say(
            f"slot {slot} holds {offer.release}: {moved.fetched_bytes} bytes fetched,"
            f" {moved.reused_bytes} reused"
        )
        return Fetched(moved.fetched_bytes, moved.reused_bytes)

    def _prepare(self, slot: SlotName, tend: Callable[[], float]) -> Event:
        # While packages are installed and an engine compiles, the active slot is looked after.
        self._servers.prepare(slot, meanwhile=tend)
        return Prepared(blue_green=self.blue_green(slot))

    def _activate(
        self, slot: SlotName, beside: SlotName | None, journal: Journal, tend: Callable[[], float]
    ) -> Event:
        candidate = journal.candidate
        if candidate is None:
            raise ConfigurationError(f"The journal does not say what slot {slot} holds")
        self._let_leave(tend)
        seconds = self._twice(lambda: self._handover.start(slot, beside, candidate))
        meanwhile = f" while slot {beside} served" if beside and self._serves else ""
        self._say(f"slot {slot} is ready after {seconds:.1f} s{meanwhile}")
        return Ready()

    def _twice(self, work: Callable[[], _T]) -> _T:
        """Once more if a model did not load or answer in time: the machine may have been busy."""
        try:
            return work()
        except StepFailedError as error:
            self._say(f"tried once more: {error}")
            return work()

    def _let_leave(self, tend: Callable[[], float]) -> None:
        """A slot whose server still answers may be neither overwritten nor started anew."""
        while self._handover.leaving:
            tend()
            time.sleep(_TURN_S)

    def _switch(self, slot: SlotName, journal: Journal) -> Event:
        self._point(slot)
        self._say(f"committed: slot {slot} holds {journal.active_release}")
        try:
            self._servers.prune(journal.slots)
        except (ForgeError, OSError) as error:  # room that is lost, no harm
            self._say(f"unused environments are left: {error}")
        return Switched()

    def _point(self, slot: SlotName) -> None:
        try:
            if self._home.current() != slot:
                self._home.switch(slot)
        except ForgeError as error:  # the journal knows better; put right at the next start
            self._say(str(error))

    def _serve(self, slot: SlotName, journal: Journal) -> None:
        release = journal.active_release
        if release is None:
            raise ConfigurationError(f"The journal does not say what slot {slot} holds")
        self._point(slot)
        if not self._serves:
            return
        if not self._servers.alive(slot):
            self._repair.require_sizes(slot, release)
        self._handover.give(slot, release)

    def _no_bundle(self, journal: Journal) -> None:
        if journal.active is None:
            last = journal.rollbacks[-1:]
            why = f": {last[0].release} was not kept: {last[0].reason}" if last else ""
            self._handover.refuse(f"no bundle is installed{why}")
