"""Checkpoints of tensors that are all zero, by their headers: no torch needed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

__all__ = ["write_checkpoint", "write_tensors"]

BITS = {"F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "U8": 8, "I8": 8}
CONFIG: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4,
}  # fmt: skip


def write_tensors(path: Path, tensors: dict[str, tuple[str, list[int]]]) -> None:
    """Write a safetensors file of zeros: name → (type, shape)."""
    header, end = {}, 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + math.prod(shape) * BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))


def write_checkpoint(
    folder: Path,
    tensors: dict[str, tuple[str, list[int]]],
    algorithm: str | None = None,
    exclude: tuple[str, ...] = ("lm_head",),
    **config: object,
) -> Path:
    """Write a checkpoint; `algorithm` is the quant_algo of ModelOpt."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    if algorithm is not None:
        claimed = {"quant_algo": algorithm, "exclude_modules": list(exclude)}
        (folder / "hf_quant_config.json").write_text(json.dumps({"quantization": claimed}))
    return folder
