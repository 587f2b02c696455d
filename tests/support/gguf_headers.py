"""Headers of GGUF files as `gguf_header` reads them, without a file."""

from __future__ import annotations

from typing import Any

from forge.builders.tools.gguf_header import GgufHeader, GgufTensor

BLOCK = [
    *("attn_k", "attn_norm", "attn_output", "attn_q", "attn_v"),
    *("ffn_down", "ffn_gate", "ffn_norm", "ffn_up"),
]


def tensor(name: str, kind: str = "Q8_0") -> GgufTensor:
    vector = "norm" in name or name.endswith("bias")
    shape = (64,) if vector else (64, 64)
    return GgufTensor(name, shape, "F32" if vector else kind, 0, 0, "tiny.gguf")


def header(
    architecture: str = "llama", kind: str = "Q8_0", more: tuple[str, ...] = (), **values: Any
) -> GgufHeader:
    """A header as llama.cpp's converter writes it; `values` with "__" for "."; None deletes."""
    names = [f"blk.{number}.{name}.weight" for number in range(2) for name in BLOCK]
    names += ["token_embd.weight", "output_norm.weight", *more]
    found = {
        "general.architecture": architecture,
        "general.file_type": 7,
        "general.type": "model",
        f"{architecture}.block_count": 2,
        f"{architecture}.context_length": 8192,
        f"{architecture}.embedding_length": 64,
        f"{architecture}.attention.head_count": 4,
        f"{architecture}.rope.dimension_count": 16,
        f"{architecture}.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": "{{ messages }}",
    }
    found |= {key.replace("__", "."): value for key, value in values.items()}
    kept = {key: value for key, value in found.items() if value is not None}
    return GgufHeader(("tiny.gguf",), 3, kept, tuple(tensor(name, kind) for name in names))
