from dataclasses import replace

import pytest

from forge.errors import SmokeGateError
from forge.profiles import Probe
from forge.serving.probe import GoldenResult, check, check_pace

RIGHT = GoldenResult(
    "What is the capital of France?",
    ("Paris",),
    "It is Paris.",
    ok=True,
    ttft_ms=300,
    tokens_per_s=20,
)
WRONG = GoldenResult(
    "What is two plus two?",
    ("4", "four"),
    "It is\nfive." + "x" * 80,
    ok=False,
    ttft_ms=1,
    tokens_per_s=90,
)


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


def paced(ttft_ms: float, tokens_per_s: float | None) -> GoldenResult:
    return replace(RIGHT, ttft_ms=ttft_ms, tokens_per_s=tokens_per_s)


FLOOR = Probe(ttft_ms_max=1000, output_tokens_per_s_min=5)


@pytest.mark.parametrize(
    "results",
    [
        (paced(1000, 5),),
        (paced(90_000, 20), paced(200, 0.1)),  # the machine was busy: each had one good moment
        (paced(10, None),),  # an answer of one token has no rate
    ],
)
def test_pace_is_kept_by_the_best_answer(results: tuple[GoldenResult, ...]) -> None:
    check_pace(results, FLOOR)


def test_pace_that_is_not_checked_may_be_anything() -> None:
    check_pace((paced(1e9, 1e-9),), Probe(ttft_ms_max=None, output_tokens_per_s_min=None))


def test_pace_that_is_too_slow_is_named_with_what_is_allowed() -> None:
    with pytest.raises(SmokeGateError, match="too slowly") as caught:
        check_pace((paced(2500, 0.68), paced(2000, 0.5)), FLOOR)
    assert caught.value.why == (
        "best of 2: 2000 ms to the first token, allowed 1000 ms; "
        "0.68 tokens/s, at least 5 tokens/s wanted"
    )
