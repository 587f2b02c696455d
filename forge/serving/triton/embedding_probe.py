"""The embedding probe: a served model makes known vectors, alone and in batches, or is refused."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge.errors import SmokeGateError, StepFailedError
from forge.serving.repository.embedding_probe import (
    EMBEDDING_FILE,
    EmbeddingProbe,
    cosine,
    decode_vector,
)
from forge.serving.repository.spec import EmbeddingSpec, Spec, read_document
from forge.serving.triton.client import answer
from forge.serving.triton.request import GenerateRequest, HttpTimeouts

__all__ = ["LEAST_COSINE", "EmbeddingAgreement", "check_embeddings", "probe_embeddings"]

# all-MiniLM-L6-v2 with weights in 16 bits has 0.999998 at least over 32 texts in ten scripts, with
# arithmetic in bfloat16 0.99995; where padding is not masked 0.02.
LEAST_COSINE: Final = 0.9999
_TIMEOUTS: Final = HttpTimeouts(first=60.0, total=120.0)


@dataclass(frozen=True, slots=True)
class EmbeddingAgreement:
    """How the served model's vectors differ from the checkpoint's.

    Attributes:
        texts: number of texts, each asked alone and with others.
        cosine_alone: least cosine of texts that were asked alone.
        cosine_together: least cosine of texts that were asked in one request.
    """

    texts: int
    cosine_alone: float
    cosine_together: float


def probe_embeddings(url: str, spec: Spec, tree: Path) -> EmbeddingAgreement | None:
    """Check the embedding model of a served tree, if it has one that was compared when built.

    Raises:
        SmokeGateError: the model computes something else than its checkpoint.
        StepFailedError: it did not answer.
        ConfigurationError, StoreError: the tree's probe cannot be read.
    """
    path = tree / EMBEDDING_FILE
    if spec.embedding is None or not path.is_file():
        return None
    return check_embeddings(url, spec.embedding, read_document(path, EmbeddingProbe))


def check_embeddings(url: str, model: EmbeddingSpec, probe: EmbeddingProbe) -> EmbeddingAgreement:
    """Let a running model compute the probe's texts, alone at the same time and in one request.

    Raises:
        SmokeGateError: a vector is not the checkpoint's.
        StepFailedError: it did not answer.
    """

    def alone(text: str) -> tuple[float, ...]:
        return _embed(url, model, [text])[0]

    with ThreadPoolExecutor(model.max_batch_size) as pool:
        single = list(pool.map(alone, probe.texts))
    together = _embed(url, model, list(probe.texts))
    found = EmbeddingAgreement(
        len(probe.texts),
        _least(single, probe.vectors),
        _least(together, probe.vectors),
    )
    # Written so that a value that is not a number fails.
    if found.cosine_alone >= LEAST_COSINE and found.cosine_together >= LEAST_COSINE:
        return found
    raise SmokeGateError(
        "The embedding model does not compute what its checkpoint computes",
        why=f"over {found.texts} texts the least cosine is {found.cosine_alone:.6f} alone and"
        f" {found.cosine_together:.6f} in batches; at least {LEAST_COSINE:g} is wanted",
        hint="the engine is damaged, or its runtime computes wrongly on this machine",
    )


def _embed(url: str, model: EmbeddingSpec, texts: list[str]) -> list[tuple[float, ...]]:
    request = GenerateRequest(json.dumps(texts), input_format="embed")
    lines, _ = answer(url, model.model, request, timeouts=_TIMEOUTS)
    try:
        found = {
            int(index): decode_vector(one) for index, one in map(json.loads, lines.splitlines())
        }
        return [found[index] for index in range(len(texts))]
    except (ValueError, TypeError, KeyError, RecursionError):
        message = "The embedding model did not return a vector for each text"
        raise StepFailedError(message, why=lines[:200], hint="see Triton's log") from None


def _least(found: list[tuple[float, ...]], known: tuple[tuple[float, ...], ...]) -> float:
    try:
        return min(cosine(*pair) for pair in zip(found, known, strict=True))
    except ValueError:  # vectors of another width
        return 0.0
