"""Tokens one at a time over a runtime that stands where the GPU does."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tests.support.templates import load

generation = load("shared", "generation")
Sampling = generation.Sampling
GREEDY = Sampling()
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
        return self.run_all(slot, tokens, past)[-1]

    def run_all(self, slot: int, tokens: list[int], past: int) -> Any:
        self.calls.append((slot, list(tokens), past))
        known = self.seen.get(slot, [])[:past]
        assert len(known) == past, "the engine is asked for a cache it does not have"
        self.seen[slot] = known + list(tokens)
        logits = np.zeros((len(tokens), VOCABULARY), np.float16)
        for row, token in zip(logits, tokens, strict=True):
            row[(token + 1) % VOCABULARY] = 5
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
            tokens.extend(one.token for one in handle.new_tokens())
    return made


def test_answer_ends_with_the_stop_token() -> None:
    generator, _ = make()
    handle = generator.add([5, 6], 20, GREEDY)
    assert run(generator, handle) == [[7, 8, STOP]]
    assert handle.finish_reason == "stop"


def test_answer_ends_at_max_tokens() -> None:
    generator, _ = make()
    handle = generator.add([1], 3, GREEDY)
    assert run(generator, handle) == [[2, 3, 4]]
    assert handle.finish_reason == "length"


def test_stop_token_that_is_also_the_last_allowed_one_counts_as_stop() -> None:
    generator, _ = make()
    handle = generator.add([7], 2, GREEDY)
    run(generator, handle)
    assert handle.finish_reason == "stop"


def test_long_prompt_is_read_in_pieces_and_then_one_token_at_a_time() -> None:
    generator, runtime = make(prompt_piece=3)
    handle = generator.add([1, 2, 3, 4, 5, 6, 7], 2, GREEDY)
    run(generator, handle)
    assert runtime.calls == [
        (0, [1, 2, 3], 0),
        (0, [4, 5, 6], 3),
        (0, [7], 6),
        (0, [8], 7),
    ]


def test_sequences_take_turns_and_never_share_a_cache() -> None:
    generator, runtime = make(slots=2)
    first, second = generator.add([1], 3, GREEDY), generator.add([5], 3, GREEDY)
    assert run(generator, first, second) == [[2, 3, 4], [6, 7, 8]]
    assert [slot for slot, _, _ in runtime.calls] == [0, 1] * 3


def test_slot_of_a_cancelled_sequence_is_taken_by_the_next_from_the_start() -> None:
    generator, runtime = make(slots=1)
    first = generator.add([1], 9, GREEDY)
    generator.step()
    first.cancel()
    second = generator.add([4], 1, GREEDY)
    assert run(generator, second) == [[5]]
    assert runtime.calls[-1] == (0, [4], 0)
    assert first.finish_reason == "cancelled"


def test_more_sequences_than_caches_are_refused() -> None:
    generator, _ = make(slots=1)
    generator.add([1], 3, GREEDY)
    with pytest.raises(RuntimeError, match="all 1 KV caches are in use"):
        generator.add([2], 3, GREEDY)


def test_empty_prompt_is_refused() -> None:
    generator, _ = make()
    with pytest.raises(generation.RequestError, match="no tokens"):
        generator.add([], 3, GREEDY)


def test_tokens_are_scored_piece_by_piece() -> None:
    generator, runtime = make(prompt_piece=2)
    handle = generator.add_scored([1, 2, 5], top=True)
    run(generator, handle)
    likely = 5 - np.log(np.exp(5) + VOCABULARY - 1)
    assert [one.token for one in handle.scored] == [2, 5]
    assert [one.logprob for one in handle.scored] == pytest.approx([likely, likely - 5])
    assert [one.top[0][0] for one in handle.scored] == [2, 3]
    assert runtime.calls == [(0, [1, 2], 0), (0, [5], 2)]


def test_requests_are_chosen_for_by_their_own_parameters() -> None:
    generator, _ = make()
    free = generator.add([5, 6], 5, Sampling(ignore_eos=True))
    early = generator.add([5, 6], 9, Sampling(min_tokens=4))
    answers = run(generator, free, early)
    assert answers[0] == [7, 8, STOP, 0, 1]
    assert STOP not in answers[1][:4]
