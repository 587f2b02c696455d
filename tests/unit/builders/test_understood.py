"""A field of config.json that may change what is computed is refused by name."""

from typing import Any

import pytest
from understood import READERS, UnsupportedError, check, rope_types

from forge.builders import edge_llm, tensorrt_rtx

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 10,
    "hidden_size": 8,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "mlp_bias": False,
    "use_cache": True,
    "torch_dtype": "float16",
    "transformers_version": "4.40.0",
    "rope_scaling": None,
}


@pytest.mark.parametrize("reader", READERS)
def test_usual_config_is_taken(reader: str) -> None:
    check(LLAMA, reader)


@pytest.mark.parametrize(
    "changed",
    [
        {"attn_logit_softcapping": 50.0},
        {"embedding_multiplier": 12.0},
        {"num_local_experts": 8},
        {"attention_sinks": True},
        {"use_parallel_residual": True},
        {"partial_rotary_factor": 0.5},
        {"sliding_window": 4096},
        {"a_field_of_the_future": 1},
        {"no_rope": False},  # its default may be True
    ],
)
@pytest.mark.parametrize("reader", READERS)
def test_field_of_no_list_is_refused_by_name(changed: dict[str, Any], reader: str) -> None:
    (name,) = changed
    with pytest.raises(UnsupportedError, match=rf"config\.json: {name} = "):
        check({**LLAMA, **changed}, reader)


@pytest.mark.parametrize(
    "changed",
    [{"sliding_window": None}, {"partial_rotary_factor": 1.0}, {"rope_interleaved": False}],
)
def test_field_with_a_value_that_changes_nothing_is_taken(changed: dict[str, Any]) -> None:
    check({**LLAMA, **changed}, "transformers")


@pytest.mark.parametrize(
    ("reader", "kinds"),
    [("onnx", ["dynamic", "longrope", "new"]), ("edge-llm", ["linear", "dynamic", "longrope"]),
     ("transformers", ["su", "mrope"])],
)  # fmt: skip
@pytest.mark.parametrize("spelling", ["rope_scaling", "rope_parameters"])
def test_scaling_that_a_reader_computes_otherwise_is_refused(
    reader: str, kinds: list[str], spelling: str
) -> None:
    for kind in kinds:
        for name in ("type", "rope_type"):
            with pytest.raises(UnsupportedError, match=f"rope_type = '{kind}'"):
                check({**LLAMA, spelling: {name: kind, "factor": 2.0}}, reader)


def test_scaling_of_each_kind_of_attention_is_seen() -> None:
    rope = {"full_attention": {"rope_type": "yarn"}, "sliding_attention": {"rope_type": "dynamic"}}
    assert rope_types({"rope_parameters": rope}) == {"yarn", "dynamic"}


@pytest.mark.parametrize(
    ("family", "changed"),
    [
        ("llama", {"mlp_bias": True}),
        ("llama", {"attention_bias": True}),
        ("mistral", {"sliding_window": 4096}),
        ("qwen2", {"use_sliding_window": True}),
        ("llama", {"hidden_act": "gelu"}),
    ],
)
def test_what_edge_llm_s_exporter_does_not_read_is_refused(
    family: str, changed: dict[str, Any]
) -> None:
    (name,) = changed
    config = {"model_type": family, "vocab_size": 10, **changed}
    check(config, "transformers")
    with pytest.raises(UnsupportedError, match=rf"{name} = .* for Edge-LLM"):
        check(config, "edge-llm")


@pytest.mark.parametrize("family", ["gpt2", "dbrx", None])
def test_family_whose_graph_was_not_compared_is_refused(family: str | None) -> None:
    with pytest.raises(UnsupportedError, match="models"):
        check({"model_type": family}, "onnx")


def test_builders_plan_the_families_that_their_reader_takes() -> None:
    assert sorted(tensorrt_rtx.ARCHITECTURES) == sorted(READERS["onnx"].families)
    assert sorted(edge_llm.ARCHITECTURES) == sorted(READERS["edge-llm"].families)
