import json

import pytest

from forge.errors import StepFailedError, UsageError
from forge.serving.triton.stream import REFUSED, Finished, Parser, StreamEvent, Token
from tests.support.templates import load


def line(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


ANSWER = (
    line(model_name="llm", text_output="Par")
    + line(text_output="is ü.")
    + line(text_output="", finish_reason="stop", input_tokens=37, output_tokens=3)
)
EVENTS = [Token("Par"), Token("is ü."), Finished("stop", 37, 3)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_feed_gives_the_same_events_however_the_bytes_are_cut(size: int) -> None:
    parser = Parser()
    events: list[StreamEvent] = []
    for start in range(0, len(ANSWER), size):
        events.extend(parser.feed(ANSWER[start : start + size]))
    parser.close()
    assert events == EVENTS


def test_feed_keeps_text_of_the_last_event() -> None:
    data = line(text_output="!", finish_reason="length", input_tokens=1, output_tokens=2)
    assert list(Parser().feed(data)) == [Token("!"), Finished("length", 1, 2)]


def test_feed_raises_when_an_error_comes_with_status_200() -> None:
    parser = Parser()
    events = parser.feed(line(text_output="Par") + line(error="The engine failed"))
    assert next(events) == Token("Par")
    with pytest.raises(StepFailedError, match="The engine failed"):
        next(events)


def test_feed_raises_usage_error_when_the_model_refuses_the_request() -> None:
    with pytest.raises(UsageError, match=r"the request: The prompt has 5031 tokens") as caught:
        list(Parser(400).feed(line(error="Refused: The prompt has 5031 tokens")))
    assert caught.value.exit_code == 2


def test_what_the_models_call_a_refusal_is_read_as_one() -> None:
    turns = load("shared", "turns")
    assert turns.REFUSED == REFUSED
    assert str(turns.RequestError("too long")) == f"{REFUSED}too long"


@pytest.mark.parametrize(
    "said", ["Stub process 'llm_0_0' is not healthy.", "The engine failed: out of memory"]
)
def test_feed_does_not_blame_the_asker_when_the_model_failed(said: str) -> None:
    with pytest.raises(StepFailedError, match=said):
        list(Parser(400).feed(line(error=said)))


def test_close_raises_what_a_plain_json_answer_says() -> None:
    parser = Parser(404, is_stream=False)
    assert list(parser.feed(b'{"error":"unknown model: nope')) == []
    assert list(parser.feed(b'"}')) == []
    with pytest.raises(StepFailedError, match="unknown model: nope"):
        parser.close()


def test_close_raises_when_the_answer_broke_off() -> None:
    parser = Parser()
    list(parser.feed(line(text_output="Par")))
    with pytest.raises(StepFailedError, match="ended before it was complete"):
        parser.close()


@pytest.mark.parametrize("data", [b"data: not json\n\n", b"data: [1]\n\n"])
def test_feed_raises_when_an_event_is_no_object(data: bytes) -> None:
    with pytest.raises(StepFailedError):
        list(Parser().feed(data))


def test_feed_raises_when_the_last_event_lacks_a_count() -> None:
    with pytest.raises(StepFailedError, match="not complete"):
        list(Parser().feed(line(finish_reason="stop", input_tokens=1)))


def test_feed_raises_when_an_event_never_ends() -> None:
    parser = Parser()
    for _ in range(40):
        assert list(parser.feed(b"x" * 100_000)) == []
    with pytest.raises(StepFailedError, match="event of more than"):
        list(parser.feed(b"x" * 1_000_000))
