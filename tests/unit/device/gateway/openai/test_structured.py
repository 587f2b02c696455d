"""Every way to ask for a form is the one parameter of the model; two ways at once are refused."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import ValidationError

from forge.device.gateway.config import GatewayConfig
from forge.device.gateway.openai.problems import problem
from forge.device.gateway.openai.protocol import ChatRequest
from tests.support.gateway_app import Script, running

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
USER: Any = {"role": "user", "content": "a"}
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}}


def chat(**more: Any) -> ChatRequest:
    body = {"model": "llm", "messages": [USER], **more}
    return ChatRequest.model_validate_json(json.dumps(body))


@pytest.mark.parametrize(
    ("asked", "form"),
    [
        ({"response_format": {"type": "json_object"}}, {"json_object": True}),
        ({"response_format": FORMAT}, {"json": SCHEMA}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
            {"json_object": True},
        ),
        ({"guided_json": SCHEMA}, {"json": SCHEMA}),
        ({"guided_json": json.dumps(SCHEMA)}, {"json": SCHEMA}),
        ({"guided_regex": "[0-9]+"}, {"regex": "[0-9]+"}),
        ({"guided_choice": ["yes", "no"]}, {"choice": ["yes", "no"]}),
        ({"guided_grammar": "root ::= 'a'"}, {"grammar": "root ::= 'a'"}),
        ({"structured_outputs": {"json": SCHEMA}}, {"json": SCHEMA}),
        ({"structured_outputs": {"choice": ["a"]}}, {"choice": ["a"]}),
        (
            {"structured_outputs": {"json": SCHEMA}, "response_format": {"type": "text"}},
            {"json": SCHEMA},
        ),
    ],
)
def test_a_form_reaches_the_model(asked: dict[str, Any], form: dict[str, Any]) -> None:
    (made,) = chat(**asked).generate_requests()
    assert json.loads(str(made.body()["structured_outputs"])) == form


@pytest.mark.parametrize("asked", [{}, {"response_format": {"type": "text"}}])
def test_text_is_no_form(asked: dict[str, Any]) -> None:
    (made,) = chat(**asked).generate_requests()
    assert "structured_outputs" not in made.body()


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"response_format": FORMAT, "guided_regex": "a"}, "guided_regex"),
        ({"guided_json": SCHEMA, "guided_choice": ["a"]}, "guided_choice"),
        ({"guided_json": "no JSON"}, "guided_json"),
        ({"guided_json": "[]"}, "guided_json"),
        ({"guided_choice": []}, "guided_choice"),
        ({"structured_outputs": {"json": {}, "regex": "a"}}, "structured_outputs"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ],
)
def test_what_is_not_one_form_is_refused(asked: dict[str, Any], param: str) -> None:
    with pytest.raises(ValidationError) as caught:
        chat(**asked)
    assert problem(caught.value).param == param


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"response_format": FORMAT}, "response_format"),
        ({"extra_body": {"guided_regex": "a"}}, "guided_regex"),
        ({"extra_body": {"structured_outputs": {"regex": "a"}}}, "structured_outputs"),
    ],
)
def test_a_model_that_cannot_refuses_it_by_the_name_that_was_asked(
    asked: dict[str, Any], param: str
) -> None:
    with running(Script(unsupported="structured_outputs"), GatewayConfig()) as gateway:
        url = f"http://127.0.0.1:{gateway.port}/v1"
        with OpenAI(base_url=url, api_key="none", max_retries=0) as client:
            with pytest.raises(openai.BadRequestError) as caught:
                client.chat.completions.create(model="llm", messages=[USER], **asked)
            assert (caught.value.param, caught.value.code) == (param, "unsupported_parameter")
            text: Any = {"format": {"type": "json_object"}}
            with pytest.raises(openai.BadRequestError) as caught:
                client.responses.create(model="llm", input="a", text=text)
            assert caught.value.param == "text.format"


def test_logprobs_are_refused_by_the_name_that_was_asked() -> None:
    with running(Script(unsupported="top_logprobs"), GatewayConfig()) as gateway:
        body = {"model": "llm", "messages": [USER], "logprobs": True, "top_logprobs": 2}
        refused = gateway.client.post("/v1/chat/completions", json=body)
    assert refused.json()["error"]["param"] == "logprobs"
