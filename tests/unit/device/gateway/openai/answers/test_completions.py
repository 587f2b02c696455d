"""The prompt in front of a completion, with logarithms as lm-eval's loglikelihood reads them."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from forge.errors import UsageError
from forge.serving.triton.request import GenerateRequest
from tests.support.gateway_app import BOS, ByteModel, Script, served


def loglikelihood(choice: Any, context: int) -> Any:
    """As lm-eval's local-completions reads a choice: all tokens after the context but the last."""
    made = choice.logprobs
    tokens, top = made.tokens[context:-1], made.top_logprobs[context:-1]
    greedy = all(
        token == max(alternatives.items(), key=lambda one: one[1])[0]
        for token, alternatives in zip(tokens, top, strict=True)
    )
    return sum(made.token_logprobs[context:-1]), greedy


def test_a_loglikelihood_task_of_lm_eval_gets_its_numbers() -> None:
    prompts = [[BOS, *b"ab~~"], [BOS, *b"cdef"]]
    script = ByteModel(pieces=("x",))
    with served(script) as (client, _):
        made = client.completions.create(
            model="llm", prompt=prompts, echo=True, logprobs=1, max_tokens=1, temperature=0, seed=1
        )
    first, second = made.choices
    assert loglikelihood(first, 3) == (pytest.approx(-2 * 126 / 10), True)
    assert loglikelihood(second, 2) == (
        pytest.approx(-(ord("d") + ord("e") + ord("f")) / 10),
        False,
    )
    generated = [one for one in script.questions if one.input_format == "ids"]
    assert [one.text for one in generated] == [json.dumps(one) for one in prompts]
    assert {one.max_tokens for one in generated} == {1}


def test_an_answer_that_ends_at_once_still_has_a_last_token() -> None:
    """lm-eval drops the last token; without one it would drop a token of the prompt."""
    with served(ByteModel(pieces=())) as (client, _):
        made = client.completions.create(
            model="llm", prompt=[[*b"ab"]], echo=True, logprobs=1, max_tokens=1
        )
    logprobs = made.choices[0].logprobs
    assert logprobs
    assert logprobs.tokens == ["a", "b", ""]
    assert logprobs.token_logprobs == [None, -9.8, None]


def test_with_no_tokens_to_make_only_the_prompt_is_scored() -> None:
    script = ByteModel()
    with served(script) as (client, _):
        made = client.completions.create(
            model="llm", prompt="ab", echo=True, logprobs=2, max_tokens=0
        )
    (choice,) = made.choices
    assert (choice.text, choice.finish_reason) == ("ab", "length")
    assert choice.logprobs
    assert choice.logprobs.tokens == ["<s>", "a", "b"]
    assert choice.logprobs.token_logprobs == [None, -9.7, -9.8]
    assert choice.logprobs.text_offset == [0, 0, 1]
    assert made.usage
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (3, 0)
    assert {one.input_format for one in script.questions} == {"tokenize", "detokenize", "score"}
    (scored,) = [one for one in script.questions if one.input_format == "score"]
    assert scored.sampling.top_logprobs == 2


@pytest.mark.parametrize(
    ("prompt", "text"), [("ab", "ab"), ([*b"ab"], "ab"), ([BOS, *b"ab"], "<s>ab")]
)
def test_the_prompt_stands_before_the_answer_also_without_logprobs(prompt: Any, text: str) -> None:
    with served(ByteModel()) as (client, _):
        made = client.completions.create(model="llm", prompt=prompt, echo=True)
        chunks = client.completions.create(model="llm", prompt=prompt, echo=True, stream=True)
        streamed = "".join(chunk.choices[0].text for chunk in chunks)
    assert made.choices[0].text == streamed == f"{text}Paris"
    assert made.choices[0].logprobs is None


def test_a_stream_gives_what_the_whole_answer_gives() -> None:
    asked: dict[str, Any] = {"prompt": "ab", "echo": True, "logprobs": 1}
    with served(ByteModel()) as (client, _):
        whole = client.completions.create(model="llm", **asked).choices[0]
        chunks = list(client.completions.create(model="llm", stream=True, **asked))
    pieces = [chunk.choices[0] for chunk in chunks]
    assert "".join(one.text for one in pieces) == whole.text
    scored = [one.logprobs for one in pieces if one.logprobs]
    assert whole.logprobs
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        joined = [value for one in scored for value in getattr(one, name)]
        assert joined == getattr(whole.logprobs, name)


def test_logprobs_zero_are_the_tokens_own() -> None:
    with served(ByteModel(pieces=("P",))) as (client, _):
        made = client.completions.create(model="llm", prompt="a", logprobs=0).choices[0]
    assert made.logprobs
    assert made.logprobs.token_logprobs == [-8.0]


def test_a_model_that_cannot_score_refuses_echo_by_name() -> None:
    why = "input_format must be one of user, messages, raw, tokens"
    error = UsageError("The model refused the request", why=why)

    class Earlier(Script):
        async def __call__(self, serving: Any, question: GenerateRequest) -> Any:
            if question.input_format in {"raw", "user"}:
                async for batch in super().__call__(serving, question):
                    yield batch
            else:
                raise error

    with served(Earlier()) as (client, _):
        refused: tuple[dict[str, Any], ...] = ({"logprobs": 1}, {"max_tokens": 0})
        for more in refused:
            with pytest.raises(openai.BadRequestError) as caught:
                client.completions.create(model="llm", prompt="a", echo=True, **more)
            assert (caught.value.param, caught.value.code) == ("echo", "unsupported_parameter")
        plain = client.completions.create(model="llm", prompt="a", echo=True)
    assert plain.choices[0].text == "aParis"
