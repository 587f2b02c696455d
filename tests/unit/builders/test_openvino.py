"""What openvino plans for a profile."""

from __future__ import annotations

import openvino_gguf
import openvino_support
import pytest

from forge.builders import openvino
from forge.errors import ConfigurationError
from tests.support.builder_plans import DOCKERFILES, key, pair, plan, profile, weights

EXPORTED = ["fp16", "bf16", "int8", "int4"]


def names(step: str, *change: str) -> list[str]:
    return [one.path.name for one in plan("development", *change)[step].sources]


def test_as_is_compiles_the_original_checkpoint() -> None:
    steps = plan("development")
    assert list(steps) == ["checkpoint", "engine"]  # no other form of the model is made
    engine = steps["engine"]
    assert engine.id == "engine@development"
    assert engine.argv == (
        *("${tools.openvino}/bin/python", "${source.openvino_compile}"),
        *("--checkpoint", "${inputs.checkpoint}", "--settings", "${settings}"),
        *("--output", "${outputs.engine}"),
    )
    assert [one.name for one in engine.environments] == ["openvino"]
    assert (engine.labels, engine.image, engine.env) == ((), None, {})


@pytest.mark.parametrize("precision", EXPORTED)
@pytest.mark.parametrize("gguf", [True, False, None])
def test_other_precisions_export_the_hugging_face_form(
    precision: str,
    gguf: bool | None,  # noqa: FBT001
) -> None:
    steps = plan("development", f"engine.precision={precision}", gguf=gguf)
    assert list(steps) == ["checkpoint", "huggingface", "engine"]
    engine = steps["engine"]
    assert engine.argv[:2] == ("${tools.optimum}/bin/python", "${source.openvino_export}")
    assert [one.name for one in engine.environments] == ["optimum"]
    assert engine.env == {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    assert engine.settings == {"engine": {"builder": "openvino", "precision": precision}}


def test_modules_that_a_tool_imports_are_part_of_its_key() -> None:
    assert {"openvino_compile.py", "gguf_header.py", "gguf_requantise.py", "room.py"} <= set(
        names("engine")
    )
    assert {"openvino_export.py", "openvino_support.py", "openvino_ir.py", "room.py"} <= set(
        names("engine", "engine.precision=int8")
    )


def test_step_sees_builder_and_precision_and_no_more() -> None:
    settings = plan("development")["engine"].settings
    assert settings == {"engine": {"builder": "openvino", "precision": "as-is"}}


@pytest.mark.parametrize(
    "change", ["engine.max_batch_size=3", "engine.max_seq_len=999", "serving.kv_cache_mib=64"]
)
def test_setting_that_counts_when_it_is_served_does_not_change_the_engine(change: str) -> None:
    assert key(plan("development")["engine"]) == key(plan("development", change)["engine"])


@pytest.mark.parametrize(
    ("precision", "form"),
    [(openvino.AS_IS, "checkpoint"), *((precision, "huggingface") for precision in EXPORTED)],
)
def test_receipt_compares_weights_with_the_form_that_was_compiled(
    precision: str, form: str
) -> None:
    chosen = profile("development", f"engine.precision={precision}")
    model = weights()
    engine = openvino.compile(chosen, model, DOCKERFILES)
    step = openvino.receipt(chosen, engine, model, DOCKERFILES).step
    assert step.inputs["checkpoint"].step.id == form
    assert pair(step, "--checkpoint") == ("--checkpoint", "${inputs.checkpoint}")
    assert {"openvino_weights.py", "ir_weights.py"} <= {one.path.name for one in step.sources}


@pytest.mark.parametrize("platform", ["linux/amd64", "linux/arm64"])
def test_engine_is_compiled_on_the_platform_of_the_profile(platform: str) -> None:
    assert plan("development", f"platform={platform}")["engine"].platform == platform


@pytest.mark.parametrize("gguf", [True, None])
def test_checkpoint_that_may_be_a_gguf_file_is_planned(gguf: bool | None) -> None:  # noqa: FBT001
    assert "engine" in plan("development", gguf=gguf)


def test_as_is_refuses_a_checkpoint_whose_url_names_safetensors() -> None:
    with pytest.raises(ConfigurationError, match="compiles GGUF files only") as caught:
        plan("development", gguf=False)
    assert caught.value.exit_code == 3
    assert "set engine.precision to fp16, bf16" in caught.value.hint


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_as_is_plans_what_the_gguf_reader_reads(architecture: str) -> None:
    assert "engine" in plan("development", architecture=architecture)


def test_model_the_gguf_reader_does_not_read_is_planned_by_way_of_hugging_face() -> None:
    with pytest.raises(
        ConfigurationError, match="does not support 'mistral' models as GGUF"
    ) as caught:
        plan("development", architecture="mistral")
    assert "set engine.precision to fp16 or bf16" in caught.value.hint
    assert "engine" in plan("development", "engine.precision=int8", architecture="mistral")


@pytest.mark.parametrize(
    ("change", "architecture"),
    [("engine.precision=fp8", "llama"), ("engine.precision=int8", "gemma2")],
)
def test_precision_or_architecture_that_is_not_known_is_refused(
    change: str, architecture: str
) -> None:
    with pytest.raises(ConfigurationError):
        plan("development", change, architecture=architecture)


def test_architectures_are_those_of_the_tools() -> None:
    assert openvino.ARCHITECTURES == openvino_support.ARCHITECTURES
    assert openvino.GGUF_ARCHITECTURES == openvino_gguf.ARCHITECTURES
    assert not set(openvino.ARCHITECTURES) & set(openvino_support.WRONG)
