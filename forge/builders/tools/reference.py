"""Compute the reference of a checkpoint. Runs in the tool environment `transformers`.

    python reference.py --checkpoint DIR --text FILE --output DIR

    OUTPUT/reference.npz     see reference_format.py

The checkpoint, a Hugging Face folder, is computed by transformers in float32, or in bfloat16 if the
machine has not the memory. Compared are: each passage of the text alone, up to 96 tokens; all of it
as one context, up to 1,024 tokens; and 64 tokens that the checkpoint chooses greedily after the
start of a passage. Exit code 3: the checkpoint cannot be loaded. 5: it could not be computed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import room
from reference_format import MAX_BYTES, NAME, Expected, Passage, Reference, expect, write

CONFIGURATION_ERROR = 3
STEP_FAILED = 5
SHORT_TOKENS = 96
LONG_TOKENS = 1024
PROMPT_TOKENS = 32
DECODED_TOKENS = 64
DECODED_PASSAGES = (0, 1)  # English, Python
LEAST_TOKENS = 2048  # of the text
TOOLS = ("transformers", "torch")
# For each MiB of weights in 16 bits; measured: docs/reference/builders.md.
ROOM = {
    "float32": room.Room(memory_mib=700, memory=2.6),
    "bfloat16": room.Room(memory_mib=700, memory=1.3),
}
LOGIT_BYTES = 12  # of each of the long context's logits: the model's, and a copy in float32


class CheckpointError(Exception):
    """The checkpoint cannot be loaded."""


def main(argv: list[str] | None = None) -> int:
    """Compute and return the exit code."""
    parser = argparse.ArgumentParser(description="Compute the reference of a checkpoint.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        precision = check_room(arguments.checkpoint, arguments.output)
        reference = compute(arguments.checkpoint, arguments.text, precision)
    except room.NoRoomError as error:
        return int(room.refuse(error))
    except CheckpointError as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    except (OSError, RuntimeError) as error:
        sys.stderr.write(f"Error: the reference could not be computed: {str(error).strip()}\n")
        return STEP_FAILED
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / NAME
    write(path, reference)
    size, positions = path.stat().st_size, sum(len(one.expected.rest) for one in reference.passages)
    sys.stderr.write(f"reference of {positions} positions, {size} bytes\n")
    if size > MAX_BYTES:
        sys.stderr.write(f"Error: the reference has {size} bytes, more than {MAX_BYTES}\n")
        return STEP_FAILED
    return 0


def compute(checkpoint: Path, text: Path, precision: str) -> Reference:
    """Return the reference, computed in `float32` or `bfloat16`. Raises CheckpointError."""
    data = text.read_bytes()
    passages = [str(one) for one in json.loads(data)["passages"]]
    begin = time.monotonic()
    model, tokenizer = load(checkpoint, precision)
    limit = int(getattr(model.config, "max_position_embeddings", LONG_TOKENS) or LONG_TOKENS)
    short = [tokens_of(tokenizer, one, min(SHORT_TOKENS, limit)) for one in passages]
    long = tokens_of(tokenizer, "\n\n".join(passages), min(LONG_TOKENS, limit))
    found = [scored(model, "short", tokens) for tokens in short]
    found.append(scored(model, "long", long))
    found += [decoded(model, short[index], limit) for index in DECODED_PASSAGES]
    total = sum(len(one.tokens) for one in found)
    if total < LEAST_TOKENS and limit >= LONG_TOKENS:
        raise CheckpointError(f"the text has only {total} tokens, {LEAST_TOKENS} are required")
    facts = {
        "schema_version": 1,
        "text": {"sha256": hashlib.sha256(data).hexdigest(), "tokens": total},
        "precision": precision,
        "architecture": str(model.config.model_type),
        "vocabulary": int(model.config.vocab_size),
        "tools": {name: metadata.version(name) for name in TOOLS},
    }
    sys.stderr.write(f"computed in {precision} in {time.monotonic() - begin:.0f} s\n")
    return Reference(facts, tuple(found))


def load(checkpoint: Path, precision: str) -> tuple[Any, Any]:
    """Return model and tokenizer. Raises CheckpointError."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            checkpoint, dtype=getattr(torch, precision), output_loading_info=True, **options
        )
        tokenizer = AutoTokenizer.from_pretrained(checkpoint, **options)
    except (ValueError, KeyError, OSError, RuntimeError, ImportError) as error:
        raise CheckpointError(f"transformers could not load the checkpoint: {error}") from None
    wrong = sorted({*report["missing_keys"], *report["unexpected_keys"]})
    if wrong or report["mismatched_keys"]:
        names = ", ".join(wrong[:5]) or str(report["mismatched_keys"])[:200]
        raise CheckpointError(
            f"the checkpoint's tensors are not those of its config.json: {names}\n"
            "  → use a complete checkpoint of one model"
        )
    return model.eval(), tokenizer


