"""Kills at random points, and a release that takes the machine down: the device ends well."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from forge.device.state_machine.actions import Action, Activate
from forge.device.state_machine.events import Failed, MachineEvent, Started
from forge.device.state_machine.journal import Journal
from forge.device.state_machine.transitions import MAX_WAIT, next_state
from tests.support.random_kills import NEWEST, OLD, KilledDevice, Transition

KILLS = 30
SEEDS = range(12)


def killed(transition: Transition, seed: int, often: float) -> KilledDevice:
    """A device after thirty random kills, once the longest wait is over."""
    dice = random.Random(seed)  # noqa: S311 - reproducible, not secret
    device = KilledDevice(
        transition, lambda _action: device.kills < KILLS and dice.random() < often, dice
    )
    while device.checks <= KILLS + MAX_WAIT:
        device.step()
        if device.kills == KILLS and device.serves == NEWEST and device.rests:
            break
    return device


@pytest.mark.parametrize("often", [0.1, 0.3, 0.6])
def test_after_thirty_random_kills_the_newest_release_serves(often: float) -> None:
    for seed in SEEDS:
        device = killed(next_state, seed, often)
        assert device.kills == KILLS
        assert device.serves == NEWEST, f"seed {seed}: {device.journal}"
        assert (device.journal.bad, device.journal.interrupted) == ((), None)


def counts_restarts(journal: Journal, event: MachineEvent) -> tuple[Journal, Action]:
    """As it was: the third start of the agent in one activation was the release's fault."""
    trying = journal.state in {"activating", "probing"}
    if isinstance(event, Started) and trying and journal.attempts >= 3:
        event = Failed("the agent exited 3 times", event.at, release_fault=True)
    return next_state(journal, event)


def test_a_state_machine_that_counts_restarts_against_a_release_ends_with_the_old_one() -> None:
    ends = {killed(counts_restarts, seed, 0.6).serves for seed in SEEDS}
    assert OLD in ends


def test_a_release_that_takes_the_machine_down_is_tried_less_and_less_often() -> None:
    dice = random.Random(7)  # noqa: S311 - reproducible, not secret
    device = KilledDevice(next_state, lambda action: isinstance(action, Activate), dice)
    tried: list[int] = []  # at which check
    while device.checks < 5000:
        before = device.activations
        device.step()
        tried += [device.checks] * (device.activations - before)
    assert device.serves == OLD
    assert device.journal.bad == ()
    # Three times at once; then one check is skipped, three, seven …, and at most MAX_WAIT.
    waits = [later - sooner for sooner, later in pairwise(tried[2:])]
    assert tried[:3] == [1, 1, 1]
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024]
