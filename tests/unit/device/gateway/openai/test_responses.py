"""OpenAI's Responses API by its official client, which knows every event's type."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types import responses as types
from openai.types.responses import Response

from forge.errors import StepFailedError
from forge.serving.sampling import Sampling
from forge.serving.triton.request import GenerateRequest
from tests.support.gateway_app import ByteModel, Script, served

EVENTS = [
    types.ResponseCreatedEvent,
    types.ResponseInProgressEvent,
    types.ResponseOutputItemAddedEvent,
    types.ResponseContentPartAddedEvent,
    types.ResponseTextDeltaEvent,
    types.ResponseTextDeltaEvent,
    types.ResponseTextDoneEvent,
    types.ResponseContentPartDoneEvent,
    types.ResponseOutputItemDoneEvent,
    types.ResponseCompletedEvent,
]


def ask(client: OpenAI, **more: Any) -> Any:
    return client.responses.create(**{"model": "llm", "input": "a", **more})


def checked(document: Any) -> None:
    """Validate strictly: the client itself accepts anything."""
    Response.model_validate_json(document.to_json(), strict=True)


def test_an_answer_is_a_message_with_usage() -> None:
    script = Script()
    with served(script) as (client, _):
        made = ask(client, max_output_tokens=8, temperature=0.5, metadata={"a": "b"})
    checked(made)
    assert (made.output_text, made.status, made.store) == ("Paris", "completed", False)
    assert made.usage
    assert (made.usage.input_tokens, made.usage.output_tokens, made.usage.total_tokens) == (5, 2, 7)
    assert (made.max_output_tokens, made.temperature) == (8, 0.5)
    assert made.metadata == {"a": "b"}
    assert script.questions == [GenerateRequest("a", 8, Sampling(temperature=0.5))]


def test_an_answer_that_is_cut_is_incomplete() -> None:
    with served(Script(reason="length")) as (client, _):
        made = ask(client)
        checked(made)
        last = list(ask(client, stream=True))[-1]
    assert (made.status, made.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert isinstance(last, types.ResponseIncompleteEvent)
    assert last.response.output_text == "Paris"


def test_a_stream_has_openais_events_in_order() -> None:
    with served(Script()) as (client, _):
        events = list(ask(client, stream=True))
    assert [type(event) for event in events] == EVENTS
    assert [event.sequence_number for event in events] == list(range(len(events)))
    for event in events:
        type(event).model_validate_json(event.to_json(), strict=True)
    assert "".join(event.delta for event in events if event.type.endswith(".delta")) == "Paris"
    last = events[-1]
    assert last.response.output_text == "Paris"
    assert last.response.id == events[0].response.id
    assert last.response.output[0].id == events[4].item_id
    assert last.response.usage.total_tokens == 7


def test_the_clients_own_accumulator_takes_the_stream() -> None:
    with (
        served(Script()) as (client, _),
        client.responses.stream(model="llm", input="a") as stream,
    ):
        assert stream.get_final_response().output_text == "Paris"


def test_input_items_are_a_conversation() -> None:
    script = Script()
    items = [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "1+2?"}]},
        {"type": "reasoning", "id": "r1", "summary": []},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}", "id": "f1"},
        {"type": "function_call", "call_id": "c2", "name": "add", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "3"},
        {"type": "function_call_output", "call_id": "c2", "output": "3"},
    ]
    with served(script) as (client, _):
        before = ask(client).output[0].model_dump()
        ask(client, instructions="Sum.", input=[*items, before, {"role": "user", "content": "?"}])
    function = {"name": "add", "arguments": "{}"}
    calls = [{"id": one, "type": "function", "function": function} for one in ("c1", "c2")]
    assert json.loads(script.questions[-1].text) == [
        {"role": "system", "content": "Sum."},
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1+2?"},
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "content": "3", "tool_call_id": "c1"},
        {"role": "tool", "content": "3", "tool_call_id": "c2"},
        {"role": "assistant", "content": "Paris"},
        {"role": "user", "content": "?"},
    ]


def test_logprobs_come_where_they_are_included() -> None:
    wanted = {"include": ["message.output_text.logprobs"], "top_logprobs": 1}
    script = ByteModel()
    with served(script) as (client, _):
        made = ask(client, **wanted)
        checked(made)
        events = list(ask(client, stream=True, **wanted))
        assert ask(client).output[0].content[0].logprobs == []
    assert [one.token for one in made.output[0].content[0].logprobs] == [*"Paris"]
    streamed = [
        one.token for event in events if event.type.endswith("delta") for one in event.logprobs
    ]
    assert streamed == [*"Paris"]
    assert script.questions[0].sampling.top_logprobs == 1
    assert script.questions[-1].sampling.top_logprobs is None


def test_a_failure_in_a_stream_is_the_event_of_a_failed_response() -> None:
    with served(Script(error=StepFailedError("Triton ended", why="out of memory"))) as (
        client,
        _,
    ):
        last = list(ask(client, stream=True))[-1]
    assert isinstance(last, types.ResponseFailedEvent)
    assert last.response.status == "failed"
    assert last.response.error
    assert "out of memory" in last.response.error.message


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "unsupported_parameter"),
        ({"store": True}, "store", "unsupported_parameter"),
        ({"background": True}, "background", "unsupported_parameter"),
        ({"conversation": "c"}, "conversation", "unsupported_parameter"),
        ({"reasoning": {"effort": "high"}}, "reasoning", "unsupported_parameter"),
        ({"truncation": "auto"}, "truncation", "unsupported_parameter"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]", "unsupported_value"),
        ({"max_output_tokens": 65}, "max_output_tokens", "invalid_value"),
        ({"max_output_tokens": True}, "max_output_tokens", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": 7}, "input", "invalid_value"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input", "unsupported_value"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0]",
            "unsupported_value",
        ),
        ({"extra_body": {"colour": 1}}, "colour", "unknown_parameter"),
    ],
)
def test_what_cannot_be_obeyed_is_refused_in_this_apis_names(
    change: dict[str, Any], param: str, code: str
) -> None:
    with served(Script()) as (client, _), pytest.raises(openai.BadRequestError) as caught:
        ask(client, **change)
    assert (caught.value.param, caught.value.code) == (param, code)


def test_what_asks_for_nothing_is_taken() -> None:
    neutral = {
        "store": False,
        "tools": [],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "truncation": "disabled",
        "reasoning": {},
        "text": {"format": {"type": "text"}},
        "include": ["reasoning.encrypted_content"],
        "service_tier": "auto",
        "user": "me",
    }
    with served(Script()) as (client, _):
        assert ask(client, **neutral).output_text == "Paris"


TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
CALL_EVENTS = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.output_item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done",
    "response.completed",
]


@pytest.mark.parametrize("lead", ["Hm. ", ""])
def test_calls_are_items_of_their_own_whole_and_streamed(lead: str) -> None:
    text = lead + '<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>'
    with served(Script(pieces=(text,))) as (client, _):
        made = ask(client, tools=[TOOL])
        events = list(ask(client, tools=[TOOL], stream=True))
        joined: Any = client.responses.stream(model="llm", input="a", tools=[TOOL])  # type: ignore[list-item]
        with joined as stream:
            final = stream.get_final_response()
    checked(made)
    *words, call = made.output
    assert [one.content[0].text for one in words] == ([lead] if lead else [])
    assert (call.type, call.name, call.arguments) == (
        "function_call",
        "weather",
        '{"city": "Oslo"}',
    )
    assert call.call_id.startswith("call_")
    kinds = CALL_EVENTS if lead else [*CALL_EVENTS[:2], *CALL_EVENTS[8:]]
    assert [event.type for event in events] == kinds
    for event in events:
        type(event).model_validate_json(event.to_json(), strict=True)
    last = events[-1].response.output
    assert [one.type for one in last] == [one.type for one in made.output]
    assert last[-1].arguments == final.output[-1].arguments == call.arguments
    assert {event.output_index for event in events if hasattr(event, "output_index")} == {
        *range(len(last))
    }


def test_tools_that_are_not_called_leave_a_message() -> None:
    script = Script()
    with served(script) as (client, _):
        made = ask(client, tools=[TOOL], tool_choice="auto")
        events = list(ask(client, tools=[TOOL], stream=True))
    checked(made)
    assert made.output_text == events[-1].response.output_text == "Paris"
    assert [type(event) for event in events] == EVENTS
    [asked] = json.loads(script.questions[0].text)["tools"]
    function = {name: value for name, value in TOOL.items() if name != "type"}
    assert asked == {"type": "function", "function": function}


def test_a_forced_function_is_called() -> None:
    script = Script(pieces=('[{"name": "weather", "arguments": {}}]',))
    with served(script) as (client, _):
        made = ask(client, tools=[TOOL], tool_choice={"type": "function", "name": "weather"})
    checked(made)
    [call] = made.output
    assert (call.name, call.arguments, call.status) == ("weather", "{}", "completed")
    assert script.questions[0].sampling.structured_outputs is not None


def test_a_call_that_is_cut_is_incomplete() -> None:
    script = Script(pieces=('<tool_call>{"name": "weather", "arguments": {"a',), reason="length")
    with served(script) as (client, _):
        made = ask(client, tools=[TOOL])
        last = list(ask(client, tools=[TOOL], stream=True))[-1]
    checked(made)
    assert (made.status, made.output[0].status) == ("incomplete", "incomplete")
    assert last.response.output[0].status == "incomplete"


def test_an_answer_without_a_word_is_an_empty_message() -> None:
    with served(Script(pieces=())) as (client, _):
        made = ask(client, tools=[TOOL])
        events = list(ask(client, tools=[TOOL], stream=True))
    assert made.output_text == events[-1].response.output_text == ""
    assert len(made.output) == len(events[-1].response.output) == 1
