"""Compare what an engine computes with the reference of its checkpoint. Shared by builders' tools.

A tool `xyz_receipt.py` brings a Scorer for what it can execute, and calls `main`:

    python xyz_receipt.py --engine DIR --reference DIR --settings FILE --output DIR

    OUTPUT/receipt.json      divergences by section (forge.accuracy.receipt)
    OUTPUT/probe.json        64 tokens and what the engine said of them, for devices
    OUTPUT/weights.json      with --checkpoint DIR: its weights against the checkpoint's, if the
                             tool can compare them (openvino_weights.py)

Sections: `short`, every passage alone; `batch`, the same at full batch; `long`, one context of up
to 1,024 tokens; `decode`, 64 tokens one by one through the KV cache. In each: mean and 99th
percentile of the Kullback-Leibler divergence of the engine from the reference, in nats, over the
reference's 64 most likely tokens and the rest as one; how often both have the same most likely
token; and the engine's perplexity divided by the reference's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import room
from reference_format import (
    BLOCK,
    NAME,
    Expected,
    InvalidReferenceError,
    Passage,
    Reference,
    log_softmax,
    read,
)

CONFIGURATION_ERROR = 3
STEP_FAILED = 5
PROBE_TOKENS = 64
LOGIT_BYTES = 16  # of each of a call's logits: the engine's, a copy in float32, and in between
PROBE_PASSAGE = 0  # English: its tokens are the most common ones
MAX_SETTINGS_BYTES = 1024 * 1024


class EngineError(Exception):
    """The engine cannot be executed here."""


class Scorer(Protocol):
    """Something that computes logits with an engine."""

    executed: str
    """What is executed and by what: `OpenVINO IR, openvino 2026.4.1, CPU`."""

    precision: str
    """Type of most of its weights, as found in it: `int8`."""

    def score(self, rows: list[list[int]]) -> list[np.ndarray]:
        """Return logits, float32 [len(row), vocabulary], for each row.

        All rows are computed together in one batch, from an empty cache.
        """

    def decode(self, prompt: list[int], tokens: list[int]) -> np.ndarray:
        """Return logits, float32 [len(tokens), vocabulary]; row i predicts tokens[i].

        The prompt is computed at once, then the tokens one by one through the KV cache.
        """


def padded(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens and attention mask, int64 [rows, longest]; shorter rows end in zeros."""
    width = max(map(len, rows))
    tokens = np.array([[*row, *[0] * (width - len(row))] for row in rows], np.int64)
    mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows], np.int64)
    return tokens, mask


@dataclass(frozen=True)
class Limits:
    """What the engine is built for: sequences in a batch, tokens of a sequence."""

    batch: int
    tokens: int


@dataclass(frozen=True)
class Difference:
    """How much positions differ from the reference: one value each."""

    divergence: np.ndarray
    same_top: np.ndarray
    actual: np.ndarray
    reference: np.ndarray


