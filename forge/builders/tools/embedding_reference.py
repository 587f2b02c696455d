"""Compute the vectors that a compiled model is compared with. Environment: `transformers`.

    python embedding_reference.py --checkpoint DIR --text FILE --output DIR

    OUTPUT/reference.json    texts and their vectors: see embedding_format.py

The checkpoint is computed by transformers in float32, one text at a time, so that there is no
padding. Texts are the passages of FILE and their beginnings, as far as the model takes them. Exit
code 3: the checkpoint cannot be loaded. 5: it could not be computed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import embedding_checkpoint
import embedding_format
import room
from embedding_checkpoint import EmbeddingCheckpoint, UnsupportedEmbeddingError

CONFIGURATION_ERROR = 3
STEP_FAILED = 5
BEGINNINGS = (20, 110)  # characters: texts of unequal lengths share a batch
# Measured: docs/reference/builders.md; weights in 16 bits become float32.
ROOM = room.Room(memory_mib=700, memory=3.0)
TOOLS = ("transformers", "torch", "tokenizers")


def main(argv: list[str] | None = None) -> int:
    """Compute and return the exit code."""
    parser = argparse.ArgumentParser(description="Compute the reference of an embedding model.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        weights = room.weights_mib(arguments.checkpoint)
        what = f"computing with {weights} MiB of weights"
        room.require(ROOM, what, arguments.output, weights)
        found = compute(arguments.checkpoint, texts_of(arguments.text))
    except room.NoRoomError as error:
        return int(room.refuse(error))
    except UnsupportedEmbeddingError as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    except (OSError, RuntimeError) as error:
        sys.stderr.write(f"Error: the reference could not be computed: {str(error).strip()}\n")
        return STEP_FAILED
    arguments.output.mkdir(parents=True, exist_ok=True)
    embedding_format.write(arguments.output / embedding_format.REFERENCE, found)
    sys.stderr.write(f"reference of {len(found.texts)} texts\n")
    return 0


def texts_of(path: Path) -> list[str]:
    """Return the passages of a text file, and their beginnings."""
    passages = [str(one) for one in json.loads(path.read_bytes())["passages"]]
    return [*passages, *(one[:size] for size in BEGINNINGS for one in passages)]


def compute(checkpoint: Path, texts: list[str]) -> embedding_format.Embeddings:
    """Return the vectors of those texts that the model takes."""
    import torch

    found = embedding_checkpoint.read_checkpoint(checkpoint)
    model, tokenizer = load(found)
    kept, vectors = [], []
    with torch.no_grad():
        for text in texts:
            given = tokenizer(text, return_tensors="pt", truncation=False, padding=False)
            if given["input_ids"].shape[1] > found.max_seq_len:
                continue
            vector = pooled(model(**given).last_hidden_state[0], found)
            kept.append(text)
            vectors.append([float(one) for one in vector])
            if not all(map(math.isfinite, vectors[-1])):
                raise UnsupportedEmbeddingError(
                    "the checkpoint computes values that are not finite"
                )
    if not kept:
        raise UnsupportedEmbeddingError(f"no text has at most {found.max_seq_len} tokens")
    tools = {name: metadata.version(name) for name in TOOLS}
    return embedding_format.Embeddings(kept, vectors, tools)


def load(found: EmbeddingCheckpoint) -> tuple[Any, Any]:
    """Return model and tokenizer. Raises UnsupportedEmbeddingError."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        model = AutoModel.from_pretrained(found.folder, dtype=torch.float32, **options)
        tokenizer = AutoTokenizer.from_pretrained(found.folder, **options)
    except (ValueError, KeyError, OSError, RuntimeError, ImportError) as error:
        message = f"transformers could not load the checkpoint: {error}"
        raise UnsupportedEmbeddingError(message) from None
    return model.eval(), tokenizer


def pooled(hidden: Any, found: EmbeddingCheckpoint) -> Any:
    """Return one vector of the vectors of a text's tokens, of which none is padding."""
    import torch

    vector = hidden.mean(dim=0) if found.pooling == "mean" else hidden[0]
    return torch.nn.functional.normalize(vector, dim=0) if found.normalize else vector


if __name__ == "__main__":
    sys.exit(main())
