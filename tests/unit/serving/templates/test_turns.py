"""What text_input is to a Triton model of Forge."""

import json
from typing import Any

import pytest

from tests.support.templates import load

turns = load("shared", "turns")
HI = {"role": "user", "content": "Hi"}


def test_text_is_one_turn_of_the_user() -> None:
    assert turns.read("Hi") == turns.read("Hi", "user") == [HI]


def test_messages_are_turns_and_what_else_they_hold_is_left_out() -> None:
    talk = [{"role": "system", "content": "Be brief."}, HI]
    assert turns.read(json.dumps([{**one, "name": "x"} for one in talk]), "messages") == talk


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


@pytest.mark.parametrize("said", ["Hi", [HI]])
def test_a_model_without_a_template_goes_on_with_the_one_text(said: Any) -> None:
    assert turns.without_template(said) == "Hi"


@pytest.mark.parametrize("said", [[HI, HI], [{"role": "system", "content": "Hi"}]])
def test_a_model_without_a_template_takes_no_conversation(said: Any) -> None:
    with pytest.raises(turns.RequestError, match="no chat template"):
        turns.without_template(said)
