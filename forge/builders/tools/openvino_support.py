"""Which Hugging Face checkpoints become the same model as OpenVINO IR, decided from config.json.

Standard library only. The list was made by exporting small random models of each kind with
optimum-intel 1.27.0, transformers 4.57.6 and OpenVINO 2026.4.1, and comparing their logits with
transformers' in fp32 (docs/reference/builders.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# `model_type`. Small random models of each kind gave the logits of transformers in fp32, with a
# correlation of at least 0.9999 in fp16: 12, 300 and 3,000 tokens, a batch of two rows with padding
# on the right, 50 tokens one by one through the KV cache. In OpenVINO GenAI's continuous batching,
# three requests of 12, 300 and 3,000 tokens at a time gave the same top token and its logarithmic
# probability within 0.001. With a sliding window of 64 tokens where the kind has one.
ARCHITECTURES = (
    "arcee",
    "codegen",
    "cohere",
    "exaone4",
    "falcon",
    "gemma",
    "gemma3_text",
    "glm",
    "glm4",
    "gpt2",
    "gpt_bigcode",
    "gpt_neox",
    "gpt_oss",
    "gptj",
    "granite",
    "granitemoe",
    "helium",
    "llama",
    "mistral",
    "mixtral",
    "nemotron",
    "olmo",
    "olmo2",
    "opt",
    "persimmon",
    "phi3",
    "phimoe",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_moe",
    "smollm3",
    "stablelm",
    "starcoder2",
)

# Of them, those that transformers 4.57.6 loads without its attention `sdpa` only
# (`_supports_sdpa` of their classes).
EAGER = frozenset({"codegen", "gpt_oss", "gptj"})

# Tried in the same way and not the same model, or not exported, with the reason.
_NO_EXPORT = "optimum-intel 1.27.0 does not export them"
WRONG: Mapping[str, str] = {
    "bloom": "the export computes ALiBi otherwise (correlation 0.78)",
    "cohere2": _NO_EXPORT,
    "deepseek_v2": "optimum-intel 1.27.0 requires transformers 4.53 for them",
    "ernie4_5": _NO_EXPORT,
    "exaone": "they require code of the checkpoint, which is not run",
    "gemma2": "the export leaves attn_logit_softcapping out",
    "gemma3": "they take images; save the language model as gemma3_text",
    "hunyuan_v1_dense": _NO_EXPORT,
    "lfm2": "continuous batching has no state but the KV cache",
    "llama4_text": "the export computes other logits (correlation 0.6)",
    "mpt": "continuous batching computes ALiBi otherwise",
    "phi": "optimum-intel 1.27.0 cannot trace them",
    "seed_oss": _NO_EXPORT,
    "xglm": "the export computes other positions (correlation 0.96)",
}

# Keys of a scaling of the rotary embedding that transformers 4 reads, by its type. "dynamic" and
# "longrope" depend on the length of the text, which the export fixes (correlation 0.5 to 0.7).
ROPE_TYPES: Mapping[str, frozenset[str]] = {
    "default": frozenset(),
    "linear": frozenset({"factor"}),
    "llama3": frozenset(
        {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}
    ),
    "yarn": frozenset(
        {
            "attention_factor",
            "beta_fast",
            "beta_slow",
            "factor",
            "mscale",
            "mscale_all_dim",
            "original_max_position_embeddings",
            "truncate",
        }
    ),
}
# Values that the export computes otherwise, by `model_type`: key, harmless values, reason.
REFUSED: Mapping[str, tuple[tuple[str, tuple[Any, ...], str], ...]] = {
    "falcon": (("alibi", (None, False), "ALiBi is computed otherwise (correlation 0.99)"),),
    "gpt2": (
        ("reorder_and_upcast_attn", (None, False), "not tried"),
        ("scale_attn_by_inverse_layer_idx", (None, False), "not tried"),
    ),
}
# Keys of config.json that say nothing about what the model computes; so do those with "_" first.
NEUTRAL = frozenset(
    {
        "architectures",
        "auto_map",
        "dtype",
        "model_type",
        "pretraining_tp",
        "torch_dtype",
        "transformers_version",
        "transformers.js_config",
        "unsloth_fixed",
        "unsloth_version",
        "use_cache",
    }
)
ROPE_KEYS = frozenset({"rope_parameters", "rope_scaling", "rope_theta"})


def problems(config: Mapping[str, Any]) -> list[str]:
    """Return why the export of a checkpoint would be another model; empty if it would not."""
    kind = config.get("model_type")
    if kind in WRONG:
        return [f"{kind} models: {WRONG[kind]}"]
    if kind not in ARCHITECTURES:
        return [f"it is a {kind!r} model; supported are {', '.join(ARCHITECTURES)}"]
    found = [*_rope(config), *_refused(config, str(kind))]
    quantised = config.get("quantization_config")
    if quantised:
        method = quantised.get("quant_method") if isinstance(quantised, Mapping) else quantised
        found.append(f"its weights are quantised already ({method}): use the original weights")
    return found


def unknown_keys(config: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    """Return the keys with a value that transformers' configuration class does not have.

    Args:
        config: config.json.
        known: all fields of the class.
    """
    return sorted(
        key
        for key, value in config.items()
        if value not in (None, False, 0, [], {})
        and not key.startswith("_")
        and key not in NEUTRAL | ROPE_KEYS | known.keys()
    )


def _rope(config: Mapping[str, Any]) -> Iterator[str]:
    scaling = config.get("rope_scaling")
    parameters = config.get("rope_parameters")
    if isinstance(parameters, Mapping) and "rope_theta" not in config:
        # transformers 4 would use its default, and the model would output nonsense.
        yield (
            "config.json has rope_parameters but no rope_theta, which transformers 4 reads: use the"
            " output of step `huggingface`, which writes both"
        )
    if scaling is None:
        return
    if not isinstance(scaling, Mapping):
        yield f"rope_scaling is {scaling!r}"
        return
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in ROPE_TYPES:
        yield f"rope_scaling of type {kind!r} is supported by none of {', '.join(ROPE_TYPES)}"
        return
    others = sorted(set(scaling) - ROPE_TYPES[kind] - {"rope_type", "type", "rope_theta"})
    if others:
        yield f"rope_scaling of type {kind!r} has {', '.join(others)}"


def _refused(config: Mapping[str, Any], kind: str) -> Iterator[str]:
    for key, harmless, reason in REFUSED.get(kind, ()):
        if key in config and config[key] not in harmless:
            yield f"{key} is {config[key]!r}: {reason}"
