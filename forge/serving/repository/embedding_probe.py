"""`embedding.json` of a rendered tree: texts, and their vectors by the checkpoint itself.

A device lets its embedding model compute the same texts before it commits a bundle.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["EMBEDDING_FILE", "EmbeddingProbe", "cosine", "decode_vector"]

EMBEDDING_FILE: Final = "embedding.json"
_FLOAT_BYTES: Final = 4


class EmbeddingProbe(BaseModel):
    """Texts, and the vector that the checkpoint makes of each."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    schema_version: Literal[1] = 1
    texts: tuple[Annotated[str, Field(min_length=1, max_length=8192)], ...] = Field(
        min_length=1, max_length=256
    )
    embeddings: tuple[str, ...] = Field(description="base64 of float32, little endian")

    @model_validator(mode="after")
    def _one_for_each(self) -> EmbeddingProbe:
        vectors = self.vectors
        if len(vectors) != len(self.texts) or len({len(one) for one in vectors}) != 1:
            raise ValueError("embeddings has one vector of equal width for each text")
        if not all(math.isfinite(value) for one in vectors for value in one):
            raise ValueError("embeddings has values that are not finite")
        return self

    @property
    def vectors(self) -> tuple[tuple[float, ...], ...]:
        """Return the numbers of each vector."""
        return tuple(map(decode_vector, self.embeddings))


def decode_vector(text: str) -> tuple[float, ...]:
    """Return the numbers of one vector. Raises ValueError."""
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"a vector is not base64: {error}") from None
    if not data or len(data) % _FLOAT_BYTES:
        raise ValueError("a vector is not a list of float32")
    return struct.unpack(f"<{len(data) // _FLOAT_BYTES}f", data)


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the cosine of the angle between two vectors.

    It is 0 if one of them has no length or a value that is not finite: min and max of several
    cosines would leave out one that is not a number. Raises ValueError for different widths.
    """
    if not all(map(math.isfinite, (*one, *other))):
        return 0.0
    length = math.sqrt(math.fsum(a * a for a in one) * math.fsum(b * b for b in other))
    dot = math.fsum(a * b for a, b in zip(one, other, strict=True))
    return dot / length if length else 0.0
