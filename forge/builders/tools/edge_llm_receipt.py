"""Execute the graph of an export on the CPU and compare it. Environment `edge-llm`.

The command line and the output are those of receipt.py; `--engine` is the folder that
edge_llm_export.py writes. `llm_build` compiles this graph on the device; its engine cannot be
executed without one. The embedding and the rotary embedding, which the runtime computes outside of
the graph, are computed from embedding.safetensors and config.json.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edge_llm_rope
import numpy as np
import receipt
import room
from edge_llm_attention import PAGE
from edge_llm_graph import DamagedError, Graph, GraphError
from safetensors import SafetensorError
from safetensors.numpy import load_file

MAX_JSON_BYTES = 16 * 1024 * 1024
KEYS_AND_VALUES = "past_key_values_"
# What only the graphs of a precision contain; nvfp4 has DequantizeLinear too. As in the export.
MARKS = {
    "trt::TRT_FP4DynamicQuantize": "nvfp4",
    "trt_edgellm::Int4GroupwiseGemmPluginV2": "int4_awq",
    "QuantizeLinear": "fp8",
}

# Measured: docs/reference/builders.md.
ROOM = room.Room(memory_mib=400, memory=5.0)


@dataclass(frozen=True)
class Sequence:
    """The new tokens of one sequence, and how many its cache holds already."""

    tokens: list[int]
    past: int


class Cache:
    """The paged keys and values of some sequences, for at most `length` tokens of each."""

    def __init__(self, graph: Graph, sequences: int, length: int) -> None:
        pages = -(-length // PAGE)
        self._pools = {
            name: np.zeros((shape[0], sequences * pages, *shape[2:]), dtype=np.float16)
            for name, shape in graph.inputs.items()
            if name.startswith(KEYS_AND_VALUES)
        }
        # Neighbouring pages of a sequence lie apart, as they do on a device after some requests.
        keys = np.arange(sequences * pages, dtype=np.int32).reshape(pages, sequences).T
        self.table = np.stack([keys, keys + sequences * pages], axis=1)

    def inputs(self) -> dict[str, np.ndarray]:
        """Return the pools, which the graph changes in place."""
        return dict(self._pools)


class GraphScorer:
    """Scores rows of tokens with the graph of an export, its embedding and its config.json."""

    def __init__(self, export: Path) -> None:
        """Read EXPORT/llm/{model.onnx, config.json, embedding.safetensors}.

        Raises receipt.EngineError, DamagedError.
        """
        folder = export / "llm"
        self.config = read_json(folder / "config.json")
        self.embedding = read_embedding(folder / "embedding.safetensors")
        self.graph = Graph.load(folder / "model.onnx")
        found = [MARKS[name] for name in self.graph.operators if name in MARKS]
        self.precision = found[0] if found else "fp16"
        version = self.config.get("edgellm_version", "unknown")
        self.executed = f"ONNX graph of tensorrt-edgellm {version}, numpy {np.__version__}, CPU"

    def score(self, rows: list[list[int]]) -> list[np.ndarray]:
        """Return logits [len(row), vocabulary] in float32; all rows are one batch."""
        cache = Cache(self.graph, len(rows), max(len(row) for row in rows))
        logits = self._call([Sequence(row, 0) for row in rows], cache)
        return np.split(logits, np.cumsum([len(row) for row in rows])[:-1])

    def decode(self, prompt: list[int], tokens: list[int]) -> np.ndarray:
        """Return logits [len(tokens), vocabulary]; row i predicts tokens[i] through the cache."""
        cache = Cache(self.graph, 1, len(prompt) + len(tokens))
        rows = [self._call([Sequence(prompt, 0)], cache, last=True)]
        for index, token in enumerate(tokens[:-1]):
            rows.append(self._call([Sequence([token], len(prompt) + index)], cache, last=True))
        return np.concatenate(rows)

    def _call(self, sequences: list[Sequence], cache: Cache, *, last: bool = False) -> np.ndarray:
        """Run the graph; return the logits of all new tokens, or of the last of each sequence."""
        lengths = np.array([len(sequence.tokens) for sequence in sequences], dtype=np.int32)
        past = np.array([sequence.past for sequence in sequences], dtype=np.int32)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        positions = np.concatenate(
            [np.arange(p, p + n) for p, n in zip(past, lengths, strict=True)]
        ).astype(np.int32)
        tokens = np.concatenate([sequence.tokens for sequence in sequences]).astype(np.int64)
        chosen = offsets[1:] - 1 if last else np.arange(len(tokens))
        known = {
            "inputs_embeds": self.embedding[tokens],
            "rope_rotary_cos_sin": edge_llm_rope.cosines_and_sines(self.config, positions),
            "positions": positions,
            "query_start_offsets": offsets,
            "query_lengths": lengths,
            "past_lengths": past,
            "attention_sequence_lengths": past + lengths,
            "state_indices": np.arange(len(sequences), dtype=np.int32),
            "execution_phase_marker": np.zeros(2, dtype=np.int32),
            "context_sequence_count_carrier": np.zeros(len(sequences), dtype=np.int32),
            "kv_page_table": cache.table,
            "logits_indices": chosen.astype(np.int64),
            "skip_softmax_scale": np.zeros(0, dtype=np.int8),
        } | cache.inputs()
        return self.graph.run(known)["logits"].astype(np.float32, copy=False)


def read_embedding(path: Path) -> np.ndarray:
    """Return the table of token embeddings, in float16. Raises GraphError, DamagedError."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, KeyError) as error:
        raise DamagedError(f"{path.name} cannot be read: {error}") from None
    if list(tensors) != ["embedding"] or tensors["embedding"].dtype != np.float16:
        names = ", ".join(f"{name} {tensor.dtype}" for name, tensor in tensors.items())
        raise GraphError(f"{path.name} is known only with `embedding` in float16; it has {names}")
    return np.asarray(tensors["embedding"])


def read_json(path: Path) -> dict[str, Any]:
    """Read a small JSON document. Raises DamagedError."""
    try:
        with path.open("rb") as file:
            document: dict[str, Any] = json.loads(file.read(MAX_JSON_BYTES))
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path.name} cannot be read: {error}") from None
    return document


if __name__ == "__main__":
    sys.exit(receipt.main(GraphScorer, lambda _engine: ROOM))
