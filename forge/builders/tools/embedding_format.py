"""Texts and their vectors in a file: `reference.json` and `probe.json`. Standard library only.

    {"schema_version": 1, "texts": […], "embeddings": [base64 of float32, little endian, …],
     "tools": {package: version}}

The base64 is that of OpenAI's API with `encoding_format: base64`.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

REFERENCE = "reference.json"
PROBE = "probe.json"
MAX_BYTES = 64 * 1024 * 1024


class FormatError(Exception):
    """The file is not what it should be."""


@dataclass(frozen=True)
class Embeddings:
    """Texts and a vector for each.

    Attributes:
        texts: what was embedded.
        vectors: as many, of equal width.
        tools: versions of what computed them.
    """

    texts: list[str]
    vectors: list[list[float]]
    tools: dict[str, str] = field(default_factory=dict)


def write(path: Path, found: Embeddings) -> None:
    """Write a file; float64 is rounded to float32."""
    encoded = [
        base64.b64encode(struct.pack(f"<{len(one)}f", *one)).decode() for one in found.vectors
    ]
    document = {
        "schema_version": 1,
        "texts": found.texts,
        "embeddings": encoded,
        "tools": found.tools,
    }
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def read(path: Path) -> Embeddings:
    """Read a file. Raises FormatError, OSError."""
    if path.stat().st_size > MAX_BYTES:
        raise FormatError(f"{path.name} is larger than {MAX_BYTES} bytes")
    try:
        document = json.loads(path.read_bytes())
        texts = [str(one) for one in document["texts"]]
        vectors = [decode(one) for one in document["embeddings"]]
        tools = {str(name): str(version) for name, version in document["tools"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(f"{path.name} is not valid: {error!r}") from None
    if not texts or len(texts) != len(vectors) or len({len(one) for one in vectors}) != 1:
        raise FormatError(f"{path.name} has not one vector of equal width for each text")
    if not all(math.isfinite(value) for one in vectors for value in one):
        raise FormatError(f"{path.name} has values that are not finite")
    return Embeddings(texts, vectors, tools)


def decode(text: str) -> list[float]:
    """Return the numbers of a vector. Raises ValueError."""
    data = base64.b64decode(text, validate=True)
    if not data or len(data) % 4:
        raise ValueError("a vector is not float32")
    return list(struct.unpack(f"<{len(data) // 4}f", data))


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
