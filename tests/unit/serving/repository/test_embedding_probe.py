"""The vectors that a device compares its embedding model with."""

from __future__ import annotations

import base64
import math
import struct
from pathlib import Path

import pytest
from pydantic import ValidationError

from forge.serving.repository.embedding_probe import EmbeddingProbe, cosine, decode_vector

REFERENCES = Path(__file__).resolve().parents[4] / "references"


def encoded(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def test_vectors_are_float32_in_little_endian() -> None:
    assert decode_vector("AACAPwAAAMA=") == (1.0, -2.0)


@pytest.mark.parametrize("text", ["", "AAA=", "no base64", "AACA"])
def test_what_is_not_a_vector_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a vector is not"):
        decode_vector(text)


@pytest.mark.parametrize(
    ("texts", "embeddings"),
    [
        (("a",), ()),
        ((), ()),
        (("a", "b"), (encoded(1.0), encoded(1.0, 2.0))),
        (("a",), (encoded(math.nan),)),
        (("",), (encoded(1.0),)),
    ],
)
def test_a_probe_has_one_finite_vector_of_equal_width_for_each_text(
    texts: tuple[str, ...], embeddings: tuple[str, ...]
) -> None:
    with pytest.raises(ValidationError):
        EmbeddingProbe(texts=texts, embeddings=embeddings)


def test_the_cosine_is_that_of_the_angle() -> None:
    assert cosine((1.0, 0.0), (1.0, 1.0)) == pytest.approx(math.sqrt(0.5))
    assert cosine((2.0, 2.0), (1.0, 1.0)) == pytest.approx(1.0)
    assert cosine((1.0,), (-3.0,)) == pytest.approx(-1.0)
    assert cosine((0.0, 0.0), (1.0, 1.0)) == 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_cosine_with_a_value_that_is_not_finite_is_0(value: float) -> None:
    assert cosine((1.0, value), (1.0, 1.0)) == cosine((1.0, 1.0), (value, 1.0)) == 0.0


def test_stored_references_are_probes_with_vectors_of_length_1() -> None:
    paths = list(REFERENCES.glob("*.embeddings.json"))
    assert paths
    for path in paths:
        found = EmbeddingProbe.model_validate_json(path.read_bytes())
        assert all(math.hypot(*one) == pytest.approx(1.0, abs=1e-6) for one in found.vectors)
