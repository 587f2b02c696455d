"""How many looks pass between tries of a release that fails for local reasons."""

from __future__ import annotations

from forge.device.journal import Release
from forge.device.patience import Patience


def release(version: str) -> Release:
    return Release(name="llm", version=version, profile="development", manifest=f"{version:0>64}")


ONE, TWO = release("1"), release("2")


def passed(patience: Patience, wanted: Release) -> int:
    """Looks that pass until it is tried."""
    looks = 0
    while patience.lets_pass(wanted):
        looks += 1
    return looks


def test_each_failure_lets_about_twice_as_many_looks_pass() -> None:
    patience, looks = Patience(), []
    for _ in range(9):
        said = patience.failed(ONE)
        looks.append(passed(patience, ONE))
        assert looks[-1] == said
    assert looks == [0, 1, 3, 7, 15, 31, 63, 63, 63]


def test_another_release_is_tried_at_once_and_begins_anew() -> None:
    patience = Patience()
    for _ in range(5):
        patience.failed(ONE)
    assert passed(patience, TWO) == 0
    assert patience.failed(TWO) == 0
