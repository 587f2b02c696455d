"""The events of a response's stream, as the official client reads them."""

from __future__ import annotations

from tests.support.gateway_app import Script, served


def test_events_are_numbered_and_their_text_is_the_final_response() -> None:
    with served(Script(pieces=("Par", "is"))) as (client, _):
        events = list(client.responses.create(model="llm", input="Hi", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    text = "".join(one.delta for one in events if one.type == "response.output_text.delta")
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == text == "Paris"
