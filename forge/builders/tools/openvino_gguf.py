"""What OpenVINO GenAI's GGUF reader gets right, decided from a file's header.

The reader (openvino.genai 2026.4.1, src/cpp/src/gguf_utils) ignores all that it does not know: a
scaling of the rotary embedding, biases of a Llama, a BOS token. So a header passes only if each of
its keys and tensors is known to be used correctly, and the rest is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import openvino_ir
from gguf_header import GgufHeader

# Architectures that the reader builds a graph for.
ARCHITECTURES = ("llama", "qwen2", "qwen3")

# Rules for cutting text into words (`tokenizer.ggml.pre`) that the reader knows; it treats every
# other one as smollm.
WORD_RULES = ("qwen2", "smollm")

# ggml types that come out of the reader as they are (measured against gguf's own dequantisation),
# by the number of dimensions: the reader fails with other types of a matrix.
KEPT = frozenset({"F16", "Q4_0", "Q6_K", "Q8_0"})
VECTORS = frozenset({"F32"})

# Values of general.file_type with which the reader looks for the scales of quantised tensors; it
# fails with 0 and 1 (files that are F32 or F16 as a whole) and with those it does not know.
FILE_TYPES = frozenset({2, 3, 7, 15, 17, 18})
FILE_TYPE = 7  # of a file that is written again

# Keys of the metadata after `ARCHITECTURE.`, all used by the reader or without effect.
KEYS = frozenset(
    {
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.layer_norm_rms_epsilon",
        "attention.value_length",
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "rope.dimension_count",
        "rope.freq_base",
        "rope.scaling.type",
        "vocab_size",
    }
)
TOKENIZER_KEYS = frozenset(
    {
        "add_bos_token",
        "add_eos_token",
        "add_space_prefix",
        "bos_token_id",
        "eom_token_id",
        "eos_token_id",
        "eot_token_id",
        "merges",
        "model",
        "padding_token_id",
        "pre",
        "scores",
        "token_type",
        "tokens",
        "unknown_token_id",
    }
)
# Keys that describe the file or the model in words, or were used when it was made.
DESCRIPTIONS = ("general.", "quantize.", "split.", "tokenizer.chat_template")

BLOCK = (
    *("attn_k", "attn_norm", "attn_output", "attn_q", "attn_v"),
    *("ffn_down", "ffn_gate", "ffn_norm", "ffn_up"),
)
EXTRA = {
    "llama": (),
    "qwen2": ("attn_k.bias", "attn_q.bias", "attn_v.bias"),
    "qwen3": ("attn_k_norm.weight", "attn_q_norm.weight"),
}
OUTER = ("output_norm.weight", "token_embd.weight")
OPTIONAL = ("output.weight",)  # absent if it is tied to the embedding
EOS_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")


def problems(header: GgufHeader) -> list[str]:
    """Return why the reader would make another model of a file; empty if it would not."""
    if header.architecture not in ARCHITECTURES:
        supported = ", ".join(ARCHITECTURES)
        return [f"it is a {header.architecture!r} model; the reader supports {supported}"]
    return [
        *_unknown_keys(header),
        *_tokenizer(header),
        *_heads(header),
        *_rope(header),
        *_tensors(header),
    ]


def end_tokens(header: GgufHeader) -> list[int]:
    """Return the ids that end an answer, `eos_token_id` first."""
    found = [header.values.get(f"tokenizer.ggml.{key}") for key in EOS_KEYS]
    return list(dict.fromkeys(one for one in found if type(one) is int))


def requantised(header: GgufHeader) -> list[str]:
    """Return the types of the file that the reader does not keep, sorted."""
    return sorted({one.kind for one in header.tensors if not is_kept(one.kind, one.shape)})


def must_be_rewritten(header: GgufHeader) -> bool:
    """Return whether the reader gets another file: other types, one part, another file type."""
    kind = header.values.get("general.file_type")
    return bool(requantised(header)) or len(header.files) > 1 or kind not in FILE_TYPES


def is_kept(kind: str, shape: tuple[int, ...]) -> bool:
    """Return whether the reader takes a tensor as it is."""
    return kind in (VECTORS if len(shape) == 1 else KEPT)


def _unknown_keys(header: GgufHeader) -> Iterator[str]:
    prefix = f"{header.architecture}."
    for key, value in sorted(header.values.items()):
        if key.startswith(DESCRIPTIONS):
            continue
        known = (key.startswith(prefix) and key.removeprefix(prefix) in KEYS) or (
            key.startswith("tokenizer.ggml.") and key.split(".", 2)[2] in TOKENIZER_KEYS
        )
        if not known and value not in (0, 0.0, False):
            yield f"the reader ignores {key} ({value})"
    kind = header.text("general.type")
    if kind not in ("", "model"):
        yield f"general.type is {kind!r}, not a model"


def _tokenizer(header: GgufHeader) -> Iterator[str]:
    kind = header.text("tokenizer.ggml.model")
    if kind != "gpt2":
        yield f"its tokenizer is {kind!r} (SentencePiece is 'llama'); the reader reads 'gpt2'"
        return
    rule = header.text("tokenizer.ggml.pre")
    if rule not in WORD_RULES:
        known = ", ".join(WORD_RULES)
        yield f"its tokenizer.ggml.pre is {rule!r}; the reader cuts words as {known} only"
    for key in ("add_bos_token", "add_eos_token", "add_space_prefix"):
        if header.values.get(f"tokenizer.ggml.{key}"):
            yield f"tokenizer.ggml.{key} is set, which the reader ignores"


def _heads(header: GgufHeader) -> Iterator[str]:
    name = header.architecture
    heads = header.integer(f"{name}.attention.head_count")
    width = header.integer(f"{name}.embedding_length")
    if not heads or not width or not header.integer(f"{name}.block_count"):
        yield f"{name}.attention.head_count, embedding_length or block_count is missing"
        return
    size = header.integer(f"{name}.attention.key_length") or width // heads
    others = {
        "attention.value_length": "values of another size than keys",
        "rope.dimension_count": "a rotary embedding of a part of a head",
    }
    for key, meaning in others.items():
        found = header.integer(f"{name}.{key}") or size
        if found != size:
            yield f"{name}.{key} is {found} and the head size {size}: {meaning}"


def _rope(header: GgufHeader) -> Iterator[str]:
    kind = header.text(f"{header.architecture}.rope.scaling.type")
    if kind not in ("", "none"):
        yield f"the reader ignores {header.architecture}.rope.scaling.type ({kind})"


def _tensors(header: GgufHeader) -> Iterator[str]:
    extra = EXTRA[header.architecture]
    block = {*(f"{name}.weight" for name in BLOCK), *extra}
    count = header.integer(f"{header.architecture}.block_count")
    wanted = {*OUTER, *(f"blk.{number}.{name}" for number in range(count) for name in block)}
    found = {one.name for one in header.tensors}
    unused = sorted(found - wanted - set(OPTIONAL), key=_natural)
    if unused:
        yield f"the reader does not use {_some(unused)}"
    missing = sorted(wanted - found, key=_natural)
    if missing:
        yield f"it has no {_some(missing)}"


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def _some(names: list[str]) -> str:
    return openvino_ir.some(names, ", ")
