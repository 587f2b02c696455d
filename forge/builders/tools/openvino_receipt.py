"""Execute OpenVINO IR and compare it with its checkpoint. Runs in the environment `openvino`.

The command line and the output are those of receipt.py.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import receipt

MODEL = "openvino_model.xml"


class Scorer:
    """The network of an engine folder on the CPU, with its own KV cache."""

    def __init__(self, engine: Path) -> None:
        import openvino

        self.executed = f"OpenVINO IR, openvino {metadata.version('openvino')}, CPU"
        self.precision = precision_of(engine)
        if not (engine / MODEL).is_file():
            raise receipt.EngineError(f"the engine has no {MODEL}")
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(engine / MODEL), "CPU")
        self.inputs = {name for one in compiled.inputs for name in one.get_names()}
        self.request = compiled.create_infer_request()

    def score(self, rows: list[list[int]]) -> list[np.ndarray]:
        """Return logits for each row; shorter ones are filled up on the right."""
        self.request.reset_state()
        tokens, mask = receipt.padded(rows)
        logits = self._infer(tokens, mask, np.maximum(mask.cumsum(-1) - 1, 0))
        return [logits[index, : len(row)] for index, row in enumerate(rows)]

    def decode(self, prompt: list[int], tokens: list[int]) -> np.ndarray:
        """Return logits of each token, one call each."""
        self.request.reset_state()
        found, past = [], 0
        for part in (prompt, *([token] for token in tokens[:-1])):
            end = past + len(part)
            positions = np.arange(past, end, dtype=np.int64)[None]
            logits = self._infer(np.array([part]), np.ones((1, end), np.int64), positions)
            found.append(logits[0, -1])
            past = end
        return np.stack(found)

    def _infer(self, tokens: np.ndarray, mask: np.ndarray, positions: np.ndarray) -> np.ndarray:
        values: dict[str, Any] = {
            "input_ids": tokens,
            "attention_mask": mask,
            "position_ids": positions,
            "beam_idx": np.arange(len(tokens), dtype=np.int32),
        }
        given = {name: value for name, value in values.items() if name in self.inputs}
        # A copy: the next call writes into the same memory.
        return np.array(self.request.infer(given)["logits"], np.float32)


def precision_of(engine: Path) -> str:
    """Return `precision.found` of engine.json."""
    try:
        facts = json.loads((engine / "engine.json").read_bytes())
        return str(facts["precision"]["found"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise receipt.EngineError(f"engine.json is not valid: {error}") from None


if __name__ == "__main__":
    code = receipt.main(Scorer)
    sys.stderr.flush()
    os._exit(code)  # OpenVINO's threads may still run
