"""POST /v1/embeddings as OpenAI's clients see it; the model is a script."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import openai
import pytest

from forge.device.gateway.middleware import MAX_BODY_BYTES, MAX_LARGE_BODY_BYTES
from forge.errors import UsageError
from forge.serving.repository.spec import EmbeddingSpec
from tests.support.gateway_app import SERVING, Gateway, Script, served
from tests.support.templates import load

batches = load("shared", "embedding_batches")

SPEC = EmbeddingSpec(
    name="minilm",
    model="embedding",
    dimensions=3,
    max_seq_len=8,
    pooling="mean",
    normalize=True,
    max_batch_size=2,
    max_inputs=2048,
)
VECTORS = ([0.25, -1.0, 0.1], [1.0, 2.0, 3.0], [0.0, 0.5, -0.5])


def encoded(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def line(index: int, vector: list[float] | None = None) -> str:
    return json.dumps([index, encoded(vector or VECTORS[index])]) + "\n"


@contextmanager
def embedding(*pieces: str, **script: Any) -> Iterator[tuple[openai.OpenAI, Gateway, Script]]:
    """A device with both models; the second one says these pieces."""
    made = Script(pieces=pieces, **script)
    with served(made) as (client, gateway):
        gateway.upstream.set(replace(SERVING, embedding=SPEC))
        yield client, gateway, made


def post(gateway: Gateway, **body: Any) -> tuple[int, dict[str, Any]]:
    asked = {"model": "minilm", "input": "a", **body}
    found = gateway.client.post("/v1/embeddings", json=asked)
    return found.status_code, found.json()


def test_vectors_are_in_the_order_of_the_inputs_whatever_the_models_order_is() -> None:
    with embedding(line(2) + line(0), line(1)) as (client, _, script):
        found = client.embeddings.create(model="minilm", input=["a", "b", "c"])
    assert [one.index for one in found.data] == [0, 1, 2]
    for one, vector in zip(found.data, VECTORS, strict=True):
        assert one.embedding == pytest.approx(vector, abs=1e-7)
    assert (found.model, found.object) == ("minilm", "list")
    assert found.usage.prompt_tokens == found.usage.total_tokens > 0
    (asked,) = script.questions
    assert (asked.input_format, json.loads(asked.text)) == ("embed", ["a", "b", "c"])


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("a", ["a"]),
        (["a"], ["a"]),
        ([1, 2], [[1, 2]]),
        ([[1, 2]], [[1, 2]]),
    ],
)
def test_one_input_may_be_written_in_four_ways(given: Any, sent: Any) -> None:
    with embedding(line(0)) as (_, gateway, script):
        status, found = post(gateway, input=given)
    assert (status, len(found["data"])) == (200, 1)
    assert json.loads(script.questions[0].text) == sent


def test_floats_are_numbers_and_base64_is_text() -> None:
    with embedding(line(0)) as (_, gateway, _):
        assert post(gateway)[1]["data"][0]["embedding"] == pytest.approx(VECTORS[0], abs=1e-7)
        _, found = post(gateway, encoding_format="base64")
    assert found["data"][0] == {
        "object": "embedding", "index": 0, "embedding": encoded(VECTORS[0])
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"input": ""}, "input", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": ["a", ""]}, "input", "invalid_value"),
        ({"input": [[]]}, "input", "invalid_value"),
        ({"input": [1, "a"]}, "input", "invalid_value"),
        ({"input": [-1]}, "input", "invalid_value"),
        ({"input": [True]}, "input", "invalid_value"),
        ({"input": {"a": 1}}, "input", "invalid_value"),
        ({"input": ["a"] * 2049}, "input", "invalid_value"),
        ({"encoding_format": "int8"}, "encoding_format", "invalid_value"),
        ({"dimensions": 2}, "dimensions", "unsupported_parameter"),
        ({"dimensions": 0}, "dimensions", "invalid_value"),
        ({"truncate_prompt_tokens": 5}, "truncate_prompt_tokens", "unsupported_parameter"),
        ({"temperature": 1}, "temperature", "unknown_parameter"),
    ],
)
def test_what_cannot_be_obeyed_is_refused_by_name(
    body: dict[str, Any], param: str, code: str
) -> None:
    with embedding(line(0)) as (_, gateway, script):
        status, found = post(gateway, **body)
    assert (status, found["error"]["param"], found["error"]["code"]) == (400, param, code)
    assert not script.questions


def test_neutral_values_are_accepted() -> None:
    with embedding(line(0)) as (_, gateway, _):
        assert post(gateway, dimensions=3, user="me", encoding_format=None)[0] == 200


def test_a_missing_input_or_model_is_named() -> None:
    with embedding(line(0)) as (_, gateway, _):
        for name in ("input", "model"):
            body = {"model": "minilm", "input": "a"}
            del body[name]
            found = gateway.client.post("/v1/embeddings", json=body).json()["error"]
            assert (found["param"], found["code"]) == (name, "missing_required_parameter")


def test_an_input_that_is_too_long_is_named_in_the_words_of_the_api() -> None:
    why = "Refused: The prompt has 300 tokens in input[1]; this model takes at most 256"
    with (
        embedding(error=UsageError("The model refused", why=why)) as (client, _, _),
        pytest.raises(openai.BadRequestError) as refused,
    ):
        client.embeddings.create(model="minilm", input=["a", "b"])
    assert refused.value.code == "context_length_exceeded"
    assert "maximum context length is 256 tokens" in str(refused.value)
    assert "input[1] resulted in 300 tokens" in str(refused.value)


def test_each_model_is_refused_on_the_paths_of_the_other_which_the_message_names() -> None:
    with embedding(line(0)) as (client, gateway, script):
        with pytest.raises(openai.NotFoundError, match=r"/v1/embeddings.*'llm'") as chat:
            client.chat.completions.create(
                model="minilm", messages=[{"role": "user", "content": "a"}]
            )
        with pytest.raises(
            openai.NotFoundError, match=r"/v1/chat/completions.*'minilm'"
        ) as vectors:
            client.embeddings.create(model="llm", input="a")
        with pytest.raises(openai.NotFoundError) as other:
            client.embeddings.create(model="text-embedding-3-small", input="a")
    assert chat.value.code == vectors.value.code == "model_not_supported"
    assert (other.value.code, other.value.param) == ("model_not_found", "model")
    assert not script.questions
    assert gateway.admission.counts.admitted == 0


def test_a_bundle_without_an_embedding_model_says_so() -> None:
    with served(Script()) as (client, _):
        with pytest.raises(openai.NotFoundError, match="no model is active for this path"):
            client.embeddings.create(model="llm", input="a")
        with pytest.raises(openai.NotFoundError) as other:
            client.embeddings.create(model="minilm", input="a")
        assert [one.id for one in client.models.list()] == ["llm"]
    assert other.value.code == "model_not_found"


def test_both_models_are_listed_with_what_each_can() -> None:
    with embedding() as (client, gateway, _):
        first, second = gateway.client.get("/v1/models").json()["data"]
        assert gateway.client.get("/v1/models/minilm").json() == second
        assert client.models.retrieve("minilm").id == "minilm"
    assert "/v1/chat/completions" in first["endpoints"]
    assert (second["id"], second["endpoints"]) == ("minilm", ["/v1/embeddings"])
    assert (second["dimensions"], second["max_model_len"], second["normalized"]) == (3, 8, True)


@pytest.mark.parametrize(
    "pieces",
    [
        (line(0),),  # the second one is missing
        (line(0), line(1, [1.0])),
        (line(0), "[1]\n"),
        (line(0), "no JSON\n"),
        (line(0), line(7, [1.0, 2.0, 3.0])),
        (line(0), '[1, "no base64"]\n'),
    ],
)
def test_an_answer_that_is_not_valid_is_the_models_error(pieces: tuple[str, ...]) -> None:
    with embedding(*pieces) as (_, gateway, _):
        status, found = post(gateway, input=["a", "b"])
    assert (status, found["error"]["code"]) == (502, "model_error")
    assert gateway.upstream.under_way == 0


def test_the_place_is_free_afterwards_and_tokens_are_counted_apart() -> None:
    with embedding(line(0)) as (_, gateway, _):
        for _ in range(3):
            post(gateway)
        assert gateway.upstream.under_way == 0
        shown = gateway.client.get("/metrics").text
    assert "forge_device_embedding_requests_total 3.0" in shown
    assert "forge_device_prompt_tokens_total 0.0" in shown


@pytest.mark.parametrize("text", ["word " * 200, "\u0436\u2603\U0001f600 " * 100])
def test_a_thousand_texts_of_a_kilobyte_are_one_request(text: str) -> None:
    """As LangChain sends them without any setting."""
    texts = [f"{number} {text}" for number in range(1000)]
    with embedding("".join(line(at, VECTORS[0]) for at in range(1000))) as (client, _, script):
        found = client.embeddings.create(model="minilm", input=texts)
    assert [one.index for one in found.data] == list(range(1000))
    (asked,) = script.questions
    assert json.loads(asked.text) == texts


def test_what_the_gateway_takes_is_not_too_long_for_the_model() -> None:
    """The longest body: one text, whose list adds two characters and whose envelope is longer."""
    start, end = b'{"model":"minilm","input":"', b'"}'
    body = start + b"a" * (MAX_LARGE_BODY_BYTES - len(start) - len(end)) + end
    headers = {"Content-Type": "application/json"}
    with embedding(line(0)) as (_, gateway, script):
        found = gateway.client.post("/v1/embeddings", content=body, headers=headers)
        longer = gateway.client.post("/v1/embeddings", content=body + b" ", headers=headers)
        small = {"model": "llm", "prompt": "a" * MAX_BODY_BYTES}
        other = gateway.client.post("/v1/completions", json=small)
    assert found.status_code == 200
    assert len(script.questions[0].text.encode()) <= batches.MAX_TEXT_BYTES
    assert (longer.status_code, other.status_code) == (413, 413)
    assert longer.json()["error"]["code"] == "request_too_large"


def test_the_largest_number_of_token_ids_is_read() -> None:
    tokens = [[7] * 1000] * 1000
    with embedding("".join(line(at, VECTORS[0]) for at in range(1000))) as (_, gateway, script):
        status, found = post(gateway, input=tokens)
    assert (status, len(found["data"])) == (200, 1000)
    assert json.loads(script.questions[0].text) == tokens
    with embedding(line(0)) as (_, gateway, _):
        status, found = post(gateway, input=[*tokens, [-1]])
    assert (status, found["error"]["param"]) == (400, "input")
