"""Execute OpenVINO IR and compare it with its checkpoint. Runs in the environment `openvino`.

The command line and the output are those of receipt.py, with `--checkpoint DIR`: what the engine
was made of, whose weights are compared with the engine's.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import openvino_weights
import receipt
import room

MODEL = "openvino_model.xml"
LOGITS = "logits"
ISA = "ONEDNN_MAX_CPU_ISA"  # limits the instructions that oneDNN, OpenVINO's kernels, may use

# What OpenVINO's bindings (pybind11) make of a C++ exception: std::out_of_range is an IndexError,
# std::invalid_argument and its kin ValueError, overflow_error OverflowError, others RuntimeError.
BINDING_ERRORS = (RuntimeError, IndexError, ValueError, OverflowError)

# Measured: docs/reference/builders.md.
ROOM = room.Room(memory_mib=400, memory=3.0)


class Scorer:
    """The network of an engine folder on the CPU, with its own KV cache."""

    def __init__(self, engine: Path) -> None:
        import openvino

        self.precision = precision_of(engine)
        if not (engine / MODEL).is_file():
            raise receipt.EngineError(f"the engine has no {MODEL}")
        core = openvino.Core()
        with refused("load the engine"):
            compiled = core.compile_model(core.read_model(engine / MODEL), "CPU")
            self.inputs = {name for one in compiled.inputs for name in one.get_names()}
            outputs = {name for one in compiled.outputs for name in one.get_names()}
            self.request = compiled.create_infer_request()
        if LOGITS not in outputs:
            raise receipt.EngineError(f"the engine has no output {LOGITS!r}")
        version = metadata.version("openvino")
        self.executed = f"OpenVINO IR, openvino {version}, CPU, {arithmetic(compiled)}"

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
        with refused("execute the engine"):
            # A copy: the next call writes into the same memory.
            logits = np.array(self.request.infer(given)[LOGITS], np.float32)
        if logits.shape[:-1] != tokens.shape:
            raise receipt.EngineError(
                f"the engine computes logits of shape {list(logits.shape)} for tokens of shape"
                f" {list(tokens.shape)}"
            )
        return logits


@contextmanager
def refused(what: str) -> Iterator[None]:
    """Turn an error of OpenVINO into an EngineError that names what the processor was limited to.

    A kernel that OpenVINO selects for the processor's arithmetic may not be there with fewer
    instructions, and the message is then a C++ library's: `map::at`, `bad combination`.
    """
    try:
        yield
    except BINDING_ERRORS as error:
        limit = os.environ.get(ISA)
        hint = f"\n  → {ISA} is {limit}: unset it, or measure on another machine" if limit else ""
        raise receipt.EngineError(
            f"OpenVINO cannot {what} on this processor: {str(error).strip() or repr(error)}{hint}"
        ) from None


def weigh(engine: Path, checkpoint: Path) -> dict[str, Any]:
    """Return the content of weights.json. Raises EngineError."""
    try:
        return openvino_weights.compare(engine, checkpoint)
    except openvino_weights.WeightsError as error:
        raise receipt.EngineError(str(error)) from None


def arithmetic(compiled: Any) -> str:
    """Return the type in which OpenVINO computes on this processor: `f32`, `bf16`.

    It is another one on another processor: a name that is not known is passed on as it is.
    """
    try:
        found = compiled.get_property("INFERENCE_PRECISION_HINT")
        return str(found.to_string() if hasattr(found, "to_string") else found)
    except BINDING_ERRORS:
        return "unknown arithmetic"


def precision_of(engine: Path) -> str:
    """Return `precision.found` of engine.json."""
    try:
        facts = json.loads((engine / "engine.json").read_bytes())
        return str(facts["precision"]["found"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise receipt.EngineError(f"engine.json is not valid: {error}") from None


if __name__ == "__main__":
    code = receipt.main(Scorer, lambda _engine: ROOM, weigh=weigh)
    sys.stderr.flush()
    os._exit(code)  # OpenVINO's threads may still run
