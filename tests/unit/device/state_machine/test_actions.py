"""The actions: one closed set, whose members the state machine's journal may name twice."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, get_args

import pytest

from forge.device.shared.release import Release
from forge.device.state_machine import actions
from forge.device.state_machine.actions import Action, Activate, Fetch, Prepare, Serve, Switch
from tests.support.manifests import manifest

NEW = Release.of(manifest("1.1.0"))


def test_the_union_names_every_action_of_the_module() -> None:
    made = {
        one
        for _, one in inspect.getmembers(actions, inspect.isclass)
        if one.__module__ == actions.__name__
    }
    assert set(get_args(Action)) == made
    assert {one.__name__ for one in made} == set(actions.__all__) - {"Action"}


@pytest.mark.parametrize("kind", get_args(Action), ids=lambda one: one.__name__)
def test_an_action_is_a_value(kind: type[Action]) -> None:
    """It passes between threads, so that one that changed would be a race."""
    values: dict[str, Any] = {"slot": "a", "release": NEW}
    needed = {
        one.name: values[one.name]
        for one in dataclasses.fields(kind)
        if one.default is dataclasses.MISSING
    }
    first, second = kind(**needed), kind(**needed)
    assert first == second
    assert hash(first) == hash(second)
    for field in dataclasses.fields(kind):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(first, field.name, "b")


def test_actions_on_the_same_slot_are_not_the_same_action() -> None:
    assert len({Serve("a"), Switch("a"), Prepare("a"), Activate("a"), Fetch(NEW, "a")}) == 5
    assert Activate("a") != Activate("a", serving="b")
    assert Prepare("a") != Prepare("a", serving="b")
