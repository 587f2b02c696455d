"""Tools for a model: the format of its calls, and the prompt where its template has none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.templates import load

turns = load("shared", "turns")
tool_prompt = load("shared", "tool_prompt")

WEATHER = {"type": "function", "function": {"name": "weather", "description": "in {city}"}}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}
ASKED = {"role": "user", "content": "Weather in 서울?"}


def called(*names: str, content: str = "") -> dict[str, Any]:
    calls = [
        {"id": f"c{at}", "type": "function", "function": {"name": name, "arguments": {"at": at}}}
        for at, name in enumerate(names)
    ]
    return {"role": "assistant", "content": content, "tool_calls": calls}


def result(text: str) -> dict[str, str]:
    return {"role": "tool", "content": text, "tool_call_id": "c0"}


@pytest.mark.parametrize(("template", "found"), [
    ("{{ messages }}", None),
    ("<tool_call> arguments without the variable", None),
    ('{% if tools %}<tool_call>\n{"name": 1, "arguments": 2}', "hermes"),
    ("{% if tools %}[TOOL_CALLS]", "mistral"),
    ('{% if tools %}{"name": function name, "parameters": dictionary}', "llama"),
    ("{% if tools %}<|python_tag|>", "llama"),
    ("{% if tools %}<tool_call><function={{ name }}> arguments", None),
    ("{% if tools %}[TOOL_CALLS]{{ name }}[ARGS]{{ arguments }}", None),
    ("{% if tools %}a format that is not known", None),
])  # fmt: skip
def test_the_format_is_that_of_the_chat_template(template: str, found: str | None) -> None:
    assert tool_prompt.format_of(template) == found


def test_tools_are_described_in_a_system_message() -> None:
    said = turns.Conversation([ASKED], [WEATHER, CLOCK], add_generation_prompt=False)
    plain = tool_prompt.as_text(said)
    assert plain.tools is None
    assert not plain.add_generation_prompt
    system, user = plain.messages
    assert user == ASKED
    assert system["role"] == "system"
    described = system["content"].partition("<tools>\n")[2].partition("\n</tools>")[0]
    assert [json.loads(line) for line in described.splitlines()] == [WEATHER, CLOCK]
    assert '<tool_call>\n{"name": "…", "arguments": {…}}\n</tool_call>' in system["content"]


def test_what_the_callers_system_message_says_comes_first() -> None:
    brief = {"role": "system", "content": "Be brief."}
    system, *others = tool_prompt.as_text(turns.Conversation([brief, ASKED], [CLOCK])).messages
    assert system["content"].startswith("Be brief.\n\n")
    assert system["content"].count("<tools>") == 1
    assert others == [ASKED]


def test_calls_and_results_become_text_also_where_no_tools_are_offered() -> None:
    messages = [ASKED, called("weather", "clock", content="Hm."), result("sunny"), result("noon")]
    plain = tool_prompt.as_text(turns.Conversation([*messages, ASKED]))
    user, assistant, results, again = plain.messages
    assert user == again == ASKED
    assert assistant == {
        "role": "assistant",
        "content": 'Hm.\n<tool_call>\n{"name": "weather", "arguments": {"at": 0}}\n</tool_call>\n'
        '<tool_call>\n{"name": "clock", "arguments": {"at": 1}}\n</tool_call>',
    }
    assert results["role"] == "user"
    assert results["content"] == (
        "<tool_response>\nsunny\n</tool_response>\n<tool_response>\nnoon\n</tool_response>"
    )


def test_a_conversation_without_tools_stays_as_it_is() -> None:
    said = turns.Conversation([{"role": "system", "content": ""}, ASKED, ASKED])
    assert tool_prompt.as_text(said) == said
