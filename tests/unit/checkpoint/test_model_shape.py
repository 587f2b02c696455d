"""Sizes of models, from configurations as their publishers have them, against published figures.

The expected bytes of a token in a cache of 16 bits were computed by hand: 2 (key and value) x
layers x heads of keys x size of a head x 2 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from forge.builders.tools.gguf_header import GgufTensor
from forge.checkpoint.model_shape import shape_of_config, shape_of_gguf
from forge.memory import CacheLayers, ModelShape
from tests.support.gguf_headers import header

KIB = 1024
# Fields of config.json on the model cards.
LLAMA_3_1_8B: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
    "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
    "vocab_size": 128256, "tie_word_embeddings": False,
}  # fmt: skip
QWEN_2_5_7B = LLAMA_3_1_8B | {
    "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944,
    "num_attention_heads": 28, "num_hidden_layers": 28, "num_key_value_heads": 4,
    "vocab_size": 152064, "sliding_window": 131072, "use_sliding_window": False,
    "max_window_layers": 28,
}  # fmt: skip
MISTRAL_7B = LLAMA_3_1_8B | {"model_type": "mistral", "vocab_size": 32000, "sliding_window": 4096}
GEMMA_2_2B = LLAMA_3_1_8B | {
    "model_type": "gemma2", "hidden_size": 2304, "intermediate_size": 9216, "head_dim": 256,
    "num_attention_heads": 8, "num_hidden_layers": 26, "num_key_value_heads": 4,
    "vocab_size": 256000, "sliding_window": 4096,
}  # fmt: skip
GEMMA_3_1B = GEMMA_2_2B | {
    "model_type": "gemma3_text", "num_hidden_layers": 26, "num_key_value_heads": 1,
    "sliding_window": 512, "sliding_window_pattern": 6,
}  # fmt: skip
GPT2 = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257}
FALCON_7B = {
    "model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32, "multi_query": True,
    "num_attention_heads": 71, "new_decoder_architecture": False, "vocab_size": 65024,
}  # fmt: skip
MIXTRAL = LLAMA_3_1_8B | {"model_type": "mixtral", "num_experts_per_tok": 2, "vocab_size": 32000}


@dataclass(frozen=True)
class Tensor:
    name: str
    elements: int


def shape(config: dict[str, Any], *tensors: Tensor) -> ModelShape:
    found = shape_of_config(config, tensors or (Tensor("model.embed_tokens.weight", 8),))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("config", "kib"),
    [
        (LLAMA_3_1_8B, 128), (QWEN_2_5_7B, 56), (MISTRAL_7B, 128), (GEMMA_2_2B, 104),
        (GEMMA_3_1B, 26), (GPT2, 36), (FALCON_7B, 8), (MIXTRAL, 128),
    ],
    ids=["llama", "qwen2.5", "mistral", "gemma2", "gemma3", "gpt2", "falcon", "mixtral"],
)  # fmt: skip
def test_token_takes_the_published_bytes_in_a_cache_of_16_bits(
    config: dict[str, Any], kib: int
) -> None:
    assert shape(config).cache_elements * 2 == kib * KIB


@pytest.mark.parametrize(
    ("config", "windows"),
    [
        (LLAMA_3_1_8B, {None: 32}),
        (QWEN_2_5_7B, {None: 28}),  # it states a window and does not use it
        (
            QWEN_2_5_7B | {"use_sliding_window": True, "max_window_layers": 20},
            {131072: 8, None: 20},
        ),
        (MISTRAL_7B, {4096: 32}),
        (GEMMA_2_2B, {4096: 13, None: 13}),
        (GEMMA_3_1B, {512: 22, None: 4}),
        (GEMMA_3_1B | {"layer_types": ["full_attention"] * 26}, {None: 26}),
    ],
)
def test_window_is_that_of_the_layers_that_have_one(
    config: dict[str, Any], windows: dict[int | None, int]
) -> None:
    assert {one.window: one.layers for one in shape(config).caches} == windows


def test_latent_cache_is_one_vector_for_all_heads() -> None:
    # DeepSeek-V2-Lite: 512 + 64 elements a token and layer
    config = LLAMA_3_1_8B | {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "num_hidden_layers": 27}
    assert shape(config).caches == (CacheLayers(27, 1, 576, 0),)


def test_experts_of_one_token_count_together() -> None:
    assert shape(MIXTRAL).intermediate == 2 * 14336


def test_tables_are_counted_by_their_tensors() -> None:
    table = 128256 * 4096
    tensors = [Tensor("model.embed_tokens.weight", table), Tensor("model.norm.weight", 4096)]
    untied = shape(LLAMA_3_1_8B, *tensors, Tensor("lm_head.weight", table))
    assert (untied.tied, untied.table_parameters) == (False, 2 * table)
    alone = shape(LLAMA_3_1_8B, *tensors)
    assert (alone.tied, alone.table_parameters, alone.inner_parameters) == (True, table, 4096)
    twice = shape(
        LLAMA_3_1_8B | {"tie_word_embeddings": True}, *tensors, Tensor("lm_head.weight", table)
    )
    assert (twice.tied, twice.parameters) == (True, alone.parameters)


@pytest.mark.parametrize(
    "config",
    [
        {},
        LLAMA_3_1_8B | {"num_hidden_layers": "32"},
        LLAMA_3_1_8B | {"layer_types": ["linear_attention"] * 32},
        LLAMA_3_1_8B | {"mamba_d_state": 128},
    ],
)
def test_model_that_is_not_understood_has_no_shape(config: dict[str, Any]) -> None:
    assert shape_of_config(config, [Tensor("model.embed_tokens.weight", 8)]) is None


def test_projection_of_another_size_than_stated_gives_no_shape() -> None:
    good = Tensor("model.layers.0.self_attn.k_proj.weight", 4096 * 1024)
    bad = Tensor("model.layers.1.self_attn.k_proj.weight", 4096 * 512)
    assert shape_of_config(LLAMA_3_1_8B, [good]) is not None
    assert shape_of_config(LLAMA_3_1_8B, [good, bad]) is None


def test_packed_weights_have_no_shape() -> None:
    assert shape_of_config(LLAMA_3_1_8B, [], packed=True) is None


def test_gguf_has_the_shape_of_its_fields() -> None:
    found = shape_of_gguf(header(llama__feed_forward_length=128))
    assert found is not None
    assert found.caches == (CacheLayers(2, 4, 16, 16),)
    assert (found.hidden, found.heads, found.vocabulary, found.tied) == (64, 4, 64, True)
    assert found.parameters == header().parameters


def test_gguf_with_an_output_table_is_not_tied() -> None:
    found = shape_of_gguf(header(more=("output.weight",)))
    assert found is not None
    assert (found.tied, found.table_parameters) == (False, 2 * 64 * 64)


def test_gguf_whose_heads_are_an_array_has_no_shape() -> None:
    # For an array the header has its length: 2 layers, which is not the number of heads.
    assert shape_of_gguf(header(llama__attention__head_count_kv=2)) is None


def test_gguf_with_a_state_has_no_shape() -> None:
    made = header()
    state = GgufTensor("blk.0.ssm_in.weight", (64, 64), "F32", 0, 0, "tiny.gguf")
    assert shape_of_gguf(type(made)(made.files, 3, made.values, (*made.tensors, state))) is None


def test_buffers_of_gpt2s_file_are_not_parameters() -> None:
    """124,439,808 of the model; the hub's file has 12 causal masks besides."""
    tensors = [Tensor("wte.weight", 50257 * 768), Tensor("wpe.weight", 1024 * 768)]
    for layer in range(12):
        tensors += [
            Tensor(f"h.{layer}.attn.bias", 1024 * 1024),
            Tensor(f"h.{layer}.attn.c_attn.weight", 768 * 2304),
            Tensor(f"h.{layer}.attn.c_attn.bias", 2304),
            Tensor(f"h.{layer}.attn.c_proj.weight", 768 * 768),
            Tensor(f"h.{layer}.attn.c_proj.bias", 768),
            Tensor(f"h.{layer}.mlp.c_fc.weight", 768 * 3072),
            Tensor(f"h.{layer}.mlp.c_fc.bias", 3072),
            Tensor(f"h.{layer}.mlp.c_proj.weight", 3072 * 768),
            Tensor(f"h.{layer}.mlp.c_proj.bias", 768),
            Tensor(f"h.{layer}.norms", 4 * 768),
        ]
    tensors.append(Tensor("ln_f", 2 * 768))
    assert shape(GPT2, *tensors).parameters == 124_439_808


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("transformer.h.0.attn.masked_bias", False),
        ("transformer.h.0.attn.attention.bias", False),
        ("gpt_neox.layers.0.attention.masked_bias", False),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", False),
        ("transformer.h.0.attn.causal_mask", False),
        ("model.layers.0.self_attn.q_proj.bias", True),
        ("transformer.h.0.attn.c_attn.bias", True),
        ("transformer.h.0.self_attention.dense.bias", True),
        ("lm_head.bias", True),
    ],
)
def test_tensor_counts_unless_it_is_a_buffer(name: str, *, counts: bool) -> None:
    found = shape(LLAMA_3_1_8B, Tensor("model.embed_tokens.weight", 8), Tensor(name, 5))
    assert found.parameters == (13 if counts else 8)
