"""Every transition function that is wrong in one place breaks a table test or an invariant."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

from forge.device.state_machine import transitions
from tests.support.abstract_device import NEW_DEVICE, UPDATED_DEVICE
from tests.support.device_invariants import INVARIANTS
from tests.support.explorer import Explorer
from tests.support.mutants import failing_test, loaded, mutants

TABLE: Final = Path(__file__).with_name("test_transitions.py")

# What is changed and why no program can tell.
EQUIVALENT: Final = {
    (
        "if journal.active is None or journal.active_release is None:"
        "  # without journal.active is None"
    ): "without an active slot there is no active release; the type checker wants both",
    (
        "if left is None or journal.is_bad(left):  # without left is None"
    ): "what can be gone back to was left by what is active; the type checker wants both",
    (
        'if journal.state == "committed" and journal.active:  # without journal.active'
    ): "a committed journal has an active slot, its validator says; the type checker wants both",
    (
        "if journal.active_release is not None and journal.is_held(journal.active_release):"
        "  # without journal.active_release is not None"
    ): "where something is held, something is active; the type checker wants both",
}


def noticed(module: ModuleType) -> str:
    """What notices that this transition function is wrong; "" if nothing does."""
    if failing := failing_test(TABLE, module):
        return failing
    for start in (NEW_DEVICE, UPDATED_DEVICE):
        explorer = Explorer(module.next_state, INVARIANTS)
        try:
            explorer.explore(5_000, 6, start)
            explorer.require_a_good_end()
        except Exception as error:  # noqa: BLE001 - whatever a wrong program raises
            return str(error) or repr(error)
    return ""


def test_the_transition_function_itself_is_not_called_wrong() -> None:
    assert noticed(loaded(Path(transitions.__file__).read_text(), transitions.__name__)) == ""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Pydantic serializer")  # a wrong program fills wrong journals
def test_every_wrong_transition_function_is_noticed() -> None:
    wrong = list(mutants(Path(transitions.__file__).read_text()))
    assert len(wrong) > 400
    found = {one.name for one in wrong if not noticed(loaded(one.source, transitions.__name__))}
    print(f"{len(wrong)} wrong transition functions, {len(wrong) - len(found)} noticed")  # noqa: T201
    assert found == set(EQUIVALENT)
