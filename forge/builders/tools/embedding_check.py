"""Compare an embedding model with its checkpoint. Runs where the model is served.

    python embedding_check.py --engine DIR --reference FILE --encoder templates/…/encoder.py
        --words templates/shared/embedding_words.py --output DIR --probe DIR

    REFERENCE/reference.json    texts and their vectors
    OUTPUT/embedding.json       what was compared and how much it differs
    PROBE/probe.json            the reference, which devices compare with as well

The templates' own tokenizer and encoder compute the texts of the reference: each alone, and all in
batches of unequal lengths, in which padding must change nothing. Exit code 3: a file is not valid.
5: the model could not be computed. 6: a vector is not the checkpoint's.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import embedding_format
import room
from embedding_format import Embeddings, FormatError

CONFIGURATION_ERROR = 3
STEP_FAILED = 5
GATE_FAILED = 6
RECEIPT = "embedding.json"
LEAST_COSINE = 0.9999  # as forge/serving/triton/embedding_probe.py
BATCH = 8
# Measured: docs/reference/builders.md.
ROOM = room.Room(memory_mib=300, memory=3.0)
Embed = Callable[[Sequence[str]], Sequence[Sequence[float]]]


def main(argv: list[str] | None = None) -> int:
    """Compare and return the exit code."""
    parser = argparse.ArgumentParser(description="Compare an embedding model with a reference.")
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, required=True, help="the template's encoder.py")
    parser.add_argument("--words", type=Path, required=True, help="its embedding_words.py")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--probe", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        reference = embedding_format.read(arguments.reference / embedding_format.REFERENCE)
        weights = room.weights_mib(arguments.engine)
        what = f"comparing an embedding model of {weights} MiB"
        room.require(ROOM, what, arguments.output, weights)
        embed = load(arguments.engine, arguments.encoder, arguments.words)
        found = compare(reference, embed)
        for folder in (arguments.output, arguments.probe):
            folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(found, indent=2, sort_keys=True, allow_nan=False)
        (arguments.output / RECEIPT).write_text(text + "\n", encoding="utf-8")
        embedding_format.write(arguments.probe / embedding_format.PROBE, reference)
    except room.NoRoomError as error:
        return int(room.refuse(error))
    except FormatError as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    except (OSError, RuntimeError, ValueError) as error:
        sys.stderr.write(f"Error: the model could not be computed: {str(error).strip()}\n")
        return STEP_FAILED
    return verdict(found)


def load(engine: Path, encoder: Path, words: Path) -> Embed:
    """Return a function that computes texts as the served model does. Raises FormatError."""
    try:
        tokenizer = _module(words).Words(engine)
    except ImportError:
        raise
    except Exception as error:  # noqa: BLE001 - tokenizers raises no class of its own
        raise FormatError(f"the tokenizer cannot be loaded: {error}") from None
    computed = _module(encoder).Encoder(engine)

    def embed(texts: Sequence[str]) -> Any:
        return computed.embed(tokenizer.encode(list(texts)))

    return embed


def _module(path: Path) -> Any:
    sys.path.insert(0, str(path.parent))
    return importlib.import_module(path.stem)


def compare(reference: Embeddings, embed: Embed) -> dict[str, Any]:
    """Return the receipt: the least cosine and the largest difference, alone and in batches."""
    texts = reference.texts
    alone = [embed([text])[0] for text in texts]
    together: list[Sequence[float]] = []
    for start in range(0, len(texts), BATCH):
        together += list(embed(texts[start : start + BATCH]))
    return {
        "schema_version": 1,
        "texts": len(texts),
        "dimensions": len(reference.vectors[0]),
        "limit": {"cosine": LEAST_COSINE},
        "alone": differences(alone, reference.vectors),
        "together": {"batch": BATCH, **differences(together, reference.vectors)},
        "reference": reference.tools,
    }


def differences(
    found: Sequence[Sequence[float]], known: Sequence[Sequence[float]]
) -> dict[str, float | None]:
    """Return how much vectors differ.

    A width that differs, or a value that is not finite, is a cosine of 0, and a largest difference
    of None.
    """
    if any(len(one) != len(other) for one, other in zip(found, known, strict=True)):
        return {"cosine_min": 0.0, "difference_max": None}
    pairs = [([float(value) for value in one], other) for one, other in zip(found, known)]  # noqa: B905
    apart = [abs(a - b) for pair in pairs for a, b in zip(*pair, strict=True)]
    return {
        "cosine_min": min(embedding_format.cosine(*pair) for pair in pairs),
        "difference_max": max(apart) if all(map(math.isfinite, apart)) else None,
    }


def verdict(found: dict[str, Any]) -> int:
    """Say how it ended; return the exit code."""
    alone, together = found["alone"]["cosine_min"], found["together"]["cosine_min"]
    text = f"least cosine of {found['texts']} texts: {alone:.7f} alone, {together:.7f} in batches"
    if alone >= LEAST_COSINE and together >= LEAST_COSINE:
        sys.stderr.write(f"{text}\n")
        return 0
    sys.stderr.write(
        f"Error: the model does not compute what its checkpoint computes: {text}\n"
        f"  → at least {LEAST_COSINE} is wanted; use another checkpoint or runtime\n"
    )
    return GATE_FAILED


if __name__ == "__main__":
    code = main()
    # OpenVINO's threads may still run: flush the output and exit without waiting for them.
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(code)
