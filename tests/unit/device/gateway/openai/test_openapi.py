"""The API's description is true: real requests and answers are valid by it, wrong ones are not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from forge.errors import StepFailedError
from tests.support.gateway_app import ByteModel, Gateway, Script, running
from tests.support.openai_parameters import (
    NEUTRAL,
    NEUTRAL_CHAT,
    NEUTRAL_COMPLETION,
    USER,
)

CHAT = {"model": "llm", "messages": [USER]}
TEXT = {"model": "llm", "prompt": "a"}
RESPONSE = {"model": "llm", "input": "a"}
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", {**CHAT, "n": 2, "logprobs": True, "top_logprobs": 1}),
    ("/v1/chat/completions", {**CHAT, "stop": ["x"], "messages": [USER, {**USER, "name": "me"}]}),
    ("/v1/chat/completions", {**CHAT, **NEUTRAL, **NEUTRAL_CHAT}),
    ("/v1/completions", TEXT),
    ("/v1/completions", {**TEXT, **NEUTRAL, **NEUTRAL_COMPLETION}),
    ("/v1/completions", {**TEXT, "echo": True, "logprobs": 1, "max_tokens": 0}),
    ("/v1/completions", {**TEXT, "prompt": [[1], [2, 3]], "echo": True, "logprobs": 1}),
    ("/v1/responses", RESPONSE),
    ("/v1/responses", {**RESPONSE, "instructions": "b", "metadata": {"a": "b"}, "store": False}),
    ("/tokenize", {"prompt": "a"}),
    ("/v1/tokenize", {"messages": [USER]}),
    ("/detokenize", {"tokens": [97]}),
    ("/v1/detokenize", {"tokens": [97]}),
    ("/v1/inference", {"prompt": "a"}),
]
STREAMED = [("/v1/chat/completions", CHAT), ("/v1/completions", {**TEXT, "echo": True})]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with running(ByteModel()) as made:
        yield made


@pytest.fixture(scope="module")
def document(gateway: Gateway) -> Any:
    return gateway.client.get("/openapi.json").json()


def valid(document: Any, value: Any, schema: Any) -> bool:
    whole = {**schema, "components": document["components"]}
    return bool(jsonschema.Draft202012Validator(whole).is_valid(value))


def operation(document: Any, path: str, method: str = "post") -> Any:
    return document["paths"][path][method]


def of_request(document: Any, path: str) -> Any:
    return operation(document, path)["requestBody"]["content"]["application/json"]["schema"]


def of_answer(
    document: Any, path: str, status: int, method: str = "post", kind: str = "application/json"
) -> Any:
    return operation(document, path, method)["responses"][str(status)]["content"][kind]["schema"]


def test_the_document_is_valid(document: Any) -> None:
    OpenAPIV31SpecValidator(document).validate()


@pytest.mark.parametrize(("path", "body"), REQUESTS)
def test_a_request_and_its_answer_are_as_described(
    gateway: Gateway, document: Any, path: str, body: dict[str, Any]
) -> None:
    assert valid(document, body, of_request(document, path))
    answer = gateway.client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert valid(document, answer.json(), of_answer(document, path, 200))


@pytest.mark.parametrize(("path", "body"), STREAMED)
@pytest.mark.parametrize("more", [{}, {"n": 2}, {"stream_options": {"include_usage": True}}])
def test_the_events_of_a_stream_are_as_described(
    gateway: Gateway, document: Any, path: str, body: dict[str, Any], more: dict[str, Any]
) -> None:
    lines = gateway.client.post(path, json={**body, "stream": True, **more}).text.split("\n\n")
    events = [line.removeprefix("data: ") for line in lines if line and "[DONE]" not in line]
    schema = of_answer(document, path, 200, kind="text/event-stream")
    assert events
    assert all(valid(document, json.loads(event), schema) for event in events)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {**CHAT, "n": True}),
        ("/v1/chat/completions", {**CHAT, "temperature": 3}),
        ("/v1/chat/completions", {**CHAT, "colour": 1}),
        ("/v1/chat/completions", {**CHAT, "use_beam_search": True}),
        ("/v1/chat/completions", {"model": "llm"}),
        ("/v1/completions", {**TEXT, "prompt": 7}),
        ("/v1/responses", {**RESPONSE, "store": True}),
        ("/detokenize", {"tokens": ["a"]}),
        ("/v1/inference", {"prompt": 7}),
    ],
)
def test_what_is_refused_is_not_valid_by_the_description_either(
    gateway: Gateway, document: Any, path: str, body: dict[str, Any]
) -> None:
    assert not valid(document, body, of_request(document, path))
    refused = gateway.client.post(path, json=body)
    assert refused.status_code in {400, 422}
    assert valid(document, refused.json(), of_answer(document, "/v1/completions", 400))


@pytest.mark.parametrize(("path", "named"), [("/v1/models", 0), ("/v1/models/llm", 1)])
def test_the_model_is_as_described(gateway: Gateway, document: Any, path: str, named: int) -> None:
    route = ("/v1/models", "/v1/models/{name}")[named]
    answer = gateway.client.get(path)
    assert valid(document, answer.json(), of_answer(document, route, 200, "get"))


def test_the_answer_of_a_model_that_failed_is_as_described(document: Any) -> None:
    with running(Script(pieces=(), error=StepFailedError("Triton ended"))) as gateway:
        answer = gateway.client.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 502
    schema = of_answer(document, "/v1/chat/completions", 502)
    assert valid(document, answer.json(), schema)


def test_every_route_is_described_and_answers(gateway: Gateway, document: Any) -> None:
    for path, methods in document["paths"].items():
        for method in methods:
            url = path.replace("{name}", "llm")
            answer = gateway.client.request(
                method.upper(), url, json={} if method == "post" else None
            )
            assert answer.status_code not in {404, 405}, path


class Page(HTMLParser):
    """Collects the addresses that a page asks for, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "script"
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_for_people_names_everything_and_asks_no_other_machine(
    gateway: Gateway, document: Any
) -> None:
    answer = gateway.client.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    page = Page()
    page.feed(answer.text)
    assert page.addresses == ["/openapi.json"]
    assert not re.search(r"https?://|url\(|@import", answer.text)
    for path in document["paths"]:
        assert path in page.text
    for name in ("temperature", "response_format", "max_output_tokens", "add_generation_prompt"):
        assert name in page.text
