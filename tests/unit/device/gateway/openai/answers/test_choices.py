"""Several choices: each with its own place, a few at a time, ended together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import openai
import pytest

from forge.device.gateway.config import GatewayConfig, QueueRules
from forge.device.shared.upstream import ActiveServer
from forge.errors import StepFailedError
from forge.serving.triton.request import GenerateRequest
from forge.serving.triton.stream import StreamEvent
from tests.support.gateway_app import Script, served, wait_for

USER: Any = {"role": "user", "content": "a"}


@dataclass
class Crowd(Script):
    """Says its prompt; remembers how many were in the model at once."""

    inside: int = 0
    most: int = 0
    fails: str = "nothing"
    ended: list[str] = field(default_factory=list)

    async def __call__(
        self, serving: ActiveServer, question: GenerateRequest
    ) -> AsyncGenerator[Sequence[StreamEvent]]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        said = Script(pieces=(question.text, "!"), pause_s=self.pause_s)
        if question.text == self.fails:
            said.error = StepFailedError("Triton ended")
        try:
            async for batch in said(serving, question):
                yield batch
        finally:
            self.inside -= 1
            self.questions.append(question)
            self.ended.append(question.text)


def test_answers_come_in_the_order_of_prompts_and_draws() -> None:
    with served(Crowd()) as (client, _):
        made = client.completions.create(model="llm", prompt=["a", "b"], n=2)
    assert [(one.index, one.text) for one in made.choices] == [
        (0, "a!"),
        (1, "a!"),
        (2, "b!"),
        (3, "b!"),
    ]


def test_a_prompt_counts_once_and_every_answer_counts() -> None:
    with served(Script()) as (client, _):
        made = client.completions.create(model="llm", prompt=["a", "b"], n=3)
    assert made.usage
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (2 * 5, 6 * 2)
    assert made.usage.total_tokens == 22


def test_chunks_of_all_choices_alternate_and_each_choice_ends() -> None:
    with served(Crowd(pause_s=0.05)) as (client, _):
        stream = client.completions.create(
            model="llm", prompt=["a", "b"], stream=True, stream_options={"include_usage": True}
        )
        chunks: list[Any] = list(stream)
    texts, order, ends = {0: "", 1: ""}, list[int](), list[int]()
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        texts[choice.index] += choice.text
        order.append(choice.index)
        ends += [choice.index] if choice.finish_reason else []
    assert texts == {0: "a!", 1: "b!"}
    assert sorted(ends) == [0, 1]
    assert order != sorted(order)
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == 4
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_chat_has_n_messages_streamed_too() -> None:
    with served(Script()) as (client, _):
        whole = client.chat.completions.create(model="llm", messages=[USER], n=2)
        assert [one.message.content for one in whole.choices] == ["Paris", "Paris"]
        chunks = client.chat.completions.create(model="llm", messages=[USER], n=2, stream=True)
        texts = {0: "", 1: ""}
        roles: list[int] = []
        for choice in (choice for chunk in chunks for choice in chunk.choices):
            texts[choice.index] += choice.delta.content or ""
            roles += [choice.index] if choice.delta.role else []
    assert texts == {0: "Paris", 1: "Paris"}
    assert roles == [0, 1]


def test_seeds_of_one_prompts_answers_differ() -> None:
    script = Crowd()
    with served(script) as (client, _):
        client.completions.create(model="llm", prompt="a", n=3, seed=5, temperature=1)
    assert sorted(one.sampling.seed or 0 for one in script.questions) == [5, 6, 7]


@pytest.mark.parametrize("stream", [False, True])
def test_one_call_does_not_fill_the_device(*, stream: bool) -> None:
    script = Crowd(pause_s=0.02)
    with served(script) as (client, _):
        made = client.completions.create(model="llm", prompt=[*"abcdefghijkl"], stream=stream)
        if stream:
            list(made)
    assert script.most == 4
    assert len(script.ended) == 12


@pytest.mark.parametrize("stream", [False, True])
def test_with_one_place_the_choices_follow_each_other(*, stream: bool) -> None:
    script = Crowd(pause_s=0.01)
    with served(script, GatewayConfig(queue=QueueRules(per_place=8, max_wait_s=5))) as (
        client,
        gw,
    ):
        gw.limit.set(1, "hot")
        made = client.completions.create(model="llm", prompt=[*"abc"], stream=stream)
        if stream:
            list(made)
    assert (script.most, sorted(script.ended)) == (1, ["a", "b", "c"])


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_of_one_ends_all_and_no_place_is_kept(*, stream: bool) -> None:
    script = Crowd(pause_s=0.05, fails="b")
    with served(script) as (client, gateway):
        with pytest.raises(openai.APIError, match="Triton ended"):
            list(client.completions.create(model="llm", prompt=[*"abcdefgh"], stream=stream))
        assert wait_for(lambda: gateway.admission.counts.inside == 0)
        assert gateway.admission.counts.waiting == 0
        assert gateway.upstream.drain(5) == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_ends_all(*, stream: bool) -> None:
    script = Crowd(pause_s=60)
    with served(script) as (_, gateway):
        body = {"model": "llm", "prompt": [*"abcdef"], "stream": stream}
        with pytest.raises(httpx.ReadTimeout):
            gateway.client.post("/v1/completions", json=body, timeout=0.5)
        assert wait_for(lambda: gateway.admission.counts.inside == 0)
        assert gateway.admission.counts.waiting == 0
    assert script.most <= 4


def test_the_time_limit_is_of_all_choices_together() -> None:
    script = Crowd(pause_s=0.4)
    with served(script, GatewayConfig(limit_s=1.0)) as (client, gateway):
        with pytest.raises(openai.APIError, match="not complete"):
            list(client.completions.create(model="llm", prompt=[*"abcdefghijkl"], stream=True))
        assert wait_for(lambda: gateway.admission.counts.inside == 0)


def test_a_stop_text_ends_one_choice_of_an_earlier_models_and_not_the_others() -> None:
    script = Crowd(unsupported="stop")
    with served(script) as (client, _):
        chunks = client.completions.create(model="llm", prompt=["a", "b"], stop="a", stream=True)
        texts = {0: "", 1: ""}
        for choice in (choice for chunk in chunks for choice in chunk.choices):
            texts[choice.index] += choice.text
    assert texts == {0: "", 1: "b!"}
    assert all(not one.sampling.stop for one in script.questions)


def test_a_model_that_knows_stop_gets_it() -> None:
    script = Script()
    with served(script) as (client, _):
        made = client.completions.create(model="llm", prompt="a", stop=["x", "y"])
    assert made.usage
    assert script.questions[0].sampling.stop == ("x", "y")


def test_a_fault_in_a_choice_is_an_error_of_the_whole() -> None:
    async def impossible(*_: Any) -> AsyncGenerator[Any]:
        await asyncio.sleep(0)
        raise ZeroDivisionError
        yield

    faulty = type("Faulty", (Script,), {"__call__": impossible})
    with served(faulty()) as (client, gateway):
        with pytest.raises(openai.InternalServerError):
            list(client.completions.create(model="llm", prompt=["a", "b"], stream=True))
        assert wait_for(lambda: gateway.admission.counts.inside == 0)
