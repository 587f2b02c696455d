"""The tools of a request: what the model may call, and the form of its answer."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from pydantic_core import PydanticCustomError

from forge.device.gateway.openai.messages import AllowedFunction, ChatTool, NamedToolChoice
from forge.device.gateway.openai.tool_calls import ToolCallDelta
from forge.device.gateway.openai.tooling import Tooling
from forge.serving.sampling import StructuredOutputs

PARAMETERS = {
    "type": "object",
    "$defs": {"C": {"enum": ["Zürich", "Oslo"]}},
    "properties": {"city": {"$ref": "#/$defs/C"}},
    "required": ["city"],
    "additionalProperties": False,
}
SUM = {"type": "object", "$defs": {"N": {"type": "integer"}}, "required": ["sum"],
       "properties": {"sum": {"$ref": "#/$defs/N"}}}  # fmt: skip
GOOD = {"name": "weather", "arguments": {"city": "Oslo"}}
NAMED = NamedToolChoice(function=AllowedFunction(name="weather"))


def tool(name: str, parameters: dict[str, Any] | None = None) -> ChatTool:
    function = {"name": name, "parameters": parameters}
    return ChatTool.model_validate({"type": "function", "function": function})


TOOLS = (tool("clock"), tool("weather", PARAMETERS))


def tooling(tool_choice: Any = None, parallel: bool | None = None, **answer: Any) -> Tooling:  # noqa: FBT001
    form = StructuredOutputs(**answer) if answer else None
    return Tooling.of(TOOLS, tool_choice, parallel=parallel, answer=form)


def valid(found: Tooling, value: object) -> bool:
    """Whether an independent validator takes a value as the whole answer."""
    assert found.form is not None
    schema = found.form.json_schema
    assert isinstance(schema, dict)
    return jsonschema.Draft202012Validator(schema).is_valid(value)


def test_a_free_choice_leaves_the_answer_free() -> None:
    assert tooling().form is None
    assert tooling("auto").form is None
    assert tooling("none", regex="a").form == StructuredOutputs(regex="a")
    assert tooling("none").tools == ()


@pytest.mark.parametrize(("answer", "taken"), [
    ([GOOD], True),
    ([GOOD, {"name": "clock", "arguments": {"any": [1]}}], True),
    ([], False),
    (GOOD, False),
    ([{"name": "rm", "arguments": {}}], False),
    ([{"name": "weather", "arguments": {"city": "Rome"}}], False),
    ([{"name": "weather", "arguments": {}}], False),
    ([{"name": "clock"}], False),
])  # fmt: skip
def test_a_required_call_is_a_list_of_calls_with_their_schemas(answer: object, taken: bool) -> None:  # noqa: FBT001
    assert valid(tooling("required"), answer) == taken
    assert valid(tooling("required", json=SUM), answer) == taken


def test_one_call_only_where_it_is_named_or_not_parallel() -> None:
    for found in (tooling("required", parallel=False), tooling(NAMED)):
        assert valid(found, [GOOD])
        assert not valid(found, [GOOD, GOOD])
    assert not valid(tooling(NAMED), [{"name": "clock", "arguments": {}}])


@pytest.mark.parametrize("form", [{"json": SUM}, {"json_object": True}])
def test_an_answer_of_a_schema_may_be_calls_instead(form: dict[str, Any]) -> None:
    found = tooling(**form)
    assert valid(found, {"sum": 3})
    assert valid(found, [GOOD])
    assert not valid(found, [3])
    if "json" in form:
        assert not valid(found, {"sum": "3"})


@pytest.mark.parametrize("form", [{"regex": "a"}, {"choice": ("a",)}, {"grammar": "root ::= a"}])
def test_a_form_that_is_no_json_has_no_room_for_calls(form: dict[str, Any]) -> None:
    with pytest.raises(PydanticCustomError, match="must be JSON where tools may be called"):
        tooling(**form)


def test_a_choice_of_what_is_not_offered_is_refused() -> None:
    with pytest.raises(PydanticCustomError, match="names no function of tools"):
        Tooling.of((tool("clock"),), NAMED, parallel=None, answer=None)
    with pytest.raises(PydanticCustomError, match="must not be set unless tools are"):
        Tooling.of((), "required", parallel=None, answer=None)


@pytest.mark.parametrize(("found", "text"), [
    (tooling(), f"<tool_call>{json.dumps(GOOD)}</tool_call>"),
    (tooling("required"), json.dumps([GOOD])),
    (tooling(json=SUM), json.dumps([GOOD])),
])  # fmt: skip
def test_the_parser_reads_what_the_form_allows(found: Tooling, text: str) -> None:
    parser = found.parser("hermes")
    deltas = [*parser.feed(text), *parser.finish()]
    assert all(isinstance(one, ToolCallDelta) for one in deltas)
    assert "".join(one.arguments for one in deltas if isinstance(one, ToolCallDelta)) == json.dumps(
        GOOD["arguments"]
    )
