"""What a GGUF file becomes: config.json of Hugging Face, and where each tensor goes. Pure.

`convert` accounts for the whole header: it raises UnsupportedError for each field of the model and
each tensor that it does not use. Names and conventions are those of llama.cpp's converter
(gguf-py/gguf/constants.py, convert_hf_to_gguf.py): it permutes the rows of Q and K of the families
that llama.cpp rotates in adjacent pairs, and adds 1 to the norms of Gemma.

The fields `tokenizer.*` belong to the module gguf_tokenizer.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gguf_rope import llama3_parameters, rope_parameters
from understood import UnsupportedError

ROPE_FACTORS = "rope_freqs.weight"
# Namespaces that say nothing about what the model computes.
DESCRIPTIVE = ("general.", "GGUF.", "split.", "quantize.", "tokenizer.")


@dataclass(frozen=True)
class Family:
    """How one `general.architecture` is read.

    Attributes:
        model_type: of Hugging Face.
        permuted: whether the converter permuted the rows of Q and K.
        biases: projections with a bias in this family, always.
        optional_biases: config field → projections that have a bias where it is true.
        qk_norm: whether Q and K have norms.
        norm_offset: what the converter added to each norm.
        norms: suffix of each norm of a layer → name in Hugging Face.
        fields: GGUF field without the architecture → config field, in addition to the common ones.
        constants: config fields that the family always has.
    """

    model_type: str
    permuted: bool = False
    biases: tuple[str, ...] = ()
    optional_biases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    qk_norm: bool = False
    norm_offset: float = 0.0
    norms: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Move:
    """One tensor of the file and the one that it becomes.

    Attributes:
        source: name in the GGUF file; None for zeros.
        target: name in Hugging Face.
        shape: of the target.
        heads: number of heads whose rows are permuted back; 0 where none are.
        subtract: what is subtracted from each value.
    """

    source: str | None
    target: str
    shape: tuple[int, ...]
    heads: int = 0
    subtract: float = 0.0


@dataclass(frozen=True)
class Conversion:
    """The result of `convert`."""

    config: Mapping[str, Any]
    moves: Sequence[Move]


ATTENTION = {"attn_q": "q_proj", "attn_k": "k_proj", "attn_v": "v_proj", "attn_output": "o_proj"}
MLP = {"ffn_gate": "gate_proj", "ffn_up": "up_proj", "ffn_down": "down_proj"}
LLAMA_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
GEMMA_NORMS = {
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
LLAMA_BIASES = {"attention_bias": tuple(ATTENTION), "mlp_bias": tuple(MLP)}

FAMILIES: Mapping[str, Family] = {
    "llama": Family(
        "llama",
        permuted=True,
        optional_biases=LLAMA_BIASES,
        norms=LLAMA_NORMS,
        constants={"hidden_act": "silu"},
    ),
    "qwen2": Family(
        "qwen2",
        biases=("attn_q", "attn_k", "attn_v"),
        norms=LLAMA_NORMS,
        constants={"hidden_act": "silu", "use_sliding_window": False},
    ),
    "qwen3": Family(
        "qwen3",
        qk_norm=True,
        optional_biases={"attention_bias": tuple(ATTENTION)},
        norms=LLAMA_NORMS,
        constants={"hidden_act": "silu", "use_sliding_window": False},
    ),
    "granite": Family(
        "granite",
        permuted=True,
        optional_biases=LLAMA_BIASES,
        norms=LLAMA_NORMS,
        fields={
            "embedding_scale": "embedding_multiplier",
            "residual_scale": "residual_multiplier",
            "attention.scale": "attention_multiplier",
            "logit_scale": "logits_scaling",
        },
        constants={"hidden_act": "silu"},
    ),
    "smollm3": Family(
        "smollm3",
        permuted=True,
        optional_biases=LLAMA_BIASES,
        norms=LLAMA_NORMS,
        # llama.cpp has the interval of the layers without RoPE in its code, not in the file.
        constants={
            "hidden_act": "silu",
            "no_rope_layer_interval": 4,
            "use_sliding_window": False,
        },
    ),
    "gemma2": Family(
        "gemma2",
        norm_offset=1.0,
        norms=GEMMA_NORMS,
        fields={
            "attention.sliding_window": "sliding_window",
            "attn_logit_softcapping": "attn_logit_softcapping",
            "final_logit_softcapping": "final_logit_softcapping",
        },
        constants={"hidden_activation": "gelu_pytorch_tanh"},
    ),
    "gemma3": Family(
        "gemma3_text",
        norm_offset=1.0,
        qk_norm=True,
        norms=GEMMA_NORMS,
        fields={"attention.sliding_window": "sliding_window"},
        constants={"hidden_activation": "gelu_pytorch_tanh", "_sliding_window_pattern": 6},
    ),
}
# Layers of the models whose attention is scaled by the width and not by the head size: llama.cpp
# knows them by it too (llm_load_hparams, LLM_TYPE_27B).
GEMMA_27B_LAYERS = {"gemma2": 46, "gemma3": 62}
# Values that change nothing where they are what llama.cpp takes for an absent field.
NEUTRAL: Mapping[str, object] = {
    "expert_count": 0,
    "expert_used_count": 0,
    "attention.causal": True,
    "use_parallel_residual": False,
    "attention.max_alibi_bias": 0.0,
    "attention.clamp_kqv": 0.0,
    "leading_dense_block_count": 0,
}
WHOLE = 1 << 32  # larger numbers are damage


class Header:
    """The fields `ARCH.*` of one file; each may be taken once, and none may be left."""

    def __init__(self, architecture: str, metadata: Mapping[str, object]) -> None:
        self.prefix = f"{architecture}."
        self.left = {
            name.removeprefix(self.prefix): value
            for name, value in metadata.items()
            if name.startswith(self.prefix)
        }
        strangers = [name for name in metadata if not name.startswith((*DESCRIPTIVE, self.prefix))]
        if strangers:
            raise UnsupportedError(f"fields of the GGUF file: {_list(strangers)}")

    def take(self, name: str, default: object = None) -> Any:
        """Return a field and mark it as used."""
        return self.left.pop(name, default)

    def whole(self, name: str, default: int | None = None) -> int:
        """Return a positive whole number; one for each layer must be the same number."""
        value = self.take(name, default)
        if isinstance(value, list) and len(set(value)) == 1:
            value = value[0]
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < WHOLE:
            raise UnsupportedError(f"{self.prefix}{name} = {_short(value)}")
        return value

    def number(self, name: str, default: float | None = None) -> float | None:
        """Return a number as its author wrote it; GGUF has it in single precision."""
        value = self.take(name, default)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UnsupportedError(f"{self.prefix}{name} = {_short(value)}")
        return shortest(float(value))

    def done(self) -> None:
        """Raise UnsupportedError if a field was not used."""
        for name, neutral in NEUTRAL.items():
            if name in self.left and self.left[name] == neutral:
                del self.left[name]
        if self.left:
            said = [f"{self.prefix}{name} = {_short(self.left[name])}" for name in self.left]
            raise UnsupportedError(_list(said))


def convert(
    metadata: Mapping[str, object],
    shapes: Mapping[str, tuple[int, ...]],
    rope_factors: Sequence[float] | None,
) -> Conversion:
    """Return what the file becomes.

    Args:
        metadata: all fields of the file (of all its parts).
        shapes: of all tensors, in the order of Hugging Face (rows first).
        rope_factors: the content of rope_freqs.weight, if there is one.

    Raises UnsupportedError naming what is not supported.
    """
    architecture = metadata.get("general.architecture")
    family = FAMILIES.get(architecture) if isinstance(architecture, str) else None
    if family is None or not isinstance(architecture, str):
        raise UnsupportedError(
            f"GGUF files of {_short(architecture)} models as source of another format"
            f" (it reads {', '.join(FAMILIES)})"
        )
    if metadata.get("general.type", "model") != "model":
        raise UnsupportedError(f"GGUF files with general.type = {_short(metadata['general.type'])}")
    header = Header(architecture, metadata)
    config, sizes = _config(header, family, architecture, shapes)
    config["rope_parameters"] = _rope(header, sizes, rope_factors)
    if architecture == "gemma3":
        config["rope_parameters"] = _gemma3_rope(header, config["rope_parameters"])
    header.done()
    moves = list(_moves(family, sizes, config, shapes))
    used = {move.source for move in moves} | ({ROPE_FACTORS} if rope_factors is not None else set())
    left = [name for name in shapes if name not in used]
    if left:
        raise UnsupportedError(f"tensors of the GGUF file: {_list(left)}")
    return Conversion(config, moves)


@dataclass(frozen=True)
class Sizes:
    """Numbers that decide the shapes of the tensors."""

    layers: int
    hidden: int
    mlp: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    context: int


def _config(
    header: Header, family: Family, architecture: str, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, Any], Sizes]:
    heads, hidden = header.whole("attention.head_count"), header.whole("embedding_length")
    head = header.whole("attention.key_length", hidden // heads)
    sizes = Sizes(
        layers=header.whole("block_count"),
        hidden=hidden,
        mlp=header.whole("feed_forward_length"),
        heads=heads,
        kv_heads=header.whole("attention.head_count_kv", heads),
        head=head,
        vocabulary=shapes.get("token_embd.weight", (0, 0))[0],
        context=header.whole("context_length"),
    )
    for name, expected in (
        ("attention.value_length", head),
        ("rope.dimension_count", head),
        ("vocab_size", sizes.vocabulary),
    ):
        found = header.whole(name, expected)
        if found != expected:
            raise UnsupportedError(f"{header.prefix}{name} = {found} (expected {expected})")
    config: dict[str, Any] = {
        "model_type": family.model_type,
        "num_hidden_layers": sizes.layers,
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.mlp,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "head_dim": sizes.head,
        "vocab_size": sizes.vocabulary,
        "max_position_embeddings": sizes.context,
        "rms_norm_eps": header.number("attention.layer_norm_rms_epsilon", 1e-6),
        "tie_word_embeddings": "output.weight" not in shapes,
        **family.constants,
    }
    for name, there in family.fields.items():
        value = header.number(name)
        if value is None:
            raise UnsupportedError(f"{architecture} models without {header.prefix}{name}")
        config[there] = int(value) if there == "sliding_window" else value
    for flag, names in family.optional_biases.items():
        config[flag] = any(f"blk.{i}.{name}.bias" in shapes
                            for name in names for i in range(sizes.layers))  # fmt: skip
    if architecture in GEMMA_27B_LAYERS:
        wide = sizes.layers == GEMMA_27B_LAYERS[architecture]
        config["query_pre_attn_scalar"] = hidden // heads if wide else head
    return config, sizes


def _rope(header: Header, sizes: Sizes, factors: Sequence[float] | None) -> dict[str, Any]:
    base = header.number("rope.freq_base", 10000.0)
    names = [name for name in header.left if name.startswith("rope.scal")]
    fields = {name: header.take(name) for name in names}
    found = rope_parameters(header.prefix, fields, sizes.context)
    found["rope_theta"] = base
    if factors is None:
        return found
    if found["rope_type"] != "default":
        raise UnsupportedError(f"{ROPE_FACTORS} and {found['rope_type']} scaling in one file")
    original = fields.get("rope.scaling.original_context_length")
    return llama3_parameters(factors, base or 10000.0, sizes.head, original)


def _gemma3_rope(header: Header, full: dict[str, Any]) -> dict[str, Any]:
    local = header.number("rope.freq_base_swa", 10000.0)
    sliding = {"rope_type": "default", "rope_theta": local}
    return {"full_attention": full, "sliding_attention": sliding}


def _moves(
    family: Family, sizes: Sizes, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> Iterable[Move]:
    embedding = (sizes.vocabulary, sizes.hidden)
    yield _move("token_embd.weight", "model.embed_tokens.weight", embedding, shapes)
    norm = _move("output_norm.weight", "model.norm.weight", (sizes.hidden,), shapes)
    yield _shifted(norm, family)
    if not config["tie_word_embeddings"]:
        yield _move("output.weight", "lm_head.weight", embedding, shapes)
    for layer in range(sizes.layers):
        yield from _layer(family, sizes, config, shapes, layer)


def _layer(
    family: Family,
    sizes: Sizes,
    config: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    layer: int,
) -> Iterable[Move]:
    source, target = f"blk.{layer}", f"model.layers.{layer}"
    for name, there in family.norms.items():
        norm = f"{target}.{there}.weight"
        yield _shifted(_move(f"{source}.{name}.weight", norm, (sizes.hidden,), shapes), family)
    if family.qk_norm:
        for name, there in (("attn_q_norm", "q_norm"), ("attn_k_norm", "k_norm")):
            norm = f"{target}.self_attn.{there}.weight"
            yield _shifted(_move(f"{source}.{name}.weight", norm, (sizes.head,), shapes), family)
    biases = set(family.biases)
    for flag, names in family.optional_biases.items():
        biases |= set(names) if config[flag] else set()
    parts = {name: f"self_attn.{there}" for name, there in ATTENTION.items()}
    parts |= {name: f"mlp.{there}" for name, there in MLP.items()}
    for name, there in parts.items():
        rows, columns = _projection(name, sizes)
        heads = 0
        if family.permuted and name in {"attn_q", "attn_k"}:
            heads = sizes.heads if name == "attn_q" else sizes.kv_heads
        weight = f"{source}.{name}.weight"
        yield _move(weight, f"{target}.{there}.weight", (rows, columns), shapes, heads)
        if name in biases:
            bias = f"{source}.{name}.bias"
            required = name in family.biases
            yield _move(bias, f"{target}.{there}.bias", (rows,), shapes, heads, required=required)


def _projection(name: str, sizes: Sizes) -> tuple[int, int]:
    wide, narrow = sizes.heads * sizes.head, sizes.kv_heads * sizes.head
    return {
        "attn_q": (wide, sizes.hidden),
        "attn_k": (narrow, sizes.hidden),
        "attn_v": (narrow, sizes.hidden),
        "attn_output": (sizes.hidden, wide),
        "ffn_gate": (sizes.mlp, sizes.hidden),
        "ffn_up": (sizes.mlp, sizes.hidden),
        "ffn_down": (sizes.hidden, sizes.mlp),
    }[name]


def _move(
    source: str,
    target: str,
    shape: tuple[int, ...],
    shapes: Mapping[str, tuple[int, ...]],
    heads: int = 0,
    *,
    required: bool = True,
) -> Move:
    """Return the move of one tensor. A bias that the others have and this one lacks is zero."""
    found = shapes.get(source)
    if found is None and not required:
        return Move(None, target, shape)
    if found is None:
        raise UnsupportedError(f"GGUF files without the tensor {source}")
    if found != shape:
        raise UnsupportedError(f"{source} of shape {list(found)} (expected {list(shape)})")
    return Move(source, target, shape, heads)


def _shifted(move: Move, family: Family) -> Move:
    return Move(move.source, move.target, move.shape, move.heads, family.norm_offset)


def shortest(value: float) -> float:
    """Return the shortest decimal number that single precision rounds to `value`."""
    for digits in range(1, 9):
        text = float(f"{value:.{digits}g}")
        if struct.pack("<f", text) == struct.pack("<f", value):
            return text
    return value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"  # noqa: PLR2004


def _list(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
