"""Tokens of a text and text of tokens, in vLLM's shapes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from forge.errors import UsageError
from tests.support.gateway_app import BOS, ByteModel, Gateway, Script, running

USER = {"role": "user", "content": "a"}


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with running(ByteModel()) as made:
        yield made


@pytest.mark.parametrize("root", ["", "/v1"])
def test_a_text_has_tokens_and_they_have_the_text(gateway: Gateway, root: str) -> None:
    made = gateway.client.post(f"{root}/tokenize", json={"model": "llm", "prompt": "aé"}).json()
    assert made == {
        "count": 4,
        "max_model_len": 64,
        "tokens": [BOS, *"aé".encode()],
        "token_strs": None,
    }
    text = gateway.client.post(f"{root}/detokenize", json={"tokens": made["tokens"][1:]}).json()
    assert text == {"prompt": "aé"}


def test_special_tokens_are_left_out_on_request(gateway: Gateway) -> None:
    body = {"prompt": "a", "add_special_tokens": False}
    assert gateway.client.post("/tokenize", json=body).json()["tokens"] == [97]


def test_messages_get_the_chat_template(gateway: Gateway) -> None:
    made = gateway.client.post("/tokenize", json={"messages": [USER]}).json()
    assert bytes(made["tokens"][1:]) == b"<user>a<assistant>"
    body = {"messages": [USER], "add_generation_prompt": False}
    made = gateway.client.post("/tokenize", json=body).json()
    assert bytes(made["tokens"][1:]) == b"<user>a"


def test_no_tokens_have_no_text(gateway: Gateway) -> None:
    assert gateway.client.post("/detokenize", json={"tokens": []}).json() == {"prompt": ""}


@pytest.mark.parametrize(
    ("path", "body", "param", "status"),
    [
        ("/tokenize", {}, None, 400),
        ("/tokenize", {"prompt": "a", "messages": [USER]}, None, 400),
        ("/tokenize", {"prompt": 7}, "prompt", 400),
        ("/tokenize", {"prompt": "a", "return_token_strs": True}, "return_token_strs", 400),
        ("/tokenize", {"prompt": "a", "model": "other"}, "model", 404),
        ("/detokenize", {"tokens": [-1]}, "tokens[0]", 400),
        ("/detokenize", {"tokens": [True]}, "tokens[0]", 400),
        ("/detokenize", {}, "tokens", 400),
    ],
)
def test_what_is_not_a_request_is_refused(
    gateway: Gateway, path: str, body: Any, param: str | None, status: int
) -> None:
    refused = gateway.client.post(path, json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (status, param)


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize"])
def test_a_model_that_cannot_refuses_by_name(path: str) -> None:
    why = "input_format must be one of user, messages, raw, tokens"
    script = Script(pieces=(), error=UsageError("The model refused the request", why=why))
    with running(script) as gateway:
        refused = gateway.client.post(
            path, json={"prompt": "a"} if path == "/tokenize" else {"tokens": [1]}
        )
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "unsupported_parameter"
    assert refused.json()["error"]["param"] == path
