"""Which config.json OpenVINO IR can be exported from."""

from __future__ import annotations

from typing import Any

import openvino_support
import pytest

LLAMA: dict[str, Any] = {"model_type": "llama", "rope_theta": 10000.0}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@pytest.mark.parametrize(
    "config",
    [
        LLAMA,
        LLAMA | {"rope_scaling": None},
        LLAMA | {"rope_scaling": LLAMA3},
        LLAMA | {"rope_scaling": {"type": "linear", "factor": 4.0}},
        {"model_type": "falcon", "alibi": False},
        {"model_type": "mistral", "sliding_window": 4096},
    ],
)
def test_config_that_was_tried_has_no_problem(config: dict[str, Any]) -> None:
    assert openvino_support.problems(config) == []


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "it is a None model"),
        ({"model_type": "mamba"}, "it is a 'mamba' model"),
        ({"model_type": "gemma2"}, "leaves attn_logit_softcapping out"),
        ({"model_type": "bloom"}, "ALiBi"),
        ({"model_type": "falcon", "alibi": True}, "alibi is True"),
        (LLAMA | {"rope_scaling": {"rope_type": "dynamic", "factor": 2}}, "'dynamic'"),
        (LLAMA | {"rope_scaling": {"type": "longrope"}}, "'longrope'"),
        (LLAMA | {"rope_scaling": LLAMA3 | {"mscale": 2}}, "'llama3' has mscale"),
        (LLAMA | {"rope_scaling": 4}, "rope_scaling is 4"),
        ({"model_type": "llama", "rope_parameters": {"rope_theta": 1}}, "but no rope_theta"),
        (LLAMA | {"quantization_config": {"quant_method": "gptq"}}, "quantised already (gptq)"),
    ],
)
def test_config_that_would_become_another_model_is_refused(
    config: dict[str, Any], message: str
) -> None:
    assert message in "; ".join(openvino_support.problems(config))


def test_key_that_transformers_ignores_is_named() -> None:
    config = LLAMA | {"hidden_size": 64, "attention_gate": 2, "_name": "x", "new_off": False}
    known = {"model_type": 0, "hidden_size": 0}
    assert openvino_support.unknown_keys(config, known) == ["attention_gate"]
