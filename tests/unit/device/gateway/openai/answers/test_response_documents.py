"""The document of a response, as the official client's types read it."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.responses import Response

from forge.device.gateway.openai.answers.choices import Choice, TokenCounts
from forge.device.gateway.openai.answers.response_documents import ResponseWriter, items_of
from forge.device.gateway.openai.answers.response_items import MessageItem
from forge.device.gateway.openai.tool_calls import CallParser
from forge.serving.triton.stream import TokenLogprob
from tests.support.gateway_app import SERVING

GIVEN: Any = {
    "instructions": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "temperature": 0.0,
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
}
CALL = '<tool_call>{"name": "clock", "arguments": {}}</tool_call>'


def written(text: str, reason: str = "stop", *, tools: bool = True) -> Response:
    writer = ResponseWriter(GIVEN, SERVING, logprobs=False)
    parser = CallParser("hermes", frozenset({"clock"}), parallel=True) if tools else None
    choice = Choice((), reason, TokenCounts(5, 2))
    document = writer.complete(choice, items_of(writer, text, (), parser))
    return Response.model_validate(document, strict=True)


def test_a_text_is_one_message_and_its_usage_is_counted() -> None:
    made = written("Paris", tools=False)
    assert (made.output_text, made.status, len(made.output)) == ("Paris", "completed", 1)
    assert made.usage is not None
    assert made.usage.total_tokens == 7


@pytest.mark.parametrize(("text", "kinds"), [
    ("", ["message"]),
    ("Hm.", ["message"]),
    (CALL, ["function_call"]),
    (f"Hm. {CALL}\n{CALL}", ["message", "function_call", "function_call"]),
    (f"{CALL} Done.", ["function_call", "message"]),
])  # fmt: skip
def test_items_are_in_the_order_in_which_they_were_said(text: str, kinds: list[str]) -> None:
    assert [item.type for item in written(text).output] == kinds


def test_only_the_last_item_of_a_cut_answer_is_incomplete() -> None:
    made = written(f"Hm. {CALL}", "length")
    assert made.status == "incomplete"
    assert made.incomplete_details is not None
    assert [item.status for item in made.output] == ["completed", "incomplete"]  # type: ignore[union-attr]


def test_logarithms_belong_to_the_first_message() -> None:
    writer = ResponseWriter(GIVEN, SERVING, logprobs=True)
    [item] = items_of(writer, "P", [TokenLogprob("P", -0.5, b"P")], None)
    assert isinstance(item, MessageItem)
    assert [one.token for one in item.logprobs or ()] == ["P"]
