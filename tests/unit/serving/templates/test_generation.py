"""Tokens one at a time over a runtime that stands where the GPU does."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tests.support.templates import load

generation = load("tensorrt-rtx", "generation")
VOCABULARY = 10
STOP = 9


@dataclass
class Counting:
    """A model whose likeliest next token is the last one plus one; it keeps every call."""

    slots: int
    prompt_piece: int
    seen: dict[int, list[int]] = field(default_factory=dict)
    calls: list[tuple[int, list[int], int]] = field(default_factory=list)

    def run(self, slot: int, tokens: list[int], past: int) -> Any:
        self.calls.append((slot, list(tokens), past))
        known = self.seen.get(slot, [])[:past]
        assert len(known) == past, "the engine is asked for a cache it does not have"
        self.seen[slot] = known + list(tokens)
        logits = np.zeros(VOCABULARY, np.float16)
        logits[(tokens[-1] + 1) % VOCABULARY] = 5
        return logits


class Words:
    stop = frozenset({STOP})

    def encode(self, text: str) -> list[int]:
        return [int(letter) for letter in text]

    def decode(self, tokens: list[int]) -> str:
        return "".join(map(str, tokens))


def make(slots: int = 2, prompt_piece: int = 3) -> tuple[Any, Counting]:
    runtime = Counting(slots, prompt_piece)
    return generation.Generator(runtime, Words(), seed=1), runtime


def run(generator: Any, *handles: Any) -> list[list[int]]:
    made: list[list[int]] = [[] for _ in handles]
    while generator.busy():
        generator.step()
        for tokens, handle in zip(made, handles, strict=True):
            tokens.extend(handle.new_tokens())
    return made


def test_answer_ends_with_the_stop_token() -> None:
    generator, _ = make()
    handle = generator.add([5, 6], 20, 0.0)
    assert run(generator, handle) == [[7, 8, STOP]]
    assert handle.finish_reason == "stop"


def test_answer_ends_at_max_tokens() -> None:
    generator, _ = make()
    handle = generator.add([1], 3, 0.0)
    assert run(generator, handle) == [[2, 3, 4]]
    assert handle.finish_reason == "length"


def test_stop_token_that_is_also_the_last_allowed_one_counts_as_stop() -> None:
    generator, _ = make()
    handle = generator.add([7], 2, 0.0)
    run(generator, handle)
    assert handle.finish_reason == "stop"


def test_long_prompt_is_read_in_pieces_and_then_one_token_at_a_time() -> None:
    generator, runtime = make(prompt_piece=3)
    handle = generator.add([1, 2, 3, 4, 5, 6, 7], 2, 0.0)
    run(generator, handle)
    assert runtime.calls == [
        (0, [1, 2, 3], 0),
        (0, [4, 5, 6], 3),
        (0, [7], 6),
        (0, [8], 7),
    ]


def test_sequences_take_turns_and_never_share_a_cache() -> None:
    generator, runtime = make(slots=2)
    first, second = generator.add([1], 3, 0.0), generator.add([5], 3, 0.0)
    assert run(generator, first, second) == [[2, 3, 4], [6, 7, 8]]
    assert [slot for slot, _, _ in runtime.calls] == [0, 1] * 3


def test_slot_of_a_cancelled_sequence_is_taken_by_the_next_from_the_start() -> None:
    generator, runtime = make(slots=1)
    first = generator.add([1], 9, 0.0)
    generator.step()
    first.cancel()
    second = generator.add([4], 1, 0.0)
    assert run(generator, second) == [[5]]
    assert runtime.calls[-1] == (0, [4], 0)
    assert first.finish_reason == "cancelled"


def test_more_sequences_than_caches_are_refused() -> None:
    generator, _ = make(slots=1)
    generator.add([1], 3, 0.0)
    with pytest.raises(RuntimeError, match="all 1 KV caches are in use"):
        generator.add([2], 3, 0.0)


def test_empty_prompt_is_refused() -> None:
    generator, _ = make()
    with pytest.raises(RuntimeError, match="no tokens"):
        generator.add([], 3, 0.0)


def test_temperature_draws_each_token_about_as_often_as_it_is_likely() -> None:
    random = np.random.default_rng(1)
    logits = np.log(np.array([0.7, 0.2, 0.1]))
    drawn = [generation.sample(logits, 1.0, random) for _ in range(4000)]
    assert np.bincount(drawn) / 4000 == pytest.approx([0.7, 0.2, 0.1], abs=0.03)


def test_low_temperature_is_nearly_greedy_and_does_not_overflow() -> None:
    random = np.random.default_rng(1)
    logits = np.array([60000, 59000, -60000], np.float16)
    assert {generation.sample(logits, 0.01, random) for _ in range(50)} == {0}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(RuntimeError, match="no numbers"):
        generation.sample(np.array([1.0, bad]), 0.0, np.random.default_rng(1))
