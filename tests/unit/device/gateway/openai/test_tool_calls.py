"""Calls of tools are found in each family's format, however the text is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forge.device.gateway.openai.messages import ChatTool
from forge.device.gateway.openai.tool_calls import (
    CallParser,
    ContentDelta,
    ToolCallDelta,
    Tooling,
    format_of,
)

NAMES = frozenset({"weather", "clock"})
ARGUMENTS = {"city": 'Zürich "}{', "days": [1, {"n": 2}]}
CALL = json.dumps({"name": "weather", "arguments": ARGUMENTS}, ensure_ascii=False)
LLAMA = CALL.replace('"arguments"', '"parameters"')
LATE = json.dumps({"arguments": ARGUMENTS, "name": "weather"})
ONE = [("weather", ARGUMENTS)]
ANSWERS = [
    ("hermes", f"Hm. <tool_call>\n{CALL}\n</tool_call>", "Hm. ", ONE),
    ("hermes", f"<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>", "\n", ONE * 2),
    ("hermes", f"<tool_call>{LATE}</tool_call>", "", ONE),
    ("hermes", "a < b <tool> {}", "a < b <tool> {}", []),
    ("llama", LLAMA, "", ONE),
    ("llama", f"<|python_tag|>{LLAMA}; {LLAMA}", "", ONE * 2),
    ("llama", '{"answer": 1}', '{"answer": 1}', []),
    ("llama", '[{"a": 1}]', '[{"a": 1}]', []),
    ("hermes", "Hm <tool_call>", "Hm <tool_call>", []),
    (
        "hermes",
        '<tool_call>{"name": "rm", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "rm", "arguments": {}}</tool_call>',
        [],
    ),
    ("llama", "So {x}.", "So {x}.", []),
    ("mistral", f"[TOOL_CALLS][{CALL}, {CALL}]", "", ONE * 2),
    ("forced", f"[{CALL}]", "", ONE),
]


def read(parser: CallParser, text: str, size: int) -> tuple[str, list[tuple[str, object]]]:
    deltas = [one for at in range(0, len(text), size) for one in parser.feed(text[at : at + size])]
    deltas += parser.finish()
    content = "".join(one.text for one in deltas if isinstance(one, ContentDelta))
    parts = [one for one in deltas if isinstance(one, ToolCallDelta)]
    heads = [one for one in parts if one.id is not None]
    assert [one.index for one in heads] == list(range(len(heads)))
    joined = ["".join(p.arguments for p in parts if p.index == h.index) for h in heads]
    return content, [(str(h.name), json.loads(j)) for h, j in zip(heads, joined, strict=True)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(("style", "text", "content", "calls"), ANSWERS)
def test_calls_are_found_however_the_text_is_cut(
    style: str, text: str, content: str, calls: list[tuple[str, object]], size: int
) -> None:
    parser = CallParser(style, NAMES, parallel=True)
    assert read(parser, text, size) == (content, calls)
    assert parser.called == bool(calls)


def test_arguments_come_before_the_call_is_complete() -> None:
    found = CallParser("mistral", NAMES, parallel=True).feed(
        '[TOOL_CALLS][{"name": "clock", "arguments": {"a'
    )
    assert [one.arguments for one in found if isinstance(one, ToolCallDelta)] == ["", '{"a']


def test_one_call_only_unless_parallel() -> None:
    text = f"[TOOL_CALLS][{CALL}, {CALL}]"
    assert read(CallParser("mistral", NAMES, parallel=False), text, 4) == ("", ONE)


def test_a_forced_call_keeps_the_references_of_its_schema() -> None:
    parameters = {"$defs": {"C": {"type": "string"}}, "properties": {"c": {"$ref": "#/$defs/C"}}}
    tool = ChatTool.model_validate(
        {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    )
    form = Tooling.of([tool], "required", parallel=False, parser_name="hermes").structured_outputs
    assert form is not None
    assert isinstance(form.json_schema, dict)
    target = form.json_schema["items"]["anyOf"][0]["properties"]["arguments"]
    place = target["properties"]["c"]["$ref"]
    value: Any = form.json_schema
    for key in place.removeprefix("#/").split("/"):
        value = value[int(key)] if isinstance(value, list) else value[key]
    assert value == {"type": "string"}
    assert form.json_schema["maxItems"] == 1


def test_a_template_without_tools_has_no_format() -> None:
    assert format_of("{{ messages }}") is None
    assert format_of("{% if tools %}<tool_call>") == "hermes"
