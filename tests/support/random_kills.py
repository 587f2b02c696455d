"""An abstract device on which nothing goes wrong but kills, at points that dice choose."""

from __future__ import annotations

import random
from collections.abc import Callable

from forge.device.state_machine.actions import Action, Activate
from forge.device.state_machine.events import MachineEvent, UpdateFound
from forge.device.state_machine.journal import Journal
from tests.support.abstract_device import (
    NUMBERS,
    RELEASES,
    STARTED,
    UPDATED_DEVICE,
    Move,
    View,
    outcomes,
    remember,
)

__all__ = ["NEWEST", "OLD", "KilledDevice", "Transition"]

Transition = Callable[[Journal, MachineEvent], tuple[Journal, Action]]
OLD, NEWEST = 4, 2  # both work here


class KilledDevice:
    """A device that serves OLD, and whose channel offers NEWEST at each check.

    Args:
        transition: the state machine.
        kill: whether it is killed now, while this action is under way (None: none is).
        dice: choose the point within the action.
    """

    def __init__(
        self, transition: Transition, kill: Callable[[Action | None], bool], dice: random.Random
    ) -> None:
        self.journal, self.world = UPDATED_DEVICE
        self.action: Action | None = None
        self.kills = 0
        self.checks = 0
        self.activations = 0
        self._transition = transition
        self._kill = kill
        self._dice = dice

    @property
    def serves(self) -> int:
        """The number of the active release."""
        active = self.journal.active_release
        return NUMBERS[active.manifest] if active else 0

    @property
    def rests(self) -> bool:
        """Whether the active release gets the requests, and nothing is under way."""
        active = View.of(self.journal).active
        return self.journal.state == "idle" and self.action is None and self.world.live == active

    def step(self) -> None:
        """One thing happens: a kill, what the action leads to, or the next check."""
        moves = list(outcomes(self.action, View.of(self.journal), self.world))
        if self._kill(self.action):
            self.kills += 1
            self._take(self._dice.choice([move for move in moves if _is_kill(move)]))
        elif self.rests:
            self.checks += 1
            self._take(Move("a check", self.world, UpdateFound(RELEASES[NEWEST])))
        else:
            self._take(next(move for move in moves if move.calm))

    def _take(self, move: Move) -> None:
        self.world = move.world
        if move.event is None:
            self.action = move.then
            return
        view = View.of(self.journal)
        self.journal, self.action = self._transition(self.journal, move.event)
        self.activations += isinstance(self.action, Activate)
        self.world = remember(view, move.event, self.action, self.world)


def _is_kill(move: Move) -> bool:
    return move.event == STARTED and move.journal and not move.world.upgraded and not move.calm
