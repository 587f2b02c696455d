"""Every field and tensor of a GGUF file is used or named; real models: tests/e2e."""

from typing import Any

import pytest
from gguf_model import convert, shortest
from gguf_rope import llama3_factors, llama3_parameters
from understood import UnsupportedError

LLAMA: dict[str, Any] = {
    "GGUF.version": 3,
    "general.architecture": "llama",
    "general.name": "Tiny",
    "llama.block_count": 1,
    "llama.context_length": 4096,
    "llama.embedding_length": 8,
    "llama.feed_forward_length": 16,
    "llama.attention.head_count": 2,
    "llama.attention.head_count_kv": 1,
    "llama.attention.layer_norm_rms_epsilon": 9.999999747378752e-06,
    "llama.rope.freq_base": 500000.0,
    "llama.rope.dimension_count": 4,
    "tokenizer.ggml.model": "gpt2",
}
SHAPES: dict[str, tuple[int, ...]] = {
    "token_embd.weight": (10, 8),
    "output_norm.weight": (8,),
    "output.weight": (10, 8),
    "blk.0.attn_norm.weight": (8,),
    "blk.0.ffn_norm.weight": (8,),
    "blk.0.attn_q.weight": (8, 8),
    "blk.0.attn_k.weight": (4, 8),
    "blk.0.attn_v.weight": (4, 8),
    "blk.0.attn_output.weight": (8, 8),
    "blk.0.ffn_gate.weight": (16, 8),
    "blk.0.ffn_up.weight": (16, 8),
    "blk.0.ffn_down.weight": (8, 16),
}


def test_config_has_each_number_of_the_file() -> None:
    config = convert(LLAMA, SHAPES, None).config
    assert config == {
        "model_type": "llama",
        "num_hidden_layers": 1,
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "vocab_size": 10,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-05,
        "tie_word_embeddings": False,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
    }


def test_each_tensor_goes_to_one_place_and_q_and_k_are_permuted_back() -> None:
    moves = {move.source: move for move in convert(LLAMA, SHAPES, None).moves}
    assert set(moves) == set(SHAPES)
    assert len({move.target for move in moves.values()}) == len(SHAPES)
    heads = {name: move.heads for name, move in moves.items() if move.heads}
    assert heads == {"blk.0.attn_q.weight": 2, "blk.0.attn_k.weight": 1}
    assert moves["blk.0.ffn_down.weight"].target == "model.layers.0.mlp.down_proj.weight"


def test_file_without_output_weights_has_tied_embeddings() -> None:
    shapes = {name: shape for name, shape in SHAPES.items() if name != "output.weight"}
    assert convert(LLAMA, shapes, None).config["tie_word_embeddings"] is True


def test_biases_of_q_and_k_are_permuted_like_their_weights_and_missing_ones_are_zero() -> None:
    biases = {"blk.0.attn_q.bias": (8,), "blk.0.attn_k.bias": (4,), "blk.0.attn_v.bias": (4,)}
    result = convert(LLAMA, {**SHAPES, **biases}, None)
    assert result.config["attention_bias"] is True
    assert result.config["mlp_bias"] is False
    found = {move.target.split(".")[-2]: move for move in result.moves if ".bias" in move.target}
    assert {name: (move.source, move.heads) for name, move in found.items()} == {
        "q_proj": ("blk.0.attn_q.bias", 2),
        "k_proj": ("blk.0.attn_k.bias", 1),
        "v_proj": ("blk.0.attn_v.bias", 0),
        "o_proj": (None, 0),
    }


REFUSED_FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "experts": ({"llama.expert_count": 8}, "llama.expert_count = 8"),
    "a window": ({"llama.attention.sliding_window": 4096}, "llama.attention.sliding_window = 4096"),
    "a cap": ({"llama.attn_logit_softcapping": 50.0}, "llama.attn_logit_softcapping = 50.0"),
    "a scale": ({"llama.attention.scale": 0.1}, "llama.attention.scale = 0.1"),
    "partial rotation": ({"llama.rope.dimension_count": 2}, "llama.rope.dimension_count = 2"),
    "other values": ({"llama.attention.value_length": 2}, "llama.attention.value_length = 2"),
    "heads by layer": ({"llama.attention.head_count_kv": [1, 2]}, "head_count_kv = [1, 2]"),
    "a number of the future": ({"llama.foo.bar": "x"}, "llama.foo.bar = 'x'"),
    "a stranger": ({"clip.has_vision_encoder": True}, "clip.has_vision_encoder"),
    "an adapter": ({"general.type": "adapter"}, "general.type = 'adapter'"),
    "another family": ({"general.architecture": "mamba"}, "'mamba' models"),
    "no number of layers": ({"llama.block_count": 0}, "llama.block_count = 0"),
    "su scaling": ({"llama.rope.scaling.type": "longrope", "llama.rope.scaling.factor": 4.0},
                   "llama.rope.scaling.type = 'longrope'"),
    "a YaRN scale": ({"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0,
                      "llama.rope.scaling.yarn_log_multiplier": 0.1}, "yarn_log_multiplier = 0.1"),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "named"), REFUSED_FIELDS.values(), ids=REFUSED_FIELDS)
