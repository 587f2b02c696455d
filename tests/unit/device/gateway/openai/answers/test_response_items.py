"""Items of a response's output, as the official client's types read them."""

from __future__ import annotations

from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage

from forge.device.gateway.openai.answers.response_items import CallItem, MessageItem
from forge.serving.triton.stream import TokenLogprob


def test_a_message_is_empty_as_it_begins_and_has_all_of_its_text_in_the_end() -> None:
    item = MessageItem(0, texts=["Par", "is"])
    begun, done = item.document("in_progress", empty=True), item.document("completed")
    assert begun["content"] == []
    made = ResponseOutputMessage.model_validate(done, strict=True)
    assert (made.id, made.content[0].type) == (item.id, "output_text")
    assert made.content[0].text == "Paris"  # type: ignore[union-attr]


def test_logarithms_are_there_only_where_they_are_wanted() -> None:
    one = TokenLogprob("P", -0.5, b"P")
    assert MessageItem(0).scored([one]) == []
    item = MessageItem(0, logprobs=[one])
    scored = {"token": "P", "logprob": -0.5, "bytes": [80], "top_logprobs": []}
    assert item.part()["logprobs"] == [scored]
    assert item.part(empty=True)["logprobs"] == []


def test_a_call_has_no_arguments_as_it_begins_and_all_in_the_end() -> None:
    item = CallItem(1, "call_1", "weather", parts=['{"city": ', '"Oslo"}'])
    assert item.document("in_progress", empty=True)["arguments"] == ""
    made = ResponseFunctionToolCall.model_validate(item.document("completed"), strict=True)
    assert (made.call_id, made.name, made.id) == ("call_1", "weather", item.id)
    assert made.arguments == item.arguments == '{"city": "Oslo"}'
    assert item.place == {"item_id": item.id, "output_index": 1}
