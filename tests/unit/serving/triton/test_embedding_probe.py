"""The served embedding model must make the vectors of its checkpoint."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Callable

import pytest

from forge.errors import SmokeGateError, StepFailedError
from forge.serving.repository.embedding_probe import EmbeddingProbe
from forge.serving.repository.spec import EmbeddingSpec
from forge.serving.triton import embedding_probe
from forge.serving.triton.embedding_probe import check_embeddings
from forge.serving.triton.request import GenerateRequest

SPEC = EmbeddingSpec(
    name="minilm",
    model="embedding",
    dimensions=2,
    max_seq_len=8,
    pooling="mean",
    normalize=True,
    max_batch_size=1,
    max_inputs=8,
)
RIGHT: dict[str, tuple[float, ...]] = {"a": (1.0, 0.0), "b": (0.0, 1.0), "c": (0.6, 0.8)}


def encoded(vector: tuple[float, ...]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


PROBE = EmbeddingProbe(texts=tuple(RIGHT), embeddings=tuple(map(encoded, RIGHT.values())))
Answer = Callable[[list[str]], str]


def vectors(known: dict[str, tuple[float, ...]]) -> Answer:
    """A model that makes these vectors, the last one first."""

    def answer(texts: list[str]) -> str:
        lines = [json.dumps([at, encoded(known[text])]) for at, text in enumerate(texts)]
        return "\n".join(reversed(lines))

    return answer


@pytest.fixture
def check(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Answer], embedding_probe.EmbeddingAgreement]:
    """Check a model that is a function of the texts of a request."""

    def checked(model: Answer) -> embedding_probe.EmbeddingAgreement:
        def answer(
            _url: str, _model: str, request: GenerateRequest, **_: object
        ) -> tuple[str, None]:
            return model(json.loads(request.text)), None

        monkeypatch.setattr(embedding_probe, "answer", answer)
        return check_embeddings("http://127.0.0.1:1", SPEC, PROBE)

    return checked


Check = Callable[[Answer], embedding_probe.EmbeddingAgreement]


def test_the_vectors_of_the_checkpoint_agree(check: Check) -> None:
    found = check(vectors(RIGHT))
    assert found.texts == 3
    assert (found.cosine_alone, found.cosine_together) == pytest.approx((1.0, 1.0))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("text", list(RIGHT))
def test_a_value_that_is_not_finite_is_refused_wherever_it_is(
    check: Check, text: str, value: float
) -> None:
    with pytest.raises(SmokeGateError, match="does not compute what its checkpoint computes"):
        check(vectors({**RIGHT, text: (value, 0.0)}))


@pytest.mark.parametrize("vector", [(0.8, 0.6), (0.0, 0.0), (0.6, 0.8, 0.0), (0.6,)])
def test_another_vector_is_refused(check: Check, vector: tuple[float, ...]) -> None:
    with pytest.raises(SmokeGateError):
        check(vectors({**RIGHT, "c": vector}))


def test_a_model_that_is_wrong_in_batches_only_is_refused(check: Check) -> None:
    wrong = vectors({**RIGHT, "b": (math.nan, 1.0)})
    with pytest.raises(SmokeGateError, match=r"least cosine is 1\.0+ alone and 0\.0+ in batches"):
        check(lambda texts: (vectors(RIGHT) if len(texts) == 1 else wrong)(texts))


@pytest.mark.parametrize("lines", ["", "x", "[0]", '[0, "AAA="]', "[0, 1]", '{"0": "AACAPw=="}'])
def test_an_answer_that_is_no_vectors_is_an_error(check: Check, lines: str) -> None:
    with pytest.raises(StepFailedError, match="did not return a vector for each text"):
        check(lambda _texts: lines)
