"""The queue of an embedding model: turns, cancellation, refusals; the encoder is a stand-in."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.gateway_app import wait_for
from tests.support.templates import Request, load

batches = load("shared", "embedding_batches")


class Words:
    """A token for each character, between 1 and 2."""

    size = 200

    def encode(self, texts: Sequence[str], *, add_special_tokens: bool = True) -> list[list[int]]:
        edge = [[1], [2]] if add_special_tokens else [[], []]
        return [[*edge[0], *map(ord, text), *edge[1]] for text in texts]


class Encoder:
    """A vector is the first token, the length and the sum; `gate` holds batches back."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.value = 0.0

    def embed(self, batch: Sequence[Sequence[int]]) -> Any:
        self.batches.append([len(one) for one in batch])
        self.gate.wait(20)
        if self.error:
            raise self.error
        rows = [[one[0] + self.value, len(one), sum(one)] for one in batch]
        return np.array(rows, np.float32)


class Model(batches.Model):  # type: ignore[misc,name-defined]
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = Encoder()
        monkeypatch.setattr(batches, "Words", lambda _engine: Words())
        limits = {"max_batch_size": 3, "max_inputs": 8, "max_seq_len": 12}
        parameters = {name: {"string_value": str(value)} for name, value in limits.items()}
        config = json.dumps({"parameters": parameters})
        self.initialize({"model_config": config, "model_repository": "/m", "model_version": "1"})

    def load(self, engine: Path) -> Encoder:  # noqa: ARG002
        return self.made

    def ask(self, given: Any, input_format: str = "embed", request_id: str = "") -> Request:
        text = given if isinstance(given, str) else json.dumps(given)
        named = {"input_format": input_format, "request_id": request_id}
        inputs = {name: np.array([one.encode()], np.object_) for name, one in named.items()}
        request = Request.of(text, **inputs)
        self.execute([request])
        return request


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    made = Model(monkeypatch)
    yield made
    made.made.gate.set()
    made.finalize()


def ended(request: Request) -> Request:
    wait_for(lambda: request.sender.done)
    return request


def vectors(request: Request) -> dict[int, list[float]]:
    lines = "".join(ended(request).sender.values("text_output")).splitlines()
    pairs = map(json.loads, lines)
    return {index: np.frombuffer(base64.b64decode(one), "<f4").tolist() for index, one in pairs}


def test_each_input_gets_its_own_vector_and_all_tokens_are_counted(model: Model) -> None:
    texts = ["a", "bbbb", "cc", "ddd", "e"]
    request = model.ask(texts)
    found = vectors(request)
    assert [found[index][1] for index in range(5)] == [len(text) + 2 for text in texts]
    assert [found[index][2] for index in range(5)] == [3 + sum(map(ord, one)) for one in texts]
    assert request.sender.values("input_tokens") == [sum(len(text) + 2 for text in texts)]
    assert request.sender.values("finish_reason") == ["embedded"]


def test_a_batch_has_texts_of_similar_lengths_and_never_more_than_its_size(model: Model) -> None:
    ended(model.ask(["a", "bbbb", "cc", "ddd", "eeeee"]))
    assert model.made.batches == [[7, 6, 5], [4, 3]]


def test_lists_of_tokens_are_taken_as_they_are(model: Model) -> None:
    assert vectors(model.ask([[5, 6], [7]])) == {0: [5, 2, 11], 1: [7, 1, 7]}


def test_a_small_request_is_answered_after_one_batch_of_a_large_one(model: Model) -> None:
    model.made.gate.clear()
    large = model.ask(["x"] * 8)
    wait_for(lambda: bool(model.made.batches))
    small = model.ask(["small"])
    model.made.gate.set()
    ended(small), ended(large)
    assert 7 in model.made.batches[1]  # the small one's tokens


@pytest.mark.parametrize("how", ["cancelled by its id", "disconnected"])
def test_a_request_without_a_client_ends_after_the_batch_under_way(model: Model, how: str) -> None:
    model.made.gate.clear()
    request = model.ask(["x"] * 8, request_id="7")
    wait_for(lambda: bool(model.made.batches))
    if how == "disconnected":
        request.sender.cancelled = True
    else:
        ended(model.ask("7", "cancel"))
    model.made.gate.set()
    assert ended(request).sender.values("finish_reason") == ["cancelled"]
    assert len(model.made.batches) == 1


def test_another_requests_id_cancels_nothing(model: Model) -> None:
    model.made.gate.clear()
    request = model.ask(["x"], request_id="7")
    ended(model.ask("8", "cancel"))
    model.made.gate.set()
    assert set(vectors(request)) == {0}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([], "1 to 8"),
        (["x"] * 9, "1 to 8"),
        ({"a": 1}, "1 to 8"),
        ("no JSON", "1 to 8"),
        (["x", ""], "none of them empty"),
        ([[]], "none of them empty"),
        (["x", [1]], "none of them empty"),
        ([[200]], "token ids of this model are 0 to 199"),
        ([[-1]], "token ids of this model are 0 to 199"),
        ([[True]], "token ids of this model are 0 to 199"),
        (["x", "0123456789x"], r"prompt has 13 tokens in input\[1\]; this model takes at most 12"),
        ([[1] * 13], r"has 13 tokens in input\[0\]"),
    ],
)
def test_inputs_that_cannot_be_computed_are_refused_by_name(
    model: Model, given: Any, why: str
) -> None:
    error = ended(model.ask(given)).sender.error
    assert error.startswith("Refused: ")
    assert re.search(why, error), error
    assert not model.made.batches


def test_other_formats_are_refused(model: Model) -> None:
    for name in ("messages", "raw", "user", ""):
        assert "embed, tokenize, cancel" in ended(model.ask("x", name)).sender.error


def test_a_text_is_tokenized_with_and_without_special_tokens(model: Model) -> None:
    with_them = ended(model.ask({"text": "a"}, "tokenize"))
    without = ended(model.ask({"text": "a", "add_special_tokens": False}, "tokenize"))
    assert with_them.sender.values("text_output") == ["[1, 97, 2]"]
    assert without.sender.values("text_output") == ["[97]"]


def test_an_engine_that_fails_once_fails_the_requests_of_its_batch_only(model: Model) -> None:
    model.made.error = RuntimeError("out of memory")
    assert "out of memory" in ended(model.ask(["x"])).sender.error
    model.made.error = None
    assert set(vectors(model.ask(["x"]))) == {0}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_an_error(model: Model, value: float) -> None:
    model.made.value = value
    assert "not finite" in ended(model.ask(["x"])).sender.error


def test_what_waits_when_the_model_stops_gets_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(monkeypatch)
    model.made.gate.clear()
    request = model.ask(["x"] * 8)
    wait_for(lambda: bool(model.made.batches))
    stopper = threading.Thread(target=model.finalize)
    stopper.start()
    wait_for(lambda: model.stopping)
    model.made.gate.set()
    stopper.join()
    assert "stopping" in ended(request).sender.error


def test_inputs_that_are_too_long_together_are_refused_in_words_of_the_api(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_TEXT_BYTES", 20)
    found = ended(model.ask(["a" * 20]))
    assert found.sender.error == "Refused: The input is longer than 20 bytes"
