"""What text_input is to a Triton model of Forge."""

import json
from typing import Any

import pytest

from tests.support.templates import load

turns = load("shared", "turns")
HI = {"role": "user", "content": "Hi"}


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def conversation(*messages: dict[str, Any], **more: Any) -> Any:
    return turns.Conversation(list(messages), **more)


def test_text_is_one_message_of_the_user() -> None:
    assert turns.read("Hi") == turns.read("Hi", "user") == conversation(HI)


def test_messages_are_a_conversation_and_unknown_fields_are_left_out() -> None:
    talk = [{"role": "system", "content": "Be brief."}, HI]
    said = turns.read(json.dumps([{**one, "weight": 1} for one in talk]), "messages")
    assert said == conversation(*talk)


def test_tools_and_their_calls_are_as_templates_expect_them() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    calls = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    result = {"role": "tool", "content": "2", "tool_call_id": "c1", "name": "f"}
    said = turns.read(json.dumps({"messages": [HI, calls, result], "tools": tools}), "messages")
    called = {**CALL, "function": {"name": "f", "arguments": {"a": 1}}}
    made = {"role": "assistant", "content": "", "tool_calls": [called]}
    assert said == conversation(HI, made, result, tools=tools)


@pytest.mark.parametrize("call", [{}, 7, {"function": {"name": "f", "arguments": "{"}}])
def test_calls_that_are_not_openais_are_refused(call: object) -> None:
    message = {"role": "assistant", "content": "", "tool_calls": [call]}
    with pytest.raises(turns.RequestError, match="tool_calls must be OpenAI's"):
        turns.read(json.dumps([message]), "messages")


def test_token_ids_have_a_format_for_each_use() -> None:
    assert turns.read("[1, 2]", "ids") == turns.Ids((1, 2))
    assert turns.read("[1, 2]", "tokens") == turns.Scored((1, 2))
    assert turns.read("[1, 2]", "score") == turns.Scored((1, 2), top=True)
    assert turns.read("[1, 2]", "detokenize") == turns.Detokenize((1, 2))


def test_text_and_conversations_are_tokenized() -> None:
    said = {"text": "a", "add_special_tokens": False}
    assert turns.read(json.dumps(said), "tokenize") == turns.Tokenize("a", add_special_tokens=False)
    said = {"messages": [HI], "add_generation_prompt": False}
    found = turns.read(json.dumps(said), "tokenize")
    assert found == turns.Tokenize(conversation(HI, add_generation_prompt=False))
    with pytest.raises(turns.RequestError, match="tokenize takes JSON"):
        turns.read("[]", "tokenize")


def test_a_request_is_cancelled_by_its_id() -> None:
    assert turns.read("r-1", "cancel") == turns.Cancel("r-1")


def test_raw_text_stays_text() -> None:
    assert turns.read("[1]", "raw") == "[1]"


WRONG = {
    "no JSON": "Hi",
    "no list": "7",
    "empty": "[]",
    "no objects": "[1]",
    "a role of its own": json.dumps([{**HI, "role": "root"}]),
    "a role that is a list": json.dumps([{**HI, "role": []}]),
    "content that is no text": json.dumps([{**HI, "content": 7}]),
    "no content": '[{"role": "user"}]',
    "too deep": "[" * 100_000,
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_what_is_no_conversation_is_refused(text: str) -> None:
    with pytest.raises(turns.RequestError, match="must be a JSON list of"):
        turns.read(text, "messages")


def test_a_format_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(turns.RequestError, match="one of user, messages, raw"):
        turns.read("Hi", "xml")


@pytest.mark.parametrize("said", ["Hi", conversation(HI)])
def test_a_model_without_a_template_goes_on_with_the_one_text(said: Any) -> None:
    assert turns.without_template(said) == "Hi"


@pytest.mark.parametrize(
    "said",
    [
        conversation(HI, HI),
        conversation({"role": "system", "content": "Hi"}),
        conversation(HI, tools=[{}]),
    ],
)
def test_a_model_without_a_template_takes_no_conversation(said: Any) -> None:
    with pytest.raises(turns.RequestError, match="no chat template"):
        turns.without_template(said)
