"""Hand-made Hugging Face checkpoints: config.json, safetensors headers, tokenizer files."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LLAMA: dict[str, Any] = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
WIDTHS = {"F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "U8": 1, "I32": 4}


def safetensors(tensors: Mapping[str, str], size: int = 4) -> bytes:
    """A safetensors file with one-dimensional tensors of these types."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, dtype in tensors.items():
        end = place + size * WIDTHS[dtype]
        header[name] = {"dtype": dtype, "shape": [size], "data_offsets": [place, end]}
        place = end
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(place)


def model(
    folder: Path,
    config: Mapping[str, Any] | None = None,
    *,
    files: Mapping[str, bytes | None] | None = None,
) -> Path:
    """Write a small model; `files` adds or changes some, or leaves some out with None."""
    made: dict[str, bytes | None] = {
        "config.json": json.dumps(LLAMA if config is None else config).encode(),
        "model.safetensors": safetensors({"model.embed_tokens.weight": "BF16", "b": "F32"}),
        "tokenizer.json": b"{}",
        **(files or {}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in made.items():
        if data is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
    return folder


def sharded(folder: Path, shards: Mapping[str, Mapping[str, str]]) -> Path:
    """Write a model in shards: file → tensor → type, with an index of them."""
    model(folder, files={"model.safetensors": None})
    index: dict[str, str] = {}
    for name, tensors in shards.items():
        (folder / name).write_bytes(safetensors(tensors))
        index |= dict.fromkeys(tensors, name)
    write_index(folder, index)
    return folder


def write_index(folder: Path, index: Mapping[str, str]) -> None:
    """Write model.safetensors.index.json."""
    document = {"metadata": {"total_size": 0}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(document))
