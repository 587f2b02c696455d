"""Which command runs a test follows from its marks."""

import pytest

from tests.support.groups import COMMANDS, group, scope


@pytest.mark.parametrize(
    ("marks", "first", "expected"),
    [
        ("", True, "quick"),
        ("parametrize timeout", False, "quick"),
        ("network", True, "test"),
        ("slow", True, "rest"),
        ("slow network", True, "rest"),
        ("slow network sample", True, "test"),
        ("slow network sample", False, "rest"),
        ("kills slow network", True, "heavy"),
        ("kills slow network exhaustive", True, "rest"),
        ("builders slow sample", False, "heavy"),
        ("images", True, "heavy"),
        ("dagger", True, "heavy"),
        ("exhaustive", True, "rest"),
    ],
)
def test_group_follows_from_the_marks(marks: str, first: bool, expected: str) -> None:  # noqa: FBT001
    assert group(marks.split(), first=first) == expected


def test_all_is_every_group_and_no_test_is_in_two_of_test_and_heavy() -> None:
    assert COMMANDS["all"] == {"quick", "test", "heavy", "rest"}
    assert COMMANDS["quick"] < COMMANDS["test"]
    assert not COMMANDS["test"] & COMMANDS["heavy"]


@pytest.mark.parametrize(
    ("nodeid", "expected"),
    [
        ("tests/unit/test_x.py::test_a[1]", "tests/unit/test_x.py::test_a[1]"),
        ("tests/e2e/test_x.py::test_a[a::b]", "tests/e2e/test_x.py"),
        ("tests/e2e/chain/test_release.py::test_a", "tests/e2e/chain/"),
        ("tests/e2e/chain/test_serve.py::test_b", "tests/e2e/chain/"),
        ("tests/faults/test_network.py::test_a", "measuring"),
    ],
)
def test_tests_that_share_a_world_share_a_worker(nodeid: str, expected: str) -> None:
    assert scope(nodeid) == expected
