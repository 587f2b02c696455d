"""Hand-made GGUF files."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Block sizes as ggml-common.h has them: elements, bytes.
BLOCKS = {0: (1, 4), 1: (1, 2), 3: (32, 20), 8: (32, 34), 9: (32, 40), 12: (256, 144),
          13: (256, 176), 14: (256, 210), 23: (256, 136), 30: (1, 2)}  # fmt: skip
F32, F16, Q4_1, Q8_0, Q8_1, Q4_K, Q5_K, Q6_K, IQ4_XS, BF16 = BLOCKS


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf(*, architecture: str = "llama", kind: int = 3, version: int = 3, data: int = 40) -> bytes:
    """Metadata of every shape, one tensor of 64 elements; Q4_1 takes 40 bytes."""
    entries = [
        string("general.architecture") + struct.pack("<I", 8) + string(architecture),
        string("general.name") + struct.pack("<I", 8) + string("Tiny"),
        string("llama.block_count") + struct.pack("<II", 4, 1),
        string("general.quantized") + struct.pack("<I?", 7, True),
        string("tokenizer.ggml.model") + struct.pack("<I", 8) + string("gpt2"),
        string("tokenizer.ggml.pre") + struct.pack("<I", 8) + string("qwen2"),
        string("tokenizer.tokens") + struct.pack("<IIQ", 9, 8, 2) + string("a") + string("b"),
        string("tokenizer.scores") + struct.pack("<IIQ", 9, 6, 2) + struct.pack("<ff", 1, 2),
    ]
    tensor = string("token_embd") + struct.pack("<IQQ", 2, 32, 2) + struct.pack("<IQ", kind, 0)
    head = b"GGUF" + struct.pack("<IQQ", version, 1, len(entries)) + b"".join(entries) + tensor
    return head + bytes(-len(head) % 32) + bytes(data)


@dataclass(frozen=True)
class Row:
    """A tensor; its place is computed if it is not given."""

    name: str
    shape: tuple[int, ...] = (256, 2)
    kind: int = F32
    offset: int | None = None


def metadata(**more: Any) -> dict[str, Any]:
    """What llama.cpp's converter writes of a small llama; `__` in a name is a dot; None: absent."""
    values: dict[str, Any] = {
        "general.architecture": "llama",
        "general.name": "Tiny",
        "general.type": "model",
        "llama.block_count": 1,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": ["a", "b"],
    }
    values |= {name.replace("__", "."): value for name, value in more.items()}
    return {name: value for name, value in values.items() if value is not None}


def gguf_file(
    values: Mapping[str, Any], rows: Sequence[Row] = (Row("token_embd.weight"),)
) -> bytes:
    """A GGUF file, version 3, with the data that its tensors require."""
    align = values.get("general.alignment", 32)
    table, place = b"", 0
    for row in rows:
        block, width = BLOCKS[row.kind]
        elements = 1
        for size in row.shape:
            elements *= size
        offset = place if row.offset is None else row.offset
        table += string(row.name) + struct.pack("<I", len(row.shape))
        table += struct.pack(f"<{len(row.shape)}QIQ", *row.shape, row.kind, offset)
        place = -(-(offset + elements // block * width) // align) * align
    entries = b"".join(string(name) + _value(value) for name, value in values.items())
    head = b"GGUF" + struct.pack("<IQQ", 3, len(rows), len(values)) + entries + table
    return head + bytes(-len(head) % align) + bytes(place)


def _value(value: Any) -> bytes:
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + string(value)
        case [str(), *_]:
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(string, value))
        case _:
            return struct.pack(f"<IIQ{len(value)}f", 9, 6, len(value), *value)
