"""What the tools of embedding models and the devices have twice, since tools import none of Forge.

A build that passes and a device that refuses it must not happen, so both have the same limit, and
read and compare vectors in the same way.
"""

from __future__ import annotations

import base64
import itertools
import math
import struct
from pathlib import Path

import embedding_check
import embedding_format
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.serving.repository import embedding_probe
from forge.serving.triton.embedding_probe import LEAST_COSINE

NUMBERS = (0.0, -0.0, 1.0, -1.5, 1e-45, 3.4e38, -3.4e38, math.nan, math.inf, -math.inf)


def test_the_build_and_the_device_want_the_same_cosine() -> None:
    assert embedding_check.LEAST_COSINE == LEAST_COSINE


def test_they_compute_the_same_cosine() -> None:
    for one, other in itertools.product(itertools.product(NUMBERS, repeat=2), repeat=2):
        found = embedding_format.cosine(one, other)
        assert found == embedding_probe.cosine(one, other)
        assert -1.000001 <= found <= 1.000001
    for cosine in (embedding_format.cosine, embedding_probe.cosine):
        with pytest.raises(ValueError, match="argument 2 is shorter"):
            cosine((1.0, 2.0), (1.0,))


def test_they_read_the_same_numbers() -> None:
    text = base64.b64encode(struct.pack(f"<{len(NUMBERS)}f", *NUMBERS)).decode()
    found = [decode(text) for decode in (embedding_format.decode, embedding_probe.decode_vector)]
    assert list(map(repr, found[0])) == list(map(repr, found[1]))
    assert struct.pack(f"<{len(NUMBERS)}f", *found[0]) == struct.pack(f"<{len(NUMBERS)}f", *NUMBERS)


@given(
    st.one_of(
        st.text(max_size=12), st.binary(max_size=9).map(lambda b: base64.b64encode(b).decode())
    )
)
def test_they_refuse_the_same_texts(text: str) -> None:
    def read(decode: object) -> list[str] | None:
        try:
            return list(map(repr, decode(text)))  # type: ignore[operator]
        except ValueError:
            return None

    assert read(embedding_format.decode) == read(embedding_probe.decode_vector)


def test_what_the_tool_writes_the_device_reads(tmp_path: Path) -> None:
    found = embedding_format.Embeddings(["a", "b"], [[1.0, 2.0], [0.5, -0.25]], {})
    embedding_format.write(tmp_path / "probe.json", found)
    text = (tmp_path / "probe.json").read_bytes()
    probe = embedding_probe.EmbeddingProbe.model_validate_json(text)
    assert list(map(list, probe.vectors)) == found.vectors
    assert embedding_format.read(tmp_path / "probe.json") == found
