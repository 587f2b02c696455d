"""Logarithms in OpenAI's shapes; the official client's types read them."""

from __future__ import annotations

import json
import math

from openai.types.chat.chat_completion import ChoiceLogprobs
from openai.types.completion_choice import Logprobs

from forge.device.gateway.openai.answers.logprobs import CompletionLogprobs, chat_logprobs
from forge.serving.triton.stream import TokenLogprob

OTHER = TokenLogprob("b", -1.5, b"b")
TOKEN = TokenLogprob("a", -0.5, b"a", (TokenLogprob("a", -0.5, b"a"), OTHER))
SMILE = "🙂".encode()
HALVES = (TokenLogprob("\ufffd", -1.0, SMILE[:2]), TokenLogprob("\ufffd", -2.0, SMILE[2:]))


def test_a_chat_has_an_object_for_each_token() -> None:
    made = ChoiceLogprobs.model_validate(chat_logprobs([TOKEN, OTHER]), strict=True)
    assert made.content
    assert [one.token for one in made.content] == ["a", "b"]
    assert made.content[0].bytes == [97]
    assert [one.token for one in made.content[0].top_logprobs] == ["a", "b"]
    assert made.content[1].top_logprobs == []


def test_a_completion_has_a_list_for_each_property() -> None:
    made = Logprobs.model_validate(CompletionLogprobs().of([TOKEN, OTHER]), strict=True)
    assert made.tokens == ["a", "b"]
    assert made.token_logprobs == [-0.5, -1.5]
    assert made.top_logprobs == [{"a": -0.5, "b": -1.5}, {"b": -1.5}]
    assert made.text_offset == [0, 1]


def test_the_token_itself_is_among_the_alternatives_also_if_it_was_not_likely() -> None:
    rare = TokenLogprob("z", -9.0, b"z", (OTHER,))
    made = CompletionLogprobs().of([rare])
    assert made["top_logprobs"] == [{"b": -1.5, "z": -9.0}]


def test_offsets_are_places_in_the_text_also_where_a_character_has_several_tokens() -> None:
    text = "é🙂a"
    tokens = [TokenLogprob("é", -1.0, "é".encode()), *HALVES, TOKEN]
    whole = CompletionLogprobs().of(tokens)["text_offset"]
    assert whole == [0, 1, 1, 2]
    assert [text[one] for one in (0, 1, 2)] == ["é", "🙂", "a"]
    pieces = CompletionLogprobs()
    assert [pieces.of([one])["text_offset"] for one in tokens] == [[0], [1], [1], [2]]


def test_a_token_before_the_text_has_its_first_place() -> None:
    made = CompletionLogprobs(-len("<s>")).of_named([("<s>", None), ("a", TOKEN)])
    assert made["text_offset"] == [0, 0]
    assert made["token_logprobs"] == [None, -0.5]
    assert made["top_logprobs"] == [None, {"a": -0.5, "b": -1.5}]


def test_a_probability_of_zero_is_a_number_of_json() -> None:
    never = TokenLogprob("a", -math.inf, b"a")
    for made in (chat_logprobs([never]), CompletionLogprobs().of([never])):
        assert "-9999.0" in json.dumps(made, allow_nan=False)
