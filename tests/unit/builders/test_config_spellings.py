"""config.json of transformers 5 gets the names of transformers 4; equal logits: tests/e2e."""

from typing import Any

import pytest
from config_spellings import ConflictError, both_spellings

LONG = {"short_factor": [1.0], "long_factor": [2.0]}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({"rope_theta": 1e5, "rope_type": "default"}, {"rope_theta": 1e5}),
    "linear": (
        {"rope_theta": 1e4, "rope_type": "linear", "factor": 4.0},
        {"rope_theta": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    ),
    "llama3": (
        {"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0},
        {
            "rope_theta": 5e5,
            "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0},
        },
    ),
    "partial": (
        {"rope_theta": 1e4, "rope_type": "default", "partial_rotary_factor": 0.25},
        {"rope_theta": 1e4, "partial_rotary_factor": 0.25},
    ),
    "longrope": (
        {"rope_theta": 1e4, "rope_type": "longrope", **LONG, "partial_rotary_factor": 1.0,
         "original_max_position_embeddings": 4096},
        {"rope_theta": 1e4, "partial_rotary_factor": 1.0,
         "rope_scaling": {"type": "longrope", **LONG}},
    ),
    "two kinds of attention": (
        {
            "full_attention": {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0},
            "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
        },
        {
            "rope_theta": 1e6,
            "rope_local_base_freq": 1e4,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize(("rope", "added"), CASES.values(), ids=CASES)
def test_each_scaling_gets_its_old_names(rope: dict[str, Any], added: dict[str, Any]) -> None:
    config = {"model_type": "llama", "rope_parameters": rope}
    assert both_spellings(config) == {**config, **added}


@pytest.mark.parametrize("rope", [case[0] for case in CASES.values()], ids=CASES)
def test_both_spellings_stay_as_they_are(rope: dict[str, Any]) -> None:
    once = both_spellings({"model_type": "llama", "rope_parameters": rope})
    assert both_spellings(once) == once


def test_config_of_transformers_4_stays_as_it_is() -> None:
    config = {"model_type": "llama", "rope_theta": 1e6, "rope_scaling": {"type": "linear"}}
    assert both_spellings(config) == config


def test_gpt_neox_gets_its_own_old_names() -> None:
    """Without them transformers 4 rotates a quarter of a head, with a base of 10000."""
    rope = {"rope_theta": 5e4, "rope_type": "default", "partial_rotary_factor": 0.5}
    found = both_spellings({"model_type": "gpt_neox", "rope_parameters": rope})
    assert found["rotary_emb_base"] == 5e4
    assert found["rotary_pct"] == 0.5
    with pytest.raises(ConflictError, match=r"rotary_pct is 1\.0"):
        both_spellings({"model_type": "gpt_neox", "rope_parameters": rope, "rotary_pct": 1.0})


def test_number_of_experts_has_both_names() -> None:
    found = both_spellings({"model_type": "qwen3_moe", "num_local_experts": 4})
    assert found["num_experts"] == 4
    assert both_spellings({"model_type": "qwen3_moe", "num_experts": 4})["num_local_experts"] == 4
    assert "num_experts" not in both_spellings({"model_type": "mixtral", "num_local_experts": 4})


def test_spellings_that_differ_are_refused() -> None:
    rope = {"rope_theta": 1e5, "rope_type": "default"}
    with pytest.raises(ConflictError, match=r"rope_theta is 10000\.0"):
        both_spellings({"rope_theta": 10000.0, "rope_parameters": rope})
    scaled = {"rope_type": "linear", "factor": 4.0}
    with pytest.raises(ConflictError, match="rope_scaling"):
        both_spellings({"rope_scaling": {"type": "linear", "factor": 2.0},
                        "rope_parameters": scaled})  # fmt: skip