def check_room(checkpoint: Path, output: Path) -> str:
    """Return the highest precision that the memory is enough for: float32, else bfloat16.

    Raises NoRoomError if it is not even enough for that, or the disk is full.
    """
    weights, logits = room.weights_mib(checkpoint), logits_mib(checkpoint)
    precision = precision_for(weights, logits, room.available_memory_mib())
    what = f"computing with {weights} MiB of weights in {precision}"
    room.require(ROOM[precision], what, output, weights, logits)
    return precision


def precision_for(weights_mib: float, logits_mib: float, available_mib: int | None) -> str:
    """Return the highest precision that fits into the memory, bfloat16 if none does.

    Weights are counted as 2 bytes each: a float32 file takes its own size, which is less than this.
    """
    need = ROOM["float32"]
    needed = need.memory_mib + need.memory * weights_mib + logits_mib
    return "bfloat16" if available_mib is not None and needed > available_mib else "float32"


def logits_mib(checkpoint: Path) -> float:
    """Return the MiB of memory for the logits of the long context. Raises CheckpointError."""
    try:
        config = json.loads((checkpoint / "config.json").read_bytes())
        vocabulary = int((config.get("text_config") or config)["vocab_size"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"config.json has no valid vocab_size: {error!r}") from None
    return LONG_TOKENS * vocabulary * LOGIT_BYTES / room.MIB


def tokens_of(tokenizer: Any, text: str, most: int) -> list[int]:
    """Return the tokens of a text as a prompt begins, cut to `most`."""
    return [int(token) for token in tokenizer(text)["input_ids"]][:most]


def logits_of(model: Any, tokens: list[int]) -> np.ndarray:
    """Return logits [len(tokens), vocabulary] of one row."""
    import torch

    with torch.inference_mode():
        result: np.ndarray = model(torch.tensor([tokens])).logits[0].float().numpy()
    return result


def scored(model: Any, kind: str, tokens: list[int]) -> Passage:
    """Return a passage whose every position is compared."""
    return Passage(kind, tokens, 0, expected_from(logits_of(model, tokens), tokens, 0))


def decoded(model: Any, tokens: list[int], limit: int) -> Passage:
    """Return the start of a passage and what the model continues with, most likely first."""
    import torch

    prompt = tokens[:PROMPT_TOKENS]
    chosen: list[int] = []
    with torch.inference_mode():
        state = model(torch.tensor([prompt]), use_cache=True)
        for _ in range(min(DECODED_TOKENS, limit - len(prompt))):
            chosen.append(int(state.logits[0, -1].argmax()))
            state = model(
                torch.tensor([chosen[-1:]]), past_key_values=state.past_key_values, use_cache=True
            )
    # Computed in one piece, so that an error of the cache cannot be in both.
    whole = [*prompt, *chosen]
    start = len(prompt) - 1
    return Passage("decode", whole, start, expected_from(logits_of(model, whole), whole, start))


def expected_from(logits: np.ndarray, tokens: list[int], start: int) -> Expected:
    """Return what is expected from position `start` to the last but one."""
    return expect(logits[start:-1], np.array(tokens[start + 1 :]))


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # torch's threads may still run
