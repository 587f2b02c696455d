"""What tensorrt-rtx plans for a profile."""

from __future__ import annotations

import pytest

from forge.builders import tensorrt_rtx
from forge.errors import ConfigurationError
from tests.support.builder_plans import key, plan

AOT = "rtx-pro-4000-aot"


def test_engine_for_a_gpu_is_compiled_on_any_amd64_machine() -> None:
    steps = plan(AOT)
    engine = steps["engine"]
    assert (engine.platform, engine.labels, engine.planned_only) == ("linux/amd64", (), "")
    assert (engine.image, engine.env) == (None, {})
    assert {name: one.step.id for name, one in engine.inputs.items()} == {"checkpoint": "onnx"}


def test_engine_step_is_the_tool_with_settings_in_a_file() -> None:
    engine = plan(AOT)["engine"]
    assert engine.argv == (
        *("${tools.tensorrt-rtx}/bin/python", "${source.tensorrt_rtx_compile}"),
        *("--checkpoint", "${inputs.checkpoint}", "--settings", "${settings}"),
        *("--output", "${outputs.engine}"),
    )
    assert [one.name for one in engine.environments] == ["tensorrt-rtx"]


def test_engine_step_sees_what_decides_the_engine_and_no_more() -> None:
    settings = plan(AOT, "engine.max_batch_size=3", "engine.max_input_len=11")["engine"].settings
    assert settings["hardware"] == {"compute_capability": "12.0"}
    engine = settings["engine"]
    assert isinstance(engine, dict)
    assert set(engine) == {
        "builder", "precision", "max_batch_size", "max_input_len", "max_seq_len",
    }  # fmt: skip
    assert (engine["max_batch_size"], engine["max_input_len"]) == (3, 11)


@pytest.mark.parametrize("change", ["engine.max_seq_len=4000", "hardware.compute_capability='8.9'"])
def test_lengths_and_gpu_change_the_engine(change: str) -> None:
    assert key(plan(AOT)["engine"]) != key(plan(AOT, change)["engine"])


def test_setting_that_counts_when_it_is_served_does_not_change_the_engine() -> None:
    other = plan(AOT, "serving.kv_cache_mib=64")["engine"]
    assert key(plan(AOT)["engine"]) == key(other)


@pytest.mark.parametrize("capability", tensorrt_rtx.TARGETS)
def test_every_target_is_planned(capability: str) -> None:
    assert "engine" in plan(AOT, f"hardware.compute_capability='{capability}'")


@pytest.mark.parametrize(
    "change",
    ["hardware.compute_capability='11.0'", "platform=linux/arm64",
     "hardware.compute_capability=null"],
)  # fmt: skip
def test_device_that_cannot_be_targeted_is_refused(change: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot compile for profile") as caught:
        plan(AOT, change)
    assert ", ".join(tensorrt_rtx.TARGETS) in caught.value.why
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("change", "architecture"),
    [("engine.precision=fp8", "llama"), ("engine.precision=fp16", "mamba")],
)
def test_precision_or_architecture_that_is_not_known_is_refused(
    change: str, architecture: str
) -> None:
    with pytest.raises(ConfigurationError):
        plan(AOT, change, architecture=architecture)
