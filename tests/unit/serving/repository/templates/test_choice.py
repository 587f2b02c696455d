"""Which token comes next, beside the definitions written out anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.templates import load

choice = load("shared", "choice")
Sampling = choice.Sampling
LOGITS = np.log(np.array([0.4, 0.3, 0.15, 0.1, 0.05]))
DRAWS = 3000


def chooser(
    prompt: frozenset[int] = frozenset(), stop: frozenset[int] = frozenset(), **given: Any
) -> Any:
    return choice.Chooser(Sampling(**given), prompt, stop, np.random.default_rng(1))


def shares(**given: Any) -> Any:
    """How often each token is drawn."""
    drawn = [chooser_.choose(LOGITS).token for chooser_ in [chooser(**given)] for _ in range(DRAWS)]
    return np.bincount(drawn, minlength=len(LOGITS)) / DRAWS


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [0.4, 0.3, 0.15, 0.1, 0.05]),
        ({"top_k": 2}, [4 / 7, 3 / 7, 0, 0, 0]),
        ({"top_p": 0.7}, [4 / 7, 3 / 7, 0, 0, 0]),
        ({"top_p": 0.71}, [0.4 / 0.85, 0.3 / 0.85, 0.15 / 0.85, 0, 0]),
        ({"top_p": 0.001}, [1, 0, 0, 0, 0]),
        ({"min_p": 0.3}, [0.4 / 0.85, 0.3 / 0.85, 0.15 / 0.85, 0, 0]),
        ({"top_k": 3, "top_p": 0.8}, [4 / 7, 3 / 7, 0, 0, 0]),
        ({"temperature": 0.5}, [32 / 57, 18 / 57, 4.5 / 57, 2 / 57, 0.5 / 57]),
    ],
    ids=str,
)  # fmt: skip
def test_tokens_are_drawn_as_often_as_the_parameters_say(
    given: dict[str, Any], expected: list[float]
) -> None:
    assert shares(**{"temperature": 1.0, **given}) == pytest.approx(expected, abs=0.03)


def test_low_temperature_is_nearly_greedy_and_does_not_overflow() -> None:
    logits = np.array([60000, 59000, -60000], np.float16)
    one = chooser(temperature=0.01)
    assert {one.choose(logits).token for _ in range(50)} == {0}


def test_a_seed_repeats_its_draws_and_another_one_does_not() -> None:
    def drawn(seed: int) -> list[int]:
        one = chooser(temperature=1.0, seed=seed)
        return [one.choose(LOGITS).token for _ in range(30)]

    assert drawn(-7) == drawn(-7)
    assert drawn(-7) != drawn(8)


def test_repetition_penalty_counts_the_prompt_and_the_others_the_answer_only() -> None:
    logits = np.array([2.0, 1.9, -1.0])
    assert chooser(frozenset({0}), repetition_penalty=1.2).choose(logits).token == 1
    assert chooser(frozenset({0}), presence_penalty=2.0).choose(logits).token == 0
    once = chooser(presence_penalty=0.05)
    assert [once.choose(logits).token for _ in range(4)] == [0, 0, 0, 0]
    each = chooser(frequency_penalty=0.06)
    assert [each.choose(logits).token for _ in range(4)] == [0, 0, 1, 0]


def test_negative_logits_are_multiplied_by_the_repetition_penalty() -> None:
    logits = np.array([-1.0, -1.1])
    assert chooser(frozenset({0}), repetition_penalty=1.2).choose(logits).token == 1


def test_no_stop_token_comes_before_min_tokens() -> None:
    one = chooser(stop=frozenset({0}), min_tokens=2)
    tokens = [one.choose(LOGITS).token for _ in range(3)]
    assert tokens == [1, 1, 0]
    assert one.ends(0)
    assert not chooser(stop=frozenset({0}), ignore_eos=True).ends(0)


def test_only_allowed_tokens_come() -> None:
    allowed = np.array([False, False, True, False, True])
    assert chooser().choose(LOGITS, allowed).token == 2
    with pytest.raises(RuntimeError, match="no token is allowed"):
        chooser().choose(LOGITS, np.zeros(5, bool))


def test_a_form_that_ends_goes_before_min_tokens() -> None:
    one = chooser(stop=frozenset({4}), min_tokens=9)
    assert one.choose(LOGITS, np.array([False] * 4 + [True])).token == 4


def test_logarithms_are_of_the_engines_own_distribution() -> None:
    one = chooser(frozenset({0}), temperature=0.7, top_k=1, repetition_penalty=9.0, top_logprobs=2)
    found = one.choose(LOGITS)
    assert found.logprob == pytest.approx(float(LOGITS[found.token]))
    assert found.top == ((0, pytest.approx(np.log(0.4))), (1, pytest.approx(np.log(0.3))))
    assert chooser(top_logprobs=0).choose(LOGITS).top == ()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(RuntimeError, match="not finite"):
        chooser().choose(np.array([1.0, bad]))
    with pytest.raises(RuntimeError, match="not finite"):
        choice.scores(np.array([[1.0, bad]]), [0], 1)
