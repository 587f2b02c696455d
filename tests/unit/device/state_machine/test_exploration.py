"""Every order of offers, failures, kills, damage, operator requests and OS upgrades."""

from __future__ import annotations

import random
from typing import get_args

import pytest

from forge.device.state_machine.actions import Action
from forge.device.state_machine.events import Failed, Fetched, MachineEvent
from forge.device.state_machine.journal import Journal
from forge.device.state_machine.transitions import next_state
from forge.errors import ForgeError
from tests.support.abstract_device import NEW_DEVICE, UPDATED_DEVICE, View, World, outcomes
from tests.support.device_invariants import INVARIANTS
from tests.support.explorer import Explored, Explorer, Transition, ViolatedError, canonical

Start = tuple[Journal, World]


def explored(transition: Transition, states: int, start: Start = NEW_DEVICE) -> Explored:
    """What was seen, twelve moves deep or deeper, and that all of it holds."""
    explorer = Explorer(transition, INVARIANTS)
    seen = explorer.explore(states, 12, start)
    asked = explorer.require_a_good_end()
    print(f"{seen}; {asked:,} of them lead to a good end")  # noqa: T201 - shown with -s
    return seen


@pytest.mark.parametrize("start", [NEW_DEVICE, UPDATED_DEVICE], ids=["new", "updated"])
def test_whatever_happens_the_invariants_hold(start: Start) -> None:
    seen = explored(next_state, 20_000, start)
    assert seen.states >= 20_000
    assert seen.depth >= 12


@pytest.mark.slow
def test_in_a_million_states_the_invariants_hold() -> None:
    seen = explored(next_state, 1_000_000)
    assert seen.states >= 1_000_000
    assert seen.depth >= 12


def forgets_verdicts(journal: Journal, event: MachineEvent) -> tuple[Journal, Action]:
    after, action = next_state(journal, event)
    return (after.model_copy(update={"bad": ()}) if isinstance(event, Failed) else after), action


def stays_idle(journal: Journal, event: MachineEvent) -> tuple[Journal, Action]:
    _, action = next_state(journal, event)
    return journal, action


def cannot_be_fetched(journal: Journal, event: MachineEvent) -> tuple[Journal, Action]:
    if isinstance(event, Fetched):
        raise ForgeError("The device's agent got Fetched")
    return next_state(journal, event)


def gives_up_every_update(journal: Journal, event: MachineEvent) -> tuple[Journal, Action]:
    if isinstance(event, Fetched):
        event = Failed("given up", "2026-11-24T00:00:00Z", release_fault=False)
    return next_state(journal, event)


@pytest.mark.parametrize(
    ("wrong", "sentence", "last"),
    [
        (forgets_verdicts, "exactly those releases are bad that got a verdict", "does not hold"),
        (stays_idle, "what happens is expected", "then: Fetched("),
        (cannot_be_fetched, "what happens is expected", "then: Fetched("),
        (gives_up_every_update, "a good release is installed in the end", "nothing to do: idle"),
    ],
)
def test_a_wrong_state_machine_is_told_by_the_shortest_way_to_it(
    wrong: Transition, sentence: str, last: str
) -> None:
    with pytest.raises(ViolatedError) as caught:
        explored(wrong, 20_000)
    told = str(caught.value).splitlines()
    assert told[0].startswith(f"not true: {sentence}")
    assert told[1].startswith("  0. at first: idle |")
    assert last in told[-1]


def test_what_a_state_leaves_out_changes_no_transition() -> None:
    """Reasons, times, rollbacks and crashes beyond the third: `canonical` drops them."""
    dice = random.Random(20261128)  # noqa: S311 - reproducible, not secret
    for _ in range(300):
        (real, world), kept = NEW_DEVICE, Journal()
        action: Action | None = None
        for _ in range(60):
            move = dice.choice(list(outcomes(action, View.of(kept), world)))
            world, action = move.world, move.then
            if move.event is not None:
                real, _ = next_state(real, move.event)
                kept, action = next_state(kept, move.event)
                kept = canonical(kept)
            assert canonical(real) == kept


def test_the_explored_device_knows_every_kind_of_event_and_action() -> None:
    explorer = Explorer(next_state, INVARIANTS)
    explorer.explore(5_000, 12, UPDATED_DEVICE)
    assert explorer.kinds() >= {
        kind.__name__ for kind in (*get_args(MachineEvent), *get_args(Action))
    }
