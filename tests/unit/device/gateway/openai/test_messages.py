"""Messages in OpenAI's shapes, as clients send them and send them back."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessage
from pydantic import ValidationError

from forge.device.gateway.openai.messages import ChatTool, Message, ResponseFormat
from forge.device.gateway.openai.problems import problem

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def refused(shape: Any, value: Any) -> tuple[str | None, str, str]:
    with pytest.raises(ValidationError) as caught:
        shape.model_validate(value)
    found = problem(caught.value)
    return found.param, found.code, found.message


def test_an_answer_with_tool_calls_is_taken_back_as_the_client_keeps_it() -> None:
    kept = ChatCompletionMessage.model_validate(
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": [CALL]}
    ).model_dump()
    assert Message.model_validate(kept).turn == {
        "role": "assistant",
        "content": "",
        "tool_calls": [CALL],
    }


def test_the_answer_of_a_tool_names_its_call() -> None:
    told = Message.model_validate({"role": "tool", "tool_call_id": "c1", "content": "3"})
    assert told.turn == {"role": "tool", "content": "3", "tool_call_id": "c1"}
    assert refused(Message, {"role": "tool", "content": "3"})[0] == "tool_call_id"
    wrong = {"role": "user", "content": "3", "tool_call_id": "c1"}
    assert refused(Message, wrong)[0] == "tool_call_id"
    assert (
        refused(Message, {"role": "user", "content": "3", "tool_calls": [CALL]})[0] == "tool_calls"
    )


def test_content_is_a_text_or_parts_of_text() -> None:
    for content in ("ab", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]):
        assert Message.model_validate({"role": "user", "content": content}).turn["content"] == "ab"
    assert Message.model_validate({"role": "user", "content": ""}).text == ""
    refusal = [{"type": "refusal", "refusal": "no"}]
    assert Message.model_validate({"role": "assistant", "content": refusal}).text == "no"


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
def test_content_may_be_missing_only_beside_tool_calls(role: str) -> None:
    param, code, message = refused(Message, {"role": role, "content": None})
    assert (param, code) == ("content", "missing_required_parameter")
    assert message == "content is required"


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"type": "image_url", "image_url": {"url": "data:,"}}, "images are not supported"),
        ({"type": "input_audio", "input_audio": {}}, "audio is not supported"),
        ({"type": "file", "file": {}}, "files are not supported"),
        ({"type": "video_url", "video_url": {}}, "videos are not supported"),
    ],
)
def test_a_part_that_is_not_text_is_refused_in_plain_words(
    part: dict[str, Any], words: str
) -> None:
    content = [{"type": "text", "text": "a"}, part]
    found = refused(Message, {"role": "user", "content": content})
    assert found == ("content[1]", "unsupported_value", f"content[1]: {words}")


@pytest.mark.parametrize("field", ["name", "refusal", "annotations", "reasoning_content"])
def test_fields_without_effect_are_accepted(field: str) -> None:
    assert Message.model_validate({"role": "user", "content": "a", field: "b"}) == (
        Message.model_validate({"role": "user", "content": "a"})
    )


def test_a_tool_is_a_function_with_a_schema() -> None:
    function = {"name": "add", "description": "a + b", "parameters": {"type": "object"}}
    made = ChatTool.model_validate({"type": "function", "function": function})
    assert made.function.parameters == {"type": "object"}
    assert refused(ChatTool, {"type": "web_search"})[1] == "unsupported_value"
    assert (
        refused(ChatTool, {"type": "function", "function": {"name": "a b"}})[0] == "function.name"
    )


def test_a_schema_belongs_to_its_response_format() -> None:
    schema = {"name": "a", "schema": {"type": "object"}, "strict": True}
    made = ResponseFormat.model_validate({"type": "json_schema", "json_schema": schema})
    assert made.json_schema
    assert made.json_schema.schema_ == {"type": "object"}
    assert refused(ResponseFormat, {"type": "json_schema"})[0] == "json_schema"
    assert refused(ResponseFormat, {"type": "xml"})[0] == "type"
