"""The reference of a checkpoint: what its own computation says of every position of a fixed text.

One file, `reference.npz`, which needs numpy only and is at most 1 MB:

    facts      JSON as bytes: text, checkpoint, precision and versions of the computation
    tokens     int32 [all tokens], passage after passage
    lengths    int32 [passages]
    starts     int32 [passages]   first position whose prediction is compared
    kinds      int8 [passages]    index in KINDS
    ids        int32 [positions, 64]     the most likely next tokens, best first
    logprobs   float16 [positions, 64]   their natural logarithms
    rest       float32 [positions]       logarithm of what all other tokens have together
    actual     float32 [positions]       logarithm of the token that the text continues with

Position i of a passage predicts its token i + 1; compared are `starts` to length - 2.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

NAME = "reference.npz"
KINDS = ("short", "long", "decode")
TOP = 64
BLOCK = 8  # positions at a time: their logarithms, in float64, stay in the processor's cache
MAX_BYTES = 1_000_000
MAX_FILE_BYTES = 16 * 1024 * 1024
ARRAYS = ("facts", "tokens", "lengths", "starts", "kinds", "ids", "logprobs", "rest", "actual")


class InvalidReferenceError(Exception):
    """The file is not a valid reference."""


@dataclass(frozen=True)
class Expected:
    """The reference's distributions at some positions.

    Attributes:
        ids: [positions, TOP], best first.
        logprobs: [positions, TOP], float32.
        rest: [positions].
        actual: [positions].
    """

    ids: np.ndarray
    logprobs: np.ndarray
    rest: np.ndarray
    actual: np.ndarray

    def first(self, count: int) -> Expected:
        """Return the first positions."""
        return self.part(slice(count))

    def part(self, positions: slice) -> Expected:
        """Return some of the positions."""
        parts = (self.ids, self.logprobs, self.rest, self.actual)
        return Expected(*(part[positions] for part in parts))


@dataclass(frozen=True)
class Passage:
    """A text as tokens, and what is expected of it.

    Attributes:
        kind: one of KINDS.
        tokens: all of it.
        start: first position whose prediction is compared; for `decode` the prompt's last token.
        expected: of positions start to len(tokens) - 2.
    """

    kind: str
    tokens: list[int]
    start: int
    expected: Expected


@dataclass(frozen=True)
class Reference:
    """All passages, and the facts of how they were computed."""

    facts: dict[str, Any]
    passages: tuple[Passage, ...]

    def of_kind(self, kind: str) -> list[Passage]:
        """Return the passages of one kind."""
        return [passage for passage in self.passages if passage.kind == kind]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return logarithms of probabilities over the last axis, in float64."""
    values = logits.astype(np.float64)
    values -= values.max(-1, keepdims=True)
    values -= np.log(np.exp(values).sum(-1, keepdims=True))
    return values


def expect(logits: np.ndarray, following: np.ndarray) -> Expected:
    """Return what a reference keeps of logits [positions, vocabulary] and the next tokens."""
    blocks = [slice(start, start + BLOCK) for start in range(0, len(logits), BLOCK)]
    parts = [_expect(logits[one], following[one]) for one in blocks]
    names = ("ids", "logprobs", "rest", "actual")
    return Expected(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _expect(logits: np.ndarray, following: np.ndarray) -> Expected:
    logprobs = log_softmax(logits)
    top = min(TOP, logprobs.shape[-1])
    ids = np.argpartition(-logprobs, top - 1, axis=-1)[:, :top]
    kept = np.take_along_axis(logprobs, ids, -1)
    order = np.argsort(-kept, axis=-1, kind="stable")
    ids = np.take_along_axis(ids, order, -1)
    kept = np.take_along_axis(kept, order, -1)
    rest = np.log(np.maximum(1.0 - np.exp(kept).sum(-1), 1e-12))
    actual = np.take_along_axis(logprobs, following[:, None], -1)[:, 0]
    return Expected(ids, kept, rest, actual)


def write(path: Path, reference: Reference) -> None:
    """Write a reference; equal ones give equal bytes."""
    passages = reference.passages
    expected = [passage.expected for passage in passages]
    facts = json.dumps(reference.facts, sort_keys=True).encode()
    arrays = {
        "facts": np.frombuffer(facts, np.uint8),
        "tokens": np.concatenate([np.array(one.tokens, np.int32) for one in passages]),
        "lengths": np.array([len(one.tokens) for one in passages], np.int32),
        "starts": np.array([one.start for one in passages], np.int32),
        "kinds": np.array([KINDS.index(one.kind) for one in passages], np.int8),
        "ids": np.concatenate([one.ids for one in expected]).astype(np.int32),
        "logprobs": np.concatenate([one.logprobs for one in expected]).astype(np.float16),
        "rest": np.concatenate([one.rest for one in expected]).astype(np.float32),
        "actual": np.concatenate([one.actual for one in expected]).astype(np.float32),
    }
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read(path: Path) -> Reference:
    """Read a reference. Raises InvalidReferenceError."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidReferenceError(f"{path.name} is larger than {MAX_FILE_BYTES} bytes")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ARRAYS}
        facts = json.loads(arrays["facts"].tobytes())
        return Reference(facts, tuple(_passages(arrays)))
    except (OSError, ValueError, KeyError, IndexError, BadZipFile, zlib.error) as error:
        raise InvalidReferenceError(f"{path.name} is not a valid reference: {error}") from None


def _passages(arrays: dict[str, np.ndarray]) -> list[Passage]:
    found, token, position = [], 0, 0
    rows = zip(arrays["kinds"], arrays["lengths"], arrays["starts"], strict=True)
    for kind, length, start in rows:
        count = int(length) - 1 - int(start)
        if count < 1 or start < 0:
            raise InvalidReferenceError("a passage has no position to compare")
        part = slice(position, position + count)
        expected = Expected(
            arrays["ids"][part].astype(np.int64),
            arrays["logprobs"][part].astype(np.float64),
            arrays["rest"][part].astype(np.float64),
            arrays["actual"][part].astype(np.float64),
        )
        if len(expected.ids) != count or len(expected.actual) != count:
            raise InvalidReferenceError("it has fewer positions than its passages")
        tokens = arrays["tokens"][token : token + int(length)]
        found.append(Passage(KINDS[kind], [int(one) for one in tokens], int(start), expected))
        token += int(length)
        position += count
    if not found:
        raise InvalidReferenceError("it has no passages")
    return found
