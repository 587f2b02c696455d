"""What is a neutral value, as JSON sees it."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.responses import response_create_params
from pydantic_core import PydanticCustomError

from forge.device.gateway.openai.parameters import (
    CHAT,
    COMPLETIONS,
    RESPONSES,
    Known,
    without_neutral,
)
from forge.device.gateway.openai.responses import ResponsesRequest


@pytest.mark.parametrize("known", [CHAT, COMPLETIONS, RESPONSES])
def test_null_is_neutral_for_every_name(known: Any) -> None:
    assert without_neutral(dict.fromkeys(known), known) == {}


def test_a_number_is_neutral_however_it_is_written_and_true_is_no_number() -> None:
    known: Known = {"a": (1,), "b": (False,)}
    assert without_neutral({"a": 1.0, "b": False}, known) == {}
    refused: tuple[dict[str, Any], ...] = ({"a": True}, {"a": "1"}, {"b": 0}, {"b": ""}, {"b": []})
    for wrong in refused:
        with pytest.raises(PydanticCustomError):
            without_neutral(wrong, known)


def test_what_is_not_known_is_passed_on() -> None:
    assert without_neutral({"colour": 1, "top_k": -1, "min_p": 0.1}, CHAT) == {
        "colour": 1,
        "min_p": 0.1,
    }


def test_every_name_of_openais_responses_is_known() -> None:
    names = {
        name
        for kind in ("Base", "Streaming", "NonStreaming")
        for name in getattr(response_create_params, f"ResponseCreateParams{kind}").__annotations__
    }
    assert names <= {*ResponsesRequest.model_fields, *RESPONSES}
