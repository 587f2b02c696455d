"""Chats, whole and streamed, as the official client reads them."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.support.gateway_app import ByteModel, Script, served

PLACE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "parameters": PLACE}},
    {"type": "function", "function": {"name": "clock", "description": "the time"}},
]
OSLO, ROME = '{"city": "Oslo"}', '{"city": "Rome \\"}{"}'
CALLS = "\n".join(
    f'<tool_call>\n{{"name": "weather", "arguments": {one}}}\n</tool_call>' for one in (OSLO, ROME)
)


@pytest.mark.parametrize("choices", [1, 3])
def test_streamed_choices_joined_are_the_whole_ones(choices: int) -> None:
    asked = {"model": "llm", "messages": [{"role": "user", "content": "Hi"}], "n": choices}
    with served(Script(pieces=("Par", "is"))) as (client, _):
        whole = client.chat.completions.create(**asked)  # type: ignore[call-overload]
        chunks = client.chat.completions.create(stream=True, **asked)  # type: ignore[call-overload]
        texts, ends = [""] * choices, [""] * choices
        for chunk in chunks:
            for one in chunk.choices:
                texts[one.index] += one.delta.content or ""
                ends[one.index] = one.finish_reason or ends[one.index]
    assert [one.message.content for one in whole.choices] == texts == ["Paris"] * choices
    assert [one.finish_reason for one in whole.choices] == ends == ["stop"] * choices


def chat(client: OpenAI, **more: Any) -> Any:
    messages = [{"role": "user", "content": "Weather?"}]
    return client.chat.completions.create(
        **{"model": "llm", "messages": messages, "tools": TOOLS, **more}
    )


def streamed(chunks: Any) -> tuple[str, list[list[str]], str | None]:
    """Content, [id, name, arguments] of each call, and the reason, as the client joins them."""
    content, calls, reason = "", list[list[str]](), None
    for chunk in chunks:
        ChatCompletionChunk.model_validate_json(chunk.to_json(), strict=True)
        [choice] = chunk.choices
        content += choice.delta.content or ""
        reason = choice.finish_reason or reason
        for call in choice.delta.tool_calls or ():
            if call.id:
                assert call.index == len(calls)
                calls.append([call.id, call.function.name, ""])
            calls[call.index][2] += call.function.arguments
    return content, calls, reason


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("lead", ["", "Let me see. "])
def test_calls_are_tool_calls_whole_and_streamed(lead: str, size: int) -> None:
    text = lead + CALLS
    pieces = tuple(text[at : at + size] for at in range(0, len(text), size))
    with served(Script(pieces=pieces)) as (client, _):
        whole = chat(client)
        content, calls, reason = streamed(chat(client, stream=True))
    ChatCompletion.model_validate_json(whole.to_json(), strict=True)
    [choice] = whole.choices
    made = [(one.function.name, one.function.arguments) for one in choice.message.tool_calls]
    assert made == [("weather", OSLO), ("weather", ROME)]
    assert [(name, arguments) for _, name, arguments in calls] == made
    assert len({one.id for one in choice.message.tool_calls} | {one for one, *_ in calls}) == 4
    assert (choice.message.content or "") == content == lead
    assert choice.finish_reason == reason == "tool_calls"


def test_an_answer_in_words_stays_one() -> None:
    with served(Script()) as (client, _):
        [choice] = chat(client).choices
        assert streamed(chat(client, stream=True)) == ("Paris", [], "stop")
    assert (choice.message.content, choice.message.tool_calls) == ("Paris", None)
    assert choice.finish_reason == "stop"


def test_the_model_gets_the_tools_and_what_it_called() -> None:
    script = Script()
    with served(script) as (client, _):
        first = chat(client, tool_choice="auto")
        assert first.choices[0].message.tool_calls is None
        called = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
        messages = [
            {"role": "user", "content": "Time?"},
            {"role": "assistant", "content": None, "tool_calls": [called]},
            {"role": "tool", "tool_call_id": "c1", "content": "noon"},
        ]
        chat(client, messages=messages, tool_choice="none")
        chat(client, messages=messages)
    offered, none, again = (json.loads(one.text) for one in script.questions)
    assert offered["tools"] == again["tools"] == TOOLS
    assert none == again["messages"]
    assert [one["role"] for one in none] == ["user", "assistant", "tool"]
    assert all(one.sampling.structured_outputs is None for one in script.questions)


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "weather"}}]
)
def test_a_forced_call_has_a_form_and_is_read_from_a_list(choice: Any) -> None:
    answer = json.dumps([{"name": "weather", "arguments": json.loads(OSLO)}])
    script = Script(pieces=(answer[:20], answer[20:]))
    with served(script) as (client, _):
        [one] = chat(client, tool_choice=choice).choices
        content, calls, reason = streamed(chat(client, tool_choice=choice, stream=True))
    assert one.message.content is None
    assert [call.function.arguments for call in one.message.tool_calls] == [OSLO]
    assert (content, [call[1:] for call in calls], reason) == (
        "",
        [["weather", OSLO]],
        "tool_calls",
    )
    form = script.questions[0].sampling.structured_outputs
    assert form is not None
    assert isinstance(form.json_schema, dict)
    assert form.json_schema["type"] == "array"


def test_a_call_that_breaks_off_says_that_it_was_cut() -> None:
    cut = Script(pieces=('<tool_call>{"name": "weather", "arguments": {"ci',), reason="length")
    with served(cut) as (client, _):
        [choice] = chat(client).choices
        _, [call], reason = streamed(chat(client, stream=True))
    assert choice.finish_reason == reason == "length"
    assert choice.message.tool_calls[0].function.arguments == call[2] == '{"ci'


def test_logprobs_of_a_call_come_with_its_chunks() -> None:
    text = '<tool_call>{"name": "clock", "arguments": {}}</tool_call>'
    with served(ByteModel(pieces=tuple(text))) as (client, _):
        [choice] = chat(client, logprobs=True).choices
        chunks = list(chat(client, logprobs=True, stream=True))
    assert "".join(one.token for one in choice.logprobs.content) == text
    scored = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices[0].logprobs]
    assert "".join(one.token for part in scored for one in part.content) == text


@pytest.mark.parametrize("tool_calls", [None, "a format of a later version"])
def test_tools_of_a_model_that_makes_no_calls_are_refused_by_name(tool_calls: str | None) -> None:
    script = Script(tool_calls=tool_calls)
    with served(script) as (client, _):
        with pytest.raises(openai.BadRequestError) as caught:
            chat(client)
        assert chat(client, tool_choice="none").choices[0].message.content == "Paris"
    assert (caught.value.param, caught.value.code) == ("tools", "unsupported_parameter")


def test_a_call_that_cannot_be_forced_is_refused_by_the_choices_name() -> None:
    with served(Script(unsupported="structured_outputs")) as (client, _):
        assert chat(client).choices[0].message.content == "Paris"
        with pytest.raises(openai.BadRequestError) as caught:
            chat(client, tool_choice="required")
    assert (caught.value.param, caught.value.code) == ("tool_choice", "unsupported_parameter")
