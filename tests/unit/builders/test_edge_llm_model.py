"""What Edge-LLM's exporter would drop is refused by name, from configuration and headers."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import edge_llm_model
import pytest

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
LAYER = (
    *("input_layernorm", "post_attention_layernorm", "self_attn.q_proj", "self_attn.k_proj"),
    *("self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
)
TENSORS = {
    *("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"),
    *(f"model.layers.{index}.{name}.weight" for index in range(2) for name in LAYER),
}
QUERY_NORM = {
    f"model.layers.{index}.self_attn.{one}_norm.weight" for index in range(2) for one in "qk"
}
QUERY_BIAS = {
    f"model.layers.{index}.self_attn.{one}_proj.bias" for index in range(2) for one in "qkv"
}


def checkpoint(folder: Path, tensors: set[str], **changes: object) -> Path:
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    entry = {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]}
    names = sorted(tensors)
    half = len(names) // 2
    for number, part in enumerate((names[:half], names[half:])):
        header = json.dumps({"__metadata__": {}, **dict.fromkeys(part, entry)}).encode()
        path = folder / f"model-{number}.safetensors"
        path.write_bytes(struct.pack("<Q", len(header)) + header)
    return folder


def refused(folder: Path) -> str:
    with pytest.raises(edge_llm_model.ModelError) as caught:
        edge_llm_model.check(folder)
    return str(caught.value)


@pytest.mark.parametrize(
    ("family", "more"),
    [("llama", set()), ("mistral", set()), ("qwen2", QUERY_BIAS), ("qwen3", QUERY_NORM)],
)
def test_checkpoint_of_a_family_that_was_executed_is_taken(
    tmp_path: Path, family: str, more: set[str]
) -> None:
    edge_llm_model.check(checkpoint(tmp_path, TENSORS | more, model_type=family))


@pytest.mark.parametrize("family", ["gemma2", "granite", "smollm3", "qwen3_moe", "olmo2"])
def test_other_family_is_refused_though_the_exporter_takes_it_for_a_llama(
    tmp_path: Path, family: str
) -> None:
    assert f"does not support {family!r} models" in refused(
        checkpoint(tmp_path, TENSORS, model_type=family)
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hidden_act": "gelu"}, 'hidden_act "gelu"'),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 'rope_type "linear"'),
        ({"rope_parameters": {"rope_type": "longrope"}}, 'rope_type "longrope"'),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "without alpha"),
        ({"rope_parameters": {"rope_type": "yarn", "mscale": 0.7}}, "mscale of rope_type yarn"),
        ({"embedding_scale": 12.0}, "embedding_scale 12.0"),
        ({"model_type": "mistral", "sliding_window": 64}, "sliding_window 64"),
        ({"use_sliding_window": True, "sliding_window": 64}, "sliding_window 64"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding_attention"),
    ],
)
def test_field_that_is_computed_otherwise_is_named(
    tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    assert says in refused(checkpoint(tmp_path, TENSORS, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_scaling": None, "attention_bias": False, "mlp_bias": False},
        {"rope_parameters": {"rope_type": "llama3", "factor": 8.0}},
        {"rope_parameters": {"rope_type": "dynamic", "alpha": 1000.0, "mscale": 1.0}},
        {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}},
        {"model_type": "mistral", "sliding_window": 4096},
        {"use_sliding_window": False, "sliding_window": 64},
        {"layer_types": ["full_attention", "full_attention"]},
    ],
)
def test_field_that_both_compute_alike_is_taken(tmp_path: Path, changes: dict[str, object]) -> None:
    edge_llm_model.check(checkpoint(tmp_path, TENSORS, **changes))


@pytest.mark.parametrize("name", sorted(TENSORS))
def test_missing_tensor_is_named(tmp_path: Path, name: str) -> None:
    assert f"does not contain {name}" in refused(checkpoint(tmp_path, TENSORS - {name}))


def test_tied_embedding_needs_no_head(tmp_path: Path) -> None:
    tensors = TENSORS - {"lm_head.weight"}
    edge_llm_model.check(checkpoint(tmp_path, tensors, tie_word_embeddings=True))


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.input_layernorm.bias",
        "lm_head.bias",
        "model.layers.2.input_layernorm.weight",
        "model.layers.0.pre_feedforward_layernorm.weight",
        "model.layers.0.self_attn.q_norm.weight",
        "rope_freqs.weight",
        "model.layers.0.mlp.other_proj.weight_scale",
    ],
)
def test_tensor_that_nothing_uses_is_named(tmp_path: Path, name: str) -> None:
    assert f"does not use {name}" in refused(checkpoint(tmp_path, TENSORS | {name}))


def test_scales_of_quantised_weights_are_used(tmp_path: Path) -> None:
    scales = {
        name.replace(".weight", f".{kind}")
        for name in TENSORS
        if "_proj" in name
        for kind in ("weight_scale", "weight_scale_2", "input_scale", "pre_quant_scale")
    }
    edge_llm_model.check(checkpoint(tmp_path, TENSORS | scales))


def test_biases_of_every_layer_are_used(tmp_path: Path) -> None:
    biases = {name.replace("weight", "bias") for name in TENSORS if "_proj" in name}
    changes = {"attention_bias": True, "mlp_bias": True}
    edge_llm_model.check(checkpoint(tmp_path, TENSORS | biases, **changes))


def test_many_missing_tensors_are_counted(tmp_path: Path) -> None:
    left = {name for name in TENSORS if "layers.1" not in name}
    assert "and 6 more" in refused(checkpoint(tmp_path, left))


def test_damaged_header_is_no_traceback(tmp_path: Path) -> None:
    checkpoint(tmp_path, TENSORS)
    (tmp_path / "model-0.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{")
    assert "model-0.safetensors is damaged" in refused(tmp_path)
