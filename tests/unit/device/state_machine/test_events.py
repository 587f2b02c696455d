"""The events: one closed set, each of which the state machine expects in some state."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, get_args

import pytest

from forge.device.shared.release import Release
from forge.device.state_machine import events
from forge.device.state_machine.events import MachineEvent, Prepared
from forge.device.state_machine.journal import FailedRelease, Journal, UpdateState
from forge.device.state_machine.transitions import next_state
from forge.errors import ForgeError
from tests.support.manifests import manifest

OLD, NEW = Release.of(manifest("1.0.0")), Release.of(manifest("1.1.0"))
AT = "2026-11-28T00:00:00Z"
VALUES: dict[str, Any] = {
    "at": AT, "release": NEW, "restored": True, "reason": "slow", "release_fault": True,
    "lived_s": 1.0,
}  # fmt: skip


def example(kind: type[MachineEvent]) -> MachineEvent:
    return kind(
        **{
            one.name: VALUES[one.name]
            for one in dataclasses.fields(kind)
            if one.default is dataclasses.MISSING
        }
    )


def journal(state: UpdateState) -> Journal:
    """A device that has everything that any state needs."""
    held = FailedRelease(release=NEW, reason="by hand", at=AT)
    slots: Any = {"a": OLD, "b": NEW}
    return Journal(
        state=state, active="a", target="b", candidate=NEW, slots=slots, previous=NEW, held=held
    )


def expected(state: UpdateState, event: MachineEvent) -> bool:
    try:
        next_state(journal(state), event)
    except ForgeError:
        return False
    return True


def test_the_union_names_every_event_of_the_module() -> None:
    made = {
        one
        for _, one in inspect.getmembers(events, inspect.isclass)
        if one.__module__ == events.__name__
    }
    assert set(get_args(MachineEvent)) == made
    assert {one.__name__ for one in made} == set(events.__all__) - {"MachineEvent"}


@pytest.mark.parametrize("kind", get_args(MachineEvent), ids=lambda one: one.__name__)
def test_each_event_is_a_value_that_some_state_expects(kind: type[MachineEvent]) -> None:
    event = example(kind)
    assert (event, hash(event)) == (example(kind), hash(example(kind)))
    for field in dataclasses.fields(kind):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(event, field.name, None)
    states = {state for state in get_args(UpdateState) if expected(state, event)}
    everywhere = {"Started", "Failed"}  # a power cut or an error may come at any moment
    assert states
    assert (states == set(get_args(UpdateState))) == (kind.__name__ in everywhere)


def test_an_update_is_a_swap_unless_it_says_that_it_is_not() -> None:
    assert Prepared() == Prepared(blue_green=False) != Prepared(blue_green=True)
