# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""The graph of an embedding model in OpenVINO; pooling and normalisation are part of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino

MODEL = "openvino_model.xml"
# On processors that have it OpenVINO would compute in bfloat16: a least cosine of 0.99995 and not
# 0.999999 of all-MiniLM-L6-v2 with its checkpoint.
PROPERTIES = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}


class Encoder:
    """Computes vectors of token lists."""

    def __init__(self, engine: Path) -> None:
        core = openvino.Core()
        self.compiled = core.compile_model(core.read_model(engine / MODEL), "CPU", PROPERTIES)

    def embed(self, batch: Sequence[Sequence[int]]) -> Any:
        """Return one row of float32 for each list of tokens; the lists need not be equally long."""
        longest = max(len(one) for one in batch)
        tokens = np.zeros((len(batch), longest), np.int64)
        mask = np.zeros_like(tokens)
        for row, one in enumerate(batch):
            tokens[row, : len(one)] = one
            mask[row, : len(one)] = 1
        found = self.compiled({"input_ids": tokens, "attention_mask": mask})
        return np.asarray(found["embeddings"], np.float32)
