import pytest

from forge.errors import SmokeGateError
from forge.serving.probe import GoldenResult, check

RIGHT = GoldenResult("What is the capital of France?", ("Paris",), "It is Paris.", ok=True)
WRONG = GoldenResult("What is two plus two?", ("4", "four"), "It is\nfive." + "x" * 80, ok=False)


def test_check_passes_when_all_answers_are_right() -> None:
    check((RIGHT,))


def test_check_shows_prompt_expected_and_got_of_wrong_answers_only() -> None:
    with pytest.raises(SmokeGateError, match="1 of 2 golden prompts") as caught:
        check((RIGHT, WRONG))
    assert caught.value.exit_code == 6
    table = caught.value.why
    assert "What is two plus two?" in table
    assert "4 or four" in table
    assert "It is five." in table
    assert "France" not in table