def test_field_that_is_not_understood_is_refused_by_name(
    fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        convert({**LLAMA, **fields}, SHAPES, None)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("name", "shape", "named"),
    [
        ("blk.0.attn_sinks.weight", (2,), "blk.0.attn_sinks.weight"),
        ("rope_factors_long.weight", (2,), "rope_factors_long.weight"),
        ("blk.1.attn_norm.weight", (8,), "blk.1.attn_norm.weight"),
        ("blk.0.attn_q.weight", (8, 4), "blk.0.attn_q.weight of shape [8, 4] (expected [8, 8])"),
    ],
)
def test_tensor_that_is_not_used_is_refused_by_name(
    name: str, shape: tuple[int, ...], named: str
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        convert(LLAMA, {**SHAPES, name: shape}, None)
    assert named in str(caught.value)


@pytest.mark.parametrize("name", sorted(set(SHAPES) - {"output.weight"}))
def test_tensor_that_is_missing_is_named(name: str) -> None:
    shapes = {other: shape for other, shape in SHAPES.items() if other != name}
    with pytest.raises(UnsupportedError):
        convert(LLAMA, shapes, None)


SCALINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "linear": (
        {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
        {"rope_type": "linear", "factor": 4.0},
    ),
    "linear of old files": ({"rope.scale_linear": 2.0}, {"rope_type": "linear", "factor": 2.0}),
    "a factor without a type": (
        {"rope.scaling.factor": 8.0},
        {"rope_type": "linear", "factor": 8.0},
    ),
    "none": ({"rope.scaling.type": "none", "rope.scaling.finetuned": False},
             {"rope_type": "default"}),
    "yarn": (
        {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 1024,
            "rope.scaling.yarn_beta_fast": 16.0,
        },
        {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 1024,
            "beta_fast": 16.0,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "expected"), SCALINGS.values(), ids=SCALINGS)
def test_rope_scaling_is_kept(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    header = {**LLAMA, **{f"llama.{name}": value for name, value in fields.items()}}
    found = convert(header, SHAPES, None).config["rope_parameters"]
    assert found == {**expected, "rope_theta": 500000.0}


@pytest.mark.parametrize(
    ("low", "high", "original", "factor"),
    [(1.0, 4.0, 8192, 8.0), (1.0, 4.0, 8192, 32.0), (1.0, 8.0, 4096, 16.0), (2.0, 5.0, 2048, 4.0)],
)
def test_factors_of_a_llama3_scaling_are_found_again(
    low: float, high: float, original: int, factor: float
) -> None:
    asked = {
        "rope_theta": 500000.0,
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": original,
    }
    factors = llama3_factors(asked, 128)
    found = llama3_parameters(factors, 500000.0, 128, None)
    assert found["rope_type"] == "llama3"
    assert llama3_factors(found, 128) == pytest.approx(factors, rel=1e-3)


def test_published_factors_of_llama_3_1_have_the_published_parameters() -> None:
    # rope_freqs.weight of Llama 3.1 8B: 1 up to the 29th frequency, 8 from the 36th.
    asked = {"rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
             "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # fmt: skip
    factors = llama3_factors(asked, 128)
    assert factors[28] == 1.0 < factors[29]
    assert factors[34] < 8.0 == factors[35]
    assert llama3_parameters(factors, 500000.0, 128, None) == {"rope_type": "llama3", **asked}


def test_other_factors_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"rope_freqs\.weight"):
        llama3_parameters([1.0, 3.0, 2.0, 8.0], 500000.0, 8, None)


def test_two_scalings_in_one_file_are_refused() -> None:
    linear = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    with pytest.raises(UnsupportedError, match="linear scaling in one file"):
        convert({**LLAMA, **linear}, SHAPES, [1.0, 8.0])


@pytest.mark.parametrize("value", [1e-05, 1e-06, 0.1, 10000.0, 0.015625, 12.0])
def test_number_in_single_precision_is_the_one_that_was_written(value: float) -> None:
    import struct

    (single,) = struct.unpack("<f", struct.pack("<f", value))
    assert shortest(single) == value
