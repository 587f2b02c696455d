# ruff: noqa: INP001 - Triton loads this file by its path
"""From prompts to tokens, one at a time, over a runtime that keeps the KV caches. No CUDA here.

The engine's KV cache is one tensor per layer, so sequences of unlike length cannot share a call:
each has a slot of the runtime, and a step calls the engine once for each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from choice import Chooser, Chosen, scores
from sampling import Sampling
from turns import RequestError


class Runtime(Protocol):
    """The boundary to CUDA: an engine and its KV caches."""

    slots: int
    prompt_piece: int  # most tokens of one call

    def run(self, slot: int, tokens: list[int], past: int) -> Any:
        """Add tokens to a slot's KV cache, which holds `past`; logits of the last, [vocabulary]."""

    def run_all(self, slot: int, tokens: list[int], past: int) -> Any:
        """As `run`; logits of all of them, [tokens, vocabulary]."""


class Words(Protocol):
    """The part of `text.Words` that is used here."""

    stop: frozenset[int]


@dataclass(eq=False)
class Handle:
    """One sequence and the slot it holds until it is finished."""

    slot: int
    rest: list[int]  # tokens the engine has not seen
    max_tokens: int
    chooser: Chooser
    past: int = 0  # tokens in its KV cache
    fresh: list[Chosen] = field(default_factory=list)
    finished: bool = False
    finish_reason: str = "stop"
    likeliest: int | None = None  # for scored tokens: how many alternatives are wanted
    scored: list[Chosen] = field(default_factory=list)

    def new_tokens(self) -> list[Chosen]:
        """Tokens since the last call."""
        fresh, self.fresh = self.fresh, []
        return fresh

    def cancel(self) -> None:
        """Stop it; the generator's next step, or its next sequence, takes the slot back."""
        self.finished, self.finish_reason = True, "cancelled"


class Generator:
    """Chooses tokens by the parameters of each request, with a KV cache for each sequence."""

    def __init__(self, runtime: Runtime, words: Words, seed: int | None = None) -> None:
        self.runtime = runtime
        self.words = words
        self.random = np.random.default_rng(seed)
        self.active: list[Handle] = []

    def check(self, sampling: Sampling) -> None:
        """Refuse nothing: choice.py obeys all that config.pbtxt declares."""

    def add(self, prompt: list[int], max_tokens: int, sampling: Sampling) -> Handle:
        """Begin a sequence in a free slot. Raises RuntimeError if there is none."""
        self._collect()
        free = set(range(self.runtime.slots)) - {handle.slot for handle in self.active}
        if not free:
            raise RuntimeError(f"all {self.runtime.slots} KV caches are in use")
        if not prompt:
            raise RequestError("The prompt has no tokens")
        chooser = Chooser(sampling, frozenset(prompt), self.words.stop, self.random)
        handle = Handle(min(free), list(prompt), max_tokens, chooser)
        self.active.append(handle)
        return handle

    def add_scored(self, tokens: list[int], *, top: bool) -> Handle:
        """Begin to score tokens in a free slot. Raises RuntimeError if there is none."""
        handle = self.add(tokens, 0, Sampling())
        handle.likeliest = 1 if top else 0
        return handle

    def busy(self) -> bool:
        """Whether a sequence is not finished."""
        self._collect()
        return bool(self.active)

    def step(self) -> None:
        """One token for every sequence; for one whose prompt is long, the next piece of it."""
        self._collect()
        for handle in self.active:
            if handle.likeliest is not None:
                self._score(handle, handle.likeliest)
            else:
                self._go_on(handle)

    def _go_on(self, handle: Handle) -> None:
        piece = handle.rest[: self.runtime.prompt_piece]
        logits = self.runtime.run(handle.slot, piece, handle.past)
        handle.past += len(piece)
        handle.rest = handle.rest[len(piece) :]
        if handle.rest:
            return
        chosen = handle.chooser.choose(logits)
        handle.fresh.append(chosen)
        handle.rest = [chosen.token]
        if handle.chooser.ends(chosen.token):
            handle.finished = True
        elif handle.chooser.made >= handle.max_tokens:
            handle.finished, handle.finish_reason = True, "length"

    def _score(self, handle: Handle, top: int) -> None:
        """One piece: each of its tokens says how likely the next one is."""
        piece = handle.rest[: self.runtime.prompt_piece]
        logits = self.runtime.run_all(handle.slot, piece, handle.past)
        handle.past += len(piece)
        following = handle.rest[1 : len(piece) + 1]
        handle.rest = handle.rest[len(piece) :]
        handle.scored.extend(scores(logits[: len(following)], following, top))
        handle.finished = not handle.rest

    def _collect(self) -> None:
        self.active = [handle for handle in self.active if not handle.finished]
