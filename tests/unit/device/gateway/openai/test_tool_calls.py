"""Calls of tools are found in each family's format, however the text is cut."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.device.gateway.openai.tool_calls import (
    FORCED,
    FORMATS,
    CallParser,
    ContentDelta,
    ToolCallDelta,
)

NAMES = frozenset({"weather", "clock"})
ARGUMENTS = {"city": 'Zürich "}{', "days": [1, {"n": 2}]}
CALL = json.dumps({"name": "weather", "arguments": ARGUMENTS}, ensure_ascii=False)
LLAMA = CALL.replace('"arguments"', '"parameters"')
LATE = json.dumps({"arguments": ARGUMENTS, "name": "weather"})
UNKNOWN = json.dumps({"name": "rm", "arguments": {}})
ONE = [("weather", ARGUMENTS)]
ANSWERS = [
    ("hermes", f"Hm. <tool_call>\n{CALL}\n</tool_call>", "Hm. ", ONE),
    ("hermes", f"\n<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>\n", "", ONE * 2),
    ("hermes", f"<tool_call>{CALL}</tool_call>\nDone. ", "Done. ", ONE),
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
    ("mistral", f"Hm. [TOOL_CALLS] [{CALL}]", "Hm. ", ONE),
    ("mistral", f"[TOOL_CALLS][{UNKNOWN}, {CALL}]", f"[TOOL_CALLS][{UNKNOWN}, {CALL}]", []),
    ("mistral", "[1] says so, [2] not.", "[1] says so, [2] not.", []),
    ("hermes", f"{CALL}</tool_call>", "", ONE),  # the mark is a special token, left out
    ("mistral", f"[{CALL}, {CALL}]", "", ONE * 2),  # likewise
    ("hermes", "{x} and {y", "{x} and {y", []),
    ("hermes", '{"name": "nobody"} is it', '{"name": "nobody"} is it', []),
    ("hermes", '{"name": "weather", "argu', '{"name": "weather", "argu', []),
    ("hermes", "  \n", "  \n", []),
    ("forced", f"[{CALL}]", "", ONE),
    ("forced", f"[{CALL}, {CALL}]", "", ONE * 2),
    ("forced", '[{"a": 1}, {"b": [2]}]', '[{"a": 1}, {"b": [2]}]', []),
    ("forced", CALL, CALL, []),  # the form of the answer is an object
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


def test_arguments_that_break_off_are_given_as_far_as_they_came() -> None:
    parser = CallParser("hermes", NAMES, parallel=True)
    found = parser.feed('<tool_call>{"name": "clock", "arguments": {"a": "b')
    found += parser.finish()
    assert "".join(one.arguments for one in found if isinstance(one, ToolCallDelta)) == '{"a": "b'
    assert parser.called


@pytest.mark.parametrize("style", [*FORMATS, FORCED])
def test_text_and_objects_that_are_no_calls_do_not_wait_for_their_end(style: str) -> None:
    for text in ("Paris is", '{"city": "Par', "{x"):
        found = CallParser(style, NAMES, parallel=True).feed(text)
        assert "".join(one.text for one in found if isinstance(one, ContentDelta)) == text


@given(text=st.text('<tool_cal>/{}[]"name: weather,\\ ', max_size=40), cut=st.integers(1, 9))
def test_text_without_a_call_is_content_to_the_letter(text: str, cut: int) -> None:
    for style in (*FORMATS, FORCED):
        parser = CallParser(style, frozenset({"none of these"}), parallel=True)
        assert read(parser, text, cut) == (text, [])
