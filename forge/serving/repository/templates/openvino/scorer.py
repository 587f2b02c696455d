# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""Scores tokens next to OpenVINO's pipeline, which returns no alternatives to a token.

The same graph is compiled once more, when the first request needs it, and computes one list of
tokens at a time without a KV cache. That takes the memory of the weights again, so it is refused
where the machine has less.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from choice import Chosen, scores
from turns import RequestError

MEMORY = Path("/proc/meminfo")
# Of the size of the weights: those and OpenVINO's own form of them. SmolLM2 took 1.9.
WEIGHTS = 2.0
ROOM_BYTES = 256 * 1024 * 1024  # for logits and activations


@dataclass(eq=False)
class Waiting:
    """Tokens to be scored, and the result."""

    tokens: list[int]
    scored: list[Chosen] = field(default_factory=list)
    finished: bool = False
    finish_reason: str = "stop"

    def new_tokens(self) -> list[Chosen]:
        """Return nothing: no token is made."""
        return []

    def cancel(self) -> None:
        """Compute it no more."""
        self.finished = True


class Scorer:
    """The graph without the pipeline."""

    def __init__(self, engine: Path) -> None:
        self.engine = engine
        self.compiled: Any = None
        self.waiting: list[Waiting] = []

    def score(self, tokens: list[int]) -> Waiting:
        """Return what will have the scores. Raises RequestError for a lack of memory."""
        if self.compiled is None:
            self.compiled = self._compile()
        self.waiting.append(Waiting(tokens))
        return self.waiting[-1]

    def busy(self) -> bool:
        """Return whether something waits."""
        self.waiting = [one for one in self.waiting if not one.finished]
        return bool(self.waiting)

    def step(self) -> None:
        """Compute one of those that wait."""
        if not self.busy():
            return
        one = self.waiting[0]
        logits = self._logits(one.tokens)
        one.scored = scores(logits[:-1], one.tokens[1:], top=1)
        one.finished = True

    def _compile(self) -> Any:
        import openvino

        needed = WEIGHTS * (self.engine / "openvino_model.bin").stat().st_size + ROOM_BYTES
        if (free := available_bytes()) < needed:
            mib = 1024 * 1024
            raise RequestError(
                f"Scores with the likeliest tokens need {needed / mib:.0f} MiB of memory, this"
                f" device has {free / mib:.0f} MiB available"
            )
        return openvino.Core().compile_model(str(self.engine / "openvino_model.xml"), "CPU")

    def _logits(self, tokens: list[int]) -> Any:
        ids = np.array([tokens], np.int64)
        feed = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "position_ids": np.arange(len(tokens), dtype=np.int64)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        names = {name for one in self.compiled.inputs for name in one.get_names()}
        request = self.compiled.create_infer_request()  # a new one has an empty cache
        results = request.infer({name: value for name, value in feed.items() if name in names})
        return np.asarray(results["logits"][0])


def available_bytes() -> float:
    """Return the memory that Linux says is available; 0 if it does not say."""
    for line in MEMORY.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) * 1024
    return 0.0
