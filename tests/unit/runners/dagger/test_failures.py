"""What a message of Dagger is a failure of: the step's image or command, or the engine."""

from __future__ import annotations

import pytest

from forge.errors import EngineError, NoRunnerError, from_exit_code
from forge.runners.dagger.failures import EngineFailure, engine_error, engine_failure, is_full
from tests.support.dagger_failures import REPORTED, Reported


@pytest.mark.parametrize("one", REPORTED, ids=lambda one: f"{one.source} {one.text}"[:60])
def test_message_is_of_the_engine_or_not(one: Reported) -> None:
    assert engine_failure(one.text) == one.failure


@pytest.mark.parametrize("failure", EngineFailure)
def test_each_failure_of_an_engine_has_a_message_that_was_reported(failure: EngineFailure) -> None:
    assert any(one.failure == failure and one.source for one in REPORTED)


@pytest.mark.parametrize("failure", EngineFailure)
def test_error_of_the_engine_exits_4_with_its_words_and_how_to_go_on(
    failure: EngineFailure,
) -> None:
    error = engine_error("engine@x", failure, "tcp://thor:8080", ["ERR first", "second\n", ""])
    assert error.exit_code == NoRunnerError.exit_code == 4
    assert error.what == "Step engine@x was not run to its end"
    assert error.why.startswith(f"the engine at tcp://thor:8080 {failure.value}\n")
    assert error.why.splitlines()[1:] == ["  | ERR first", "  | second"]
    assert "run the same command again" in error.hint
    assert "docs/reference/runners.md" not in str(error)


def test_many_words_are_the_last_20_lines_each_once() -> None:
    words = [f"line {number}" for number in range(50)]
    error = engine_error("", EngineFailure.LOST, None, [*words, *words])
    assert error.why.splitlines()[1:] == [f"  | line {number}" for number in range(30, 50)]
    assert error.what == "Dagger cannot be used"
    assert "Dagger's default address" in error.why


def test_a_step_never_has_the_class_of_the_engine_by_its_exit_code() -> None:
    assert issubclass(EngineError, NoRunnerError)
    assert from_exit_code(4) is NoRunnerError


@pytest.mark.parametrize(
    ("printed", "full"),
    [
        ("OSError: [Errno 28] No space left on device: '/forge/outputs/engine/x'\n", True),
        ("cp: error writing 'x': No space left on device\n\n\n", True),
        ("No space left on device\n" + "later\n" * 20, False),
        ("error: connection refused", False),
        ("", False),
    ],
)
def test_full_disk_is_told_by_the_last_lines_of_a_command(printed: str, full: object) -> None:
    assert is_full(printed) is full