def difference(logits: np.ndarray, following: np.ndarray, expected: Expected) -> Difference:
    """Compare logits [positions, vocabulary] with the reference at the same positions.

    Raises EngineError if the reference names tokens that the engine does not have.
    """
    blocks = [slice(start, start + BLOCK) for start in range(0, len(logits), BLOCK)]
    parts = [_difference(logits[one], following[one], expected.part(one)) for one in blocks]
    names = ("divergence", "same_top", "actual", "reference")
    return Difference(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _difference(logits: np.ndarray, following: np.ndarray, expected: Expected) -> Difference:
    most = max(int(expected.ids.max()), int(following.max()))
    if most >= logits.shape[-1]:
        raise EngineError(
            f"the engine computes logits of {logits.shape[-1]} tokens, but the reference names"
            f" token {most}: they are of different models"
        )
    found = log_softmax(logits)
    at_top = np.take_along_axis(found, expected.ids, -1)
    at_rest = np.log(np.maximum(1.0 - np.exp(at_top).sum(-1), 1e-12))
    top = np.exp(expected.logprobs)
    rest = np.exp(expected.rest)
    total = top.sum(-1) + rest  # not 1, as the logarithms are rounded
    divergence = (top * (expected.logprobs - at_top)).sum(-1) + rest * (expected.rest - at_rest)
    actual = np.take_along_axis(found, following[:, None], -1)[:, 0]
    # Not a number where the engine computes none: it must be seen and not be left out.
    return Difference(
        divergence / total - np.log(total),
        found.argmax(-1) == expected.ids[:, 0],
        actual,
        expected.actual,
    )


def section(parts: list[Difference], *, batch: int, context: int) -> dict[str, Any]:
    """Return the figures of one section."""
    divergence = np.concatenate([part.divergence for part in parts])
    same = np.concatenate([part.same_top for part in parts])
    actual = np.concatenate([part.actual for part in parts])
    reference = np.concatenate([part.reference for part in parts])
    figures = {
        "kl_mean": float(divergence.mean()),
        "kl_p99": float(np.percentile(divergence, 99)),
        "same_top": float(same.mean()),
        "perplexity": float(np.exp(-actual.mean())),
        "perplexity_ratio": float(np.exp(reference.mean() - actual.mean())),
    }
    # JSON has no infinity; a broken engine must give a receipt that the gate refuses.
    rounded = {name: round(value, 6) if np.isfinite(value) else None
               for name, value in figures.items()}  # fmt: skip
    return {"positions": len(divergence), "batch": batch, "context": context, **rounded}


def measure(reference: Reference, scorer: Scorer, limits: Limits) -> dict[str, Any]:
    """Return the sections of a receipt by name."""
    short = [cut(one, limits.tokens) for one in reference.of_kind("short")]
    long = [cut(one, limits.tokens) for one in reference.of_kind("long")]
    decode = [cut(one, limits.tokens) for one in reference.of_kind("decode")]
    found = {
        "short": _scored(short, scorer, 1),
        "long": _scored(long, scorer, 1),
        "decode": section(
            list(_decoded(decode, scorer)), batch=1, context=max(len(one.tokens) for one in decode)
        ),
    }
    if limits.batch > 1:
        found["batch"] = _scored(short, scorer, limits.batch)
    return found


def cut(passage: Passage, most: int) -> Passage:
    """Return the part of a passage that an engine for `most` tokens can hold."""
    tokens = passage.tokens[:most]
    count = len(tokens) - 1 - passage.start
    if count < 1:
        raise EngineError(f"the engine holds {most} tokens, too few to be compared")
    return Passage(passage.kind, tokens, passage.start, passage.expected.first(count))


def probe(reference: Reference, scorer: Scorer, limits: Limits) -> dict[str, Any]:
    """Return the positions that a device repeats, with the engine's own logarithms."""
    passage = cut(reference.of_kind("short")[PROBE_PASSAGE], min(PROBE_TOKENS + 1, limits.tokens))
    logits = scorer.score([passage.tokens])[0]
    found = difference(logits[:-1], np.array(passage.tokens[1:]), passage.expected)
    return {
        "schema_version": 1,
        "tokens": passage.tokens,
        "logprobs": [round(float(one), 4) if np.isfinite(one) else None for one in found.actual],
    }


def _scored(passages: list[Passage], scorer: Scorer, batch: int) -> dict[str, Any]:
    parts = []
    for rows in _batches(passages, batch):
        for passage, logits in zip(rows, scorer.score([one.tokens for one in rows]), strict=True):
            following = np.array(passage.tokens[passage.start + 1 :])
            part = logits[passage.start : len(passage.tokens) - 1]
            parts.append(difference(part, following, passage.expected))
    return section(parts, batch=batch, context=max(len(one.tokens) for one in passages))


def _batches(passages: list[Passage], batch: int) -> Iterator[list[Passage]]:
    """Yield full batches only: the last one is filled up from the beginning."""
    for start in range(0, len(passages), batch):
        rows = passages[start : start + batch]
        yield [*rows, *passages[: batch - len(rows)]] if len(passages) >= batch else rows


def _decoded(passages: list[Passage], scorer: Scorer) -> Iterator[Difference]:
    for passage in passages:
        prompt = passage.tokens[: passage.start + 1]
        tokens = passage.tokens[passage.start + 1 :]
        yield difference(scorer.decode(prompt, tokens), np.array(tokens), passage.expected)


Weigher = Callable[[Path, Path], dict[str, Any]]


def main(
    load: Callable[[Path], Scorer],
    need: Callable[[Path], room.Room],
    argv: list[str] | None = None,
    weigh: Weigher | None = None,
) -> int:
    """Measure the engine that `load` loads from a folder; return the exit code.

    Args:
        load: returns what executes the engine of a folder.
        need: returns what that takes for the engine of a folder, for each MiB of its weights.
        argv: the arguments; those of the command line for None.
        weigh: returns the content of weights.json for the folders of engine and checkpoint.
    """
    parser = argparse.ArgumentParser(description="Compare an engine with its checkpoint.")
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    if weigh is not None:
        parser.add_argument("--checkpoint", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        limits = read_limits(arguments.settings)
        reference = read(arguments.reference / NAME)
        weights = room.weights_mib(arguments.engine)
        what = f"executing {weights} MiB of weights"
        room.require(
            need(arguments.engine), what, arguments.output, weights, logits_mib(reference, limits)
        )
        if weigh is not None:
            _write_json(arguments.output, "weights", weigh(arguments.engine, arguments.checkpoint))
        _write(load, arguments, reference, limits)
    except room.NoRoomError as error:
        return int(room.refuse(error))
    except (EngineError, InvalidReferenceError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    except (OSError, RuntimeError, MemoryError) as error:
        sys.stderr.write(f"Error: the engine could not be executed: {str(error).strip()}\n")
        return STEP_FAILED
    return 0


def logits_mib(reference: Reference, limits: Limits) -> float:
    """Return the MiB of memory for the logits of the largest call.

    Raises InvalidReferenceError.
    """
    longest = {kind: max((len(one.tokens) for one in reference.of_kind(kind)), default=0)
               for kind in ("short", "long")}  # fmt: skip
    positions = max(
        limits.batch * min(longest["short"], limits.tokens), min(longest["long"], limits.tokens)
    )
    vocabulary = reference.facts.get("vocabulary")
    if type(vocabulary) is not int:
        raise InvalidReferenceError("the reference does not state the size of its vocabulary")
    return positions * vocabulary * LOGIT_BYTES / room.MIB


def _write(
    load: Callable[[Path], Scorer],
    arguments: argparse.Namespace,
    reference: Reference,
    limits: Limits,
) -> None:
    path = arguments.reference / NAME
    begin = time.monotonic()
    scorer = load(arguments.engine)
    sections = measure(reference, scorer, limits)
    probed = probe(reference, scorer, limits)
    document = {
        "schema_version": 1,
        "executed": scorer.executed,
        "precision": scorer.precision,
        "reference": {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            **{name: reference.facts[name] for name in ("precision", "architecture", "text")},
        },
        "sections": sections,
        "seconds": round(time.monotonic() - begin, 1),
    }
    _write_json(arguments.output, "receipt", document)
    _write_json(arguments.output, "probe", probed)
    for name, found in sorted(sections.items()):
        sys.stderr.write(f"{name}: {_line(found)}\n")


def _write_json(folder: Path, name: str, value: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, indent=2, sort_keys=True) + "\n"
    (folder / f"{name}.json").write_text(text, encoding="utf-8")


def read_limits(settings: Path) -> Limits:
    """Return the engine's limits from the profile fields. Raises EngineError."""
    try:
        if settings.stat().st_size > MAX_SETTINGS_BYTES:
            raise EngineError(f"{settings.name} is larger than {MAX_SETTINGS_BYTES} bytes")
        engine = json.loads(settings.read_bytes())["engine"]
        return Limits(int(engine["max_batch_size"]), int(engine["max_seq_len"]))
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{settings.name} is not a valid settings file: {error}") from None


def _line(found: dict[str, Any]) -> str:
    values = (f"{name} {found[name]}" for name in ("kl_mean", "kl_p99", "perplexity_ratio"))
    same = found["same_top"]
    share = "unknown" if same is None else f"{same:.1%}"
    return f"{found['positions']} positions, {', '.join(values)}, same top token {share}"
