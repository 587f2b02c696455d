"""Tiny random models of many families, with their logits. Runs in the environment `transformers`.

    python tiny_models.py OUTPUT NAME…

    OUTPUT/NAME/config.json  model.safetensors
    OUTPUT/NAME.npz          tokens_N and logits_N for N tokens: transformers, fp32, eager attention

The weights are large enough, and the lengths long enough beyond the trained context, that a model
without its biases, scaling, window or scales has other logits.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

LENGTHS = (12, 300, 3000)
VOCABULARY = 512
STEP = 53  # every 53rd position is compared, and the last

COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.15,
    "max_position_embeddings": 4096,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 512,
    "rope_theta": 50000.0,
}
YARN = {
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 512,
    "rope_theta": 10000.0,
}
LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0 + index / 16 for index in range(8)],
    "long_factor": [1.5 + index for index in range(8)],
    "original_max_position_embeddings": 512,
}
# Sizes by the names that GPT-2 and its relatives have.
OLD = {"n_embd": 64, "n_head": 4, "n_layer": 2, "n_positions": 4096}
# NAME → model_type and what differs from COMMON.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-tied": ("llama", {"tie_word_embeddings": True, "rope_theta": 100000.0}),
    "llama-bias": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-head-size": ("llama", {"head_dim": 32}),
    "llama3": ("llama", {"rope_parameters": LLAMA3, "tie_word_embeddings": True}),
    "llama-linear": ("llama", {"rope_parameters": LINEAR}),
    "llama-yarn": ("llama", {"rope_parameters": YARN}),
    "llama-dynamic": ("llama", {"rope_parameters": DYNAMIC, "max_position_embeddings": 512}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral-window": ("mistral", {"sliding_window": 64}),
    "qwen2": ("qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    "qwen2-window": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 2},
    ),
    "qwen3": ("qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    "phi3": ("phi3", {"sliding_window": None}),
    "phi3-longrope": (
        "phi3",
        {
            "sliding_window": None,
            "rope_parameters": LONGROPE,
            "original_max_position_embeddings": 512,
        },
    ),
    "granite": (
        "granite",
        {
            "embedding_multiplier": 3.0,
            "logits_scaling": 2.0,
            "residual_multiplier": 0.5,
            "attention_multiplier": 0.2,
        },
    ),
    "stablelm": ("stablelm", {"partial_rotary_factor": 0.5, "use_qkv_bias": True}),
    "stablelm-norms": ("stablelm", {"qk_layernorm": True, "use_parallel_residual": True}),
    "smollm3": ("smollm3", {"no_rope_layer_interval": 4}),
    "falcon": ("falcon", {"multi_query": True, "parallel_attn": True, "bias": False}),
    "falcon-new": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "gpt_oss": (
        "gpt_oss",
        {
            "head_dim": 16,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": 64,
            "rope_parameters": YARN | {"beta_fast": 32.0, "beta_slow": 1.0, "truncate": False},
        },
    ),
    "mixtral": ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen3_moe": (
        "qwen3_moe",
        {
            "head_dim": 16,
            "num_experts": 64,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "norm_topk_prob": True,
        },
    ),
    "gemma": ("gemma", {"head_dim": 16}),
    "gemma2": (
        "gemma2",
        {
            "head_dim": 16,
            "sliding_window": 64,
            "query_pre_attn_scalar": 16,
            "final_logit_softcapping": 5.0,
            "attn_logit_softcapping": 3.0,
        },
    ),
    "gemma3": (
        "gemma3_text",
        {
            "head_dim": 16,
            "sliding_window": 64,
            "query_pre_attn_scalar": 16,
            "num_hidden_layers": 6,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        },
    ),
    "olmo2": ("olmo2", {}),
    "cohere": ("cohere", {"logit_scale": 0.5, "use_qk_norm": True}),
    "phi": ("phi", {"partial_rotary_factor": 0.5}),
    "starcoder2": ("starcoder2", {"sliding_window": None}),
    "starcoder2-window": ("starcoder2", {"sliding_window": 64}),
    "gpt2": ("gpt2", {"n_embd": 64, "n_head": 4, "n_layer": 2, "n_positions": 4096}),
    "arcee": ("arcee", {"mlp_bias": True}),
    "codegen": ("codegen", OLD | {"rotary_dim": 8}),
    "exaone4": ("exaone4", {"sliding_window": 64, "sliding_window_pattern": 4}),
    "glm": ("glm", {"head_dim": 16, "attention_bias": True}),
    "glm4": ("glm4", {"head_dim": 16, "attention_bias": True}),
    "gpt_bigcode": ("gpt_bigcode", OLD | {"multi_query": True}),
    "gpt_neox": ("gpt_neox", {"rotary_pct": 0.5, "use_parallel_residual": True}),
    "gptj": ("gptj", OLD | {"rotary_dim": 8}),
    "granitemoe": (
        "granitemoe",
        {
            "num_local_experts": 4,
            "num_experts_per_tok": 4,
            "embedding_multiplier": 3.0,
            "logits_scaling": 2.0,
            "residual_multiplier": 0.5,
            "attention_multiplier": 0.2,
        },
    ),
    "helium": ("helium", {"head_dim": 16}),
    "mixtral-full": ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 4}),
    "nemotron": ("nemotron", {"head_dim": 16, "hidden_act": "relu2"}),
    "olmo": ("olmo", {}),
    "opt": ("opt", {"ffn_dim": 128, "word_embed_proj_dim": 64}),
    "persimmon": ("persimmon", {"hidden_act": "relu2", "qk_layernorm": True}),
    "phimoe": (
        "phimoe",
        {
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "lm_head_bias": True,
            "attention_bias": True,
        },
    ),
    "qwen2_moe": (
        "qwen2_moe",
        {
            "num_experts": 4,
            "num_experts_per_tok": 4,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 64,
        },
    ),
    "gpt_oss-full": (
        "gpt_oss",
        {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 4, "sliding_window": 64},
    ),
    "hunyuan": ("hunyuan_v1_dense", {"head_dim": 16}),
}


def main(argv: list[str]) -> int:
    """Make the models."""
    output = Path(argv[0])
    for name in argv[1:]:
        make(name, output / name)
        np.savez(output / f"{name}.npz", **reference(output / name))
    return 0


def make(name: str, folder: Path) -> None:
    """Write one model in fp16."""
    kind, changed = MODELS[name]
    default = AutoConfig.for_model(kind)
    known = {*default.to_dict(), *default.attribute_map}
    # A field that the class does not have would be kept in config.json, and refused there.
    common = {name: value for name, value in COMMON.items() if name in known}
    config = AutoConfig.for_model(kind, **(common | changed))
    torch.manual_seed(sum(name.encode()))
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for path, values in model.named_parameters():
            if path.endswith("bias") or "sinks" in path:
                values.normal_(0, 0.2)
            elif values.dim() == 1:  # norms; Gemma's add one to theirs
                values.uniform_(0.5, 1.5) if "gemma" not in kind else values.uniform_(-0.5, 0.5)
    model.to(torch.float16).save_pretrained(folder)


def reference(folder: Path) -> dict[str, Any]:
    """Return tokens and logits of a model, in fp32."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    found: dict[str, Any] = {}
    for length in LENGTHS:
        tokens = np.random.default_rng(length).integers(3, VOCABULARY, length)
        found[f"tokens_{length}"] = tokens
        with torch.no_grad():
            logits = model(torch.tensor(tokens[None]), use_cache=False).logits[0].numpy()
        found[f"logits_{length}"] = logits[positions(length)]
    return found


def positions(length: int) -> list[int]:
    """Return the positions whose logits are compared."""
    return [*range(0, length - 1, STEP), length - 1]


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    sys.exit(main(sys.argv[1:]))
