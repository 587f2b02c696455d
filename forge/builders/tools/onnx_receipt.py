"""Execute an ONNX export on the CPU and compare it with its checkpoint. Environment `optimum`.

The command line and the output are those of receipt.py. TensorRT for RTX compiles this graph; its
engine cannot be executed without a GPU.
"""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import receipt
import room

MODEL = "model.onnx"
PAST, PRESENT = "past_key_values.", "present."
TYPES = {"tensor(float16)": np.float16, "tensor(float)": np.float32}
NAMES = {np.float16: "fp16", np.float32: "fp32"}

# Measured: docs/reference/builders.md.
ROOM = room.Room(memory_mib=300, memory=3.0)


class Scorer:
    """The graph of an export in ONNX Runtime, with its KV cache as inputs and outputs."""

    def __init__(self, export: Path) -> None:
        import onnxruntime

        if not (export / MODEL).is_file():
            raise receipt.EngineError(f"the export has no {MODEL}")
        self.executed = f"ONNX graph, onnxruntime {metadata.version('onnxruntime')}, CPU"
        self.session = onnxruntime.InferenceSession(
            str(export / MODEL), providers=["CPUExecutionProvider"]
        )
        self.inputs = {one.name: one for one in self.session.get_inputs()}
        self.outputs = [one.name for one in self.session.get_outputs()]
        self.cache = [name for name in self.inputs if name.startswith(PAST)]
        if not self.cache:
            raise receipt.EngineError("the graph has no KV cache")
        self.dtype = TYPES[self.inputs[self.cache[0]].type]
        self.precision = NAMES[self.dtype]

    def score(self, rows: list[list[int]]) -> list[np.ndarray]:
        """Return logits for each row; shorter ones are filled up on the right."""
        tokens, mask = receipt.padded(rows)
        logits, _ = self._run(tokens, mask, np.maximum(mask.cumsum(-1) - 1, 0), None)
        return [logits[index, : len(row)] for index, row in enumerate(rows)]

    def decode(self, prompt: list[int], tokens: list[int]) -> np.ndarray:
        """Return logits of each token, one call each."""
        found = []
        cache: dict[str, np.ndarray] | None = None
        past = 0
        for part in (prompt, *([token] for token in tokens[:-1])):
            end = past + len(part)
            positions = np.arange(past, end, dtype=np.int64)[None]
            mask = np.ones((1, end), np.int64)
            logits, cache = self._run(np.array([part], np.int64), mask, positions, cache)
            found.append(logits[0, -1])
            past = end
        return np.stack(found)

    def _run(
        self,
        tokens: np.ndarray,
        mask: np.ndarray,
        positions: np.ndarray,
        cache: dict[str, np.ndarray] | None,
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        values = {"input_ids": tokens, "attention_mask": mask, "position_ids": positions}
        values |= cache or {name: self._empty(name, len(tokens)) for name in self.cache}
        given = {name: value for name, value in values.items() if name in self.inputs}
        found = dict(zip(self.outputs, self.session.run(None, given), strict=True))
        after = {name: found[PRESENT + name.removeprefix(PAST)] for name in self.cache}
        return np.asarray(found["logits"], np.float32), after

    def _empty(self, name: str, batch: int) -> np.ndarray:
        _, heads, _, width = self.inputs[name].shape
        return np.zeros((batch, heads, 0, width), self.dtype)


if __name__ == "__main__":
    sys.exit(receipt.main(Scorer, lambda _engine: ROOM))
