# ruff: noqa: INP001 - Triton loads this file by its path
"""From prompts to tokens, one at a time, over a runtime that keeps the KV caches. No CUDA here.

The engine's KV cache is one tensor per layer, so sequences of unlike length cannot share a call:
each has a slot of the runtime, and a step calls the engine once for each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np


class Runtime(Protocol):
    """The boundary to CUDA: an engine and its KV caches."""

    slots: int
    prompt_piece: int  # most tokens of one call

    def run(self, slot: int, tokens: list[int], past: int) -> Any:
        """Add tokens to a slot's KV cache, which holds `past`; logits of the last, [vocabulary]."""


class Words(Protocol):
    """Text to tokens and back."""

    stop: frozenset[int]

    def encode(self, said: list[dict[str, str]] | str) -> list[int]:
        """Tokens of turns, or of text as it is."""

    def decode(self, tokens: list[int]) -> str:
        """Text of tokens, special ones left out."""


@dataclass(eq=False)
class Handle:
    """One sequence and the slot it holds until it is finished."""

    slot: int
    rest: list[int]  # tokens the engine has not seen
    max_tokens: int
    temperature: float
    past: int = 0  # tokens in its KV cache
    made: int = 0
    fresh: list[int] = field(default_factory=list)
    finished: bool = False
    finish_reason: str = "stop"

    def new_tokens(self) -> list[int]:
        """Tokens since the last call."""
        fresh, self.fresh = self.fresh, []
        return fresh

    def cancel(self) -> None:
        """Stop it; the generator's next step, or its next sequence, takes the slot back."""
        self.finished, self.finish_reason = True, "cancelled"


class Generator:
    """Greedy and temperature sampling with a KV cache for each sequence."""

    def __init__(self, runtime: Runtime, words: Words, seed: int | None = None) -> None:
        self.runtime = runtime
        self.words = words
        self.random = np.random.default_rng(seed)
        self.active: list[Handle] = []

    def encode(self, said: list[dict[str, str]] | str) -> tuple[list[int], int]:
        """Tokens of turns, or of text as it is, and how many."""
        tokens = self.words.encode(said)
        return tokens, len(tokens)

    def decode(self, tokens: list[int]) -> str:
        """Text of tokens."""
        return self.words.decode(tokens)

    def add(self, prompt: list[int], max_tokens: int, temperature: float) -> Handle:
        """Begin a sequence in a free slot. Raises RuntimeError if there is none."""
        self._collect()
        free = set(range(self.runtime.slots)) - {handle.slot for handle in self.active}
        if not free:
            raise RuntimeError(f"all {self.runtime.slots} KV caches are in use")
        if not prompt:
            raise RuntimeError("the prompt has no tokens")
        handle = Handle(min(free), list(prompt), max_tokens, temperature)
        self.active.append(handle)
        return handle

    def busy(self) -> bool:
        """Whether a sequence is not finished."""
        self._collect()
        return bool(self.active)

    def step(self) -> None:
        """One token for every sequence; for one whose prompt is long, the next piece of it."""
        self._collect()
        for handle in self.active:
            self._go_on(handle)

    def _go_on(self, handle: Handle) -> None:
        piece = handle.rest[: self.runtime.prompt_piece]
        logits = self.runtime.run(handle.slot, piece, handle.past)
        handle.past += len(piece)
        handle.rest = handle.rest[len(piece) :]
        if handle.rest:
            return
        token = sample(logits, handle.temperature, self.random)
        handle.fresh.append(token)
        handle.rest = [token]
        handle.made += 1
        if token in self.words.stop:
            handle.finished = True
        elif handle.made >= handle.max_tokens:
            handle.finished, handle.finish_reason = True, "length"

    def _collect(self) -> None:
        self.active = [handle for handle in self.active if not handle.finished]


def sample(logits: Any, temperature: float, random: np.random.Generator) -> int:
    """The likeliest token, or one drawn by its probability at a temperature above 0.

    Raises RuntimeError for logits that are no numbers: an engine that overflowed.
    """
    values = np.asarray(logits, dtype=np.float64)
    if not np.isfinite(values.max()):
        raise RuntimeError("the engine returned logits that are no numbers")
    if temperature <= 0:
        return int(values.argmax())
    weights = np.exp((values - values.max()) / temperature)
    return int(random.choice(len(weights), p=weights / weights.sum()))
