"""Names that nothing has: one class, one exit code, with what was probably meant."""

import pytest

from forge.errors import NotFoundError, UsageError, from_exit_code, not_found


def test_the_nearest_name_is_suggested_and_all_are_listed() -> None:
    error = not_found("No profile 'tesla-p4'", "tesla-p4", ["development", "tesla-p40"])
    assert (error.exit_code, error.what) == (2, "No profile 'tesla-p4'")
    assert error.hint == "did you mean 'tesla-p40'?\nknown: development, tesla-p40"


def test_without_a_near_name_those_that_exist_are_listed_in_their_order() -> None:
    error = not_found("No bundle 'x'", "x", ["smollm2", "qwen3", "smollm2"], why="it was removed")
    assert error.hint == "known: smollm2, qwen3"
    assert error.why == "it was removed"


def test_of_many_names_the_first_are_listed() -> None:
    hint = not_found("No step 'x'", "x", [f"step-{n}" for n in range(50)]).hint
    assert hint.endswith("step-19, …")


def test_another_version_is_not_what_was_meant_unless_a_digit_is_missing() -> None:
    assert not_found("x", "2.0.0", ["1.0.0"]).hint == "known: 1.0.0"
    assert not_found("x", "1.0.1", ["1.0.10"]).hint.startswith("did you mean '1.0.10'?")


@pytest.mark.parametrize("known", [[], ()])
def test_where_there_are_no_names_there_is_no_hint(known: list[str]) -> None:
    assert not_found("No channel 'x'", "x", known).hint == ""


def test_a_name_that_does_not_exist_is_an_error_of_the_command_line() -> None:
    assert issubclass(NotFoundError, UsageError)
    assert from_exit_code(NotFoundError.exit_code) is UsageError
