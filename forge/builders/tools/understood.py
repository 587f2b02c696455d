"""Which fields of config.json each reader understands. Pure; imports the standard library only.

A field that is on no list may change what the model computes, so it is refused by name:

    HARMLESS            changes nothing that is computed at inference
    COMMON              each reader takes it, for every family
    FAMILIES            each reader takes it, for this `model_type`
    Reader.values       values with which this reader computes what transformers computes

Readers: `transformers` (5, the step `huggingface`), `onnx` (optimum-onnx with transformers 4, the
step `onnx`), `edge-llm` (tensorrt-edgellm 0.11). Sources: the configuration classes of
transformers 5.14 and 4.57; what tensorrt_edgellm/config.py reads; equality tests in
tests/e2e/test_conversions.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


class UnsupportedError(Exception):
    """What a checkpoint has and a reader does not support; the message is a list of names."""


HARMLESS = frozenset(
    {
        *("architectures", "model_type", "transformers_version", "dtype", "torch_dtype"),
        *("_name_or_path", "_attn_implementation_autoset", "use_cache", "auto_map"),
        *("initializer_range", "attention_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop"),
        *("hidden_dropout", "residual_dropout", "embedding_dropout", "classifier_dropout"),
        *("pretraining_tp", "gradient_checkpointing", "output_attentions", "return_dict"),
        *("output_hidden_states", "torchscript", "use_bfloat16", "pruned_heads", "is_decoder"),
        *("problem_type", "finetuning_task", "id2label", "label2id", "task_specific_params"),
        *("unk_token_id", "sep_token_id", "decoder_start_token_id", "prefix", "tokenizer_class"),
        *("router_aux_loss_coef", "router_jitter_noise", "output_router_logits"),
        *("rms_norm_fused", "flash_attention", "use_flash_attn", "cache_implementation"),
        *("unsloth_version", "unsloth_fixed", "is_llama_config"),
        *("hidden_dropout_prob", "attention_probs_dropout_prob", "chunk_size_feed_forward"),
        *("bad_words_ids", "max_length", "min_length", "do_sample", "temperature", "top_k"),
        *("top_p", "initializer_factor", "transformers.js_config", "eod_token_id"),
    }
)
COMMON = frozenset(
    {
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
        *("num_attention_heads", "num_key_value_heads", "max_position_embeddings"),
        *("hidden_act", "rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters"),
        *("tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id"),
    }
)
_WINDOW = ("sliding_window", "use_sliding_window", "max_window_layers", "layer_types")
_EXPERTS = ("num_local_experts", "num_experts", "num_experts_per_tok")
_GEMMA = ("head_dim", "hidden_activation", "attention_bias", "query_pre_attn_scalar")
_GEMMA_CAPS = ("attn_logit_softcapping", "final_logit_softcapping", "use_bidirectional_attention")
FAMILIES: Mapping[str, frozenset[str]] = {
    family: frozenset(fields)
    for family, fields in {
        "llama": ("attention_bias", "mlp_bias", "head_dim"),
        "mistral": ("head_dim", "sliding_window"),
        "qwen2": ("head_dim", *_WINDOW),
        "qwen3": ("head_dim", "attention_bias", *_WINDOW),
        "qwen3_moe": (
            *("head_dim", "attention_bias", *_WINDOW, *_EXPERTS, "moe_intermediate_size"),
            *("norm_topk_prob", "decoder_sparse_step", "mlp_only_layers"),
        ),
        "mixtral": ("head_dim", "sliding_window", *_EXPERTS),
        "phi3": ("sliding_window", "partial_rotary_factor", "original_max_position_embeddings"),
        "phi": ("partial_rotary_factor", "qk_layernorm", "layer_norm_eps"),
        "granite": (
            *("attention_bias", "mlp_bias", "head_dim", "embedding_multiplier"),
            *("logits_scaling", "residual_multiplier", "attention_multiplier"),
        ),
        "stablelm": (
            *("partial_rotary_factor", "use_qkv_bias", "qk_layernorm"),
            *("use_parallel_residual", "layer_norm_eps"),
        ),
        "smollm3": (
            *("attention_bias", "mlp_bias", "head_dim", "no_rope_layers"),
            *("no_rope_layer_interval", *_WINDOW),
        ),
        "falcon": (
            *("new_decoder_architecture", "multi_query", "parallel_attn", "bias", "alibi"),
            *("num_kv_heads", "num_ln_in_parallel_attn", "layer_norm_epsilon", "activation"),
            *("ffn_hidden_size", "n_head", "n_layer", "num_ln_in_parallel_attn", "rotary"),
        ),
        "gpt_oss": (
            *("attention_bias", "head_dim", "sliding_window", "layer_types", *_EXPERTS),
            *("experts_per_token", "initial_context_length", "swiglu_limit"),
        ),
        "gemma": ("head_dim", "hidden_activation", "attention_bias", "use_bidirectional_attention"),
        "gemma2": (*_GEMMA, *_GEMMA_CAPS, "sliding_window", "layer_types"),
        "gemma3_text": (
            *(*_GEMMA, *_GEMMA_CAPS, "sliding_window", "layer_types", "rope_local_base_freq"),
            *("sliding_window_pattern", "_sliding_window_pattern"),
        ),
        "olmo2": ("attention_bias",),
        "cohere": ("attention_bias", "layer_norm_eps", "logit_scale", "use_qk_norm"),
        "hunyuan_v1_dense": ("attention_bias", "head_dim"),
    }.items()
}
# Fields of no family, and the values with which they change nothing.
NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "rope_interleaved": (False,),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "cross_attention_hidden_size": (),
    "tie_encoder_decoder": (False,),
    "use_qk_norm": (False,),
    "qk_layernorm": (False,),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "use_sliding_window": (False,),
    "use_bidirectional_attention": (False,),
    "partial_rotary_factor": (1, 1.0),
    "sliding_window": (),
}
# Values that the code of a family has as constants.
CONSTANTS: Mapping[tuple[str, str], tuple[object, ...]] = {
    ("gpt_oss", "swiglu_limit"): (7, 7.0),
    ("gpt_oss", "hidden_act"): ("silu",),
}
ROPE_TYPES = ("default", "linear", "dynamic", "yarn", "longrope", "llama3")


@dataclass(frozen=True)
class Reader:
    """What one reader takes.

    Attributes:
        name: for messages.
        rope: types of RoPE scaling.
        families: `model_type`s; empty: any (each configuration class states its own fields).
        values: (family, field) → the only values that it takes, next to an absent field and None;
            family `*` stands for all.
    """

    name: str
    rope: Collection[str]
    families: Collection[str] = ()
    values: Mapping[tuple[str, str], tuple[object, ...]] = field(default_factory=dict)


# Families whose ONNX graph had the logits of transformers at 12, 300 and 3,000 tokens, here.
ONNX_FAMILIES = (
    *("cohere", "falcon", "gemma", "gemma2", "gemma3_text", "gpt_oss", "granite", "llama"),
    *("mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3", "stablelm"),
)
READERS: Mapping[str, Reader] = {
    "transformers": Reader("transformers", ROPE_TYPES),
    "onnx": Reader(
        "the ONNX export",
        # dynamic and longrope choose their frequencies by the length, which the traced graph has
        # as a constant: other logits beyond the original context (seen).
        rope=("default", "linear", "yarn", "llama3"),
        families=ONNX_FAMILIES,
        # optimum-onnx takes the heads of the cache from another field there, and fails.
        values={("falcon", "new_decoder_architecture"): (False,), ("falcon", "alibi"): (False,)},
    ),
    "edge-llm": Reader(
        "Edge-LLM's exporter",
        # Types that the runtime's library names; the others have no equal there.
        rope=("default", "llama3", "yarn"),
        families=("hunyuan_v1_dense", "llama", "mistral", "qwen2", "qwen3"),
        values={
            # Read nowhere (mlp_bias), or for Q, K and V only (attention_bias).
            ("*", "mlp_bias"): (False,),
            ("*", "attention_bias"): (False,),
            # It reads the window of models that say use_sliding_window only.
            ("mistral", "sliding_window"): (),
            ("*", "use_sliding_window"): (False,),
            ("*", "hidden_act"): ("silu",),
            ("*", "partial_rotary_factor"): (1.0,),
        },
    ),
}


def check(config: Mapping[str, Any], reader: str) -> None:
    """Raise UnsupportedError naming the fields that a reader does not take.

    Args:
        config: content of config.json.
        reader: a key of READERS.
    """
    rules = READERS[reader]
    family = str(config.get("model_type"))
    if rules.families and family not in rules.families:
        raise UnsupportedError(
            f"{family!r} models (supported: {', '.join(sorted(rules.families))})"
        )
    problems = [*_unknown(config, family), *_values(config, family, rules), *_rope(config, rules)]
    if problems:
        raise UnsupportedError("; ".join(f"config.json: {problem}" for problem in problems))


def unknown(config: Mapping[str, Any], known: Collection[str]) -> list[str]:
    """Return the fields with a value that are neither harmless nor in `known`."""
    return [
        name
        for name, value in config.items()
        if name not in HARMLESS
        and name not in known
        and value not in (None, [], {})
        and value not in NEUTRAL.get(name, ())
    ]


def _unknown(config: Mapping[str, Any], family: str) -> Iterable[str]:
    """Yield unknown fields of a family that has a list."""
    if family in FAMILIES:
        for name in unknown(config, COMMON | FAMILIES[family]):
            yield f"{name} = {_short(config[name])} of a {family} model"


def _values(config: Mapping[str, Any], family: str, rules: Reader) -> Iterable[str]:
    for (kind, name), allowed in {**CONSTANTS, **rules.values}.items():
        value = config.get(name)
        if kind in {"*", family} and value is not None and value not in allowed:
            yield f"{name} = {_short(value)} for {rules.name}"


def _rope(config: Mapping[str, Any], rules: Reader) -> Iterable[str]:
    for kind in sorted(rope_types(config)):
        if kind not in rules.rope:
            yield f"rope_type = {kind!r} for {rules.name}"


def rope_types(config: Mapping[str, Any]) -> set[str]:
    """Return the types of RoPE scaling of a model, whichever spelling it has."""
    found = set()
    for name in ("rope_parameters", "rope_scaling"):
        rope = config.get(name)
        if not isinstance(rope, dict):
            continue
        entries = [part for part in rope.values() if isinstance(part, dict)] or [rope]
        found |= {str(part.get("rope_type", part.get("type", "default"))) for part in entries}
    return found


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"  # noqa: PLR2004
