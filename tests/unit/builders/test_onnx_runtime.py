"""What onnx-runtime plans for a profile."""

from __future__ import annotations

import re

import pytest

from forge import profiles
from forge.builders import onnx_runtime
from forge.errors import ConfigurationError
from tests.support.builder_plans import DOCKERFILES, key, plan, profile, weights

P40 = "tesla-p40"


def test_engine_for_a_gpu_is_made_on_any_machine() -> None:
    engine = plan(P40)["engine"]
    assert (engine.platform, engine.labels, engine.planned_only, engine.image) == (
        *(None, (), ""),
        None,
    )
    assert {name: one.step.id for name, one in engine.inputs.items()} == {"checkpoint": "onnx"}


def test_engine_step_is_the_tool_with_settings_in_a_file() -> None:
    engine = plan(P40)["engine"]
    assert engine.argv == (
        *("${tools.optimum}/bin/python", "${source.onnx_runtime_engine}"),
        *("--checkpoint", "${inputs.checkpoint}", "--settings", "${settings}"),
        *("--output", "${outputs.engine}"),
    )
    assert [one.name for one in engine.environments] == ["optimum"]


def test_engine_step_sees_precision_and_runtime_and_no_more() -> None:
    assert plan(P40)["engine"].settings == {
        "engine": {"builder": "onnx-runtime", "precision": "fp32"},
        "runtime": onnx_runtime.RUNTIME,
    }


def test_precision_changes_the_engine_and_lengths_do_not() -> None:
    here = key(plan(P40)["engine"])
    assert key(plan(P40, "engine.precision=fp16")["engine"]) != here
    for change in ("engine.max_seq_len=4000", "engine.max_batch_size=1", "serving.kv_cache_mib=64"):
        assert key(plan(P40, change)["engine"]) == here


def test_engine_is_bound_to_what_its_environment_installs() -> None:
    lock = (DOCKERFILES / "triton-onnx-runtime" / "requirements.lock").read_text()
    installed = dict(re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE))
    assert {name: installed[name] for name in onnx_runtime.RUNTIME} == onnx_runtime.RUNTIME


def test_receipt_executes_the_engine_itself() -> None:
    chosen, model = profile(P40), weights()
    engine = onnx_runtime.compile(chosen, model, DOCKERFILES)
    receipt = onnx_runtime.receipt(chosen, engine, model, DOCKERFILES).step
    assert {name: one.step.id for name, one in receipt.inputs.items()} == {
        "engine": f"engine@{P40}",
        "reference": "reference",
    }


@pytest.mark.parametrize("capability", onnx_runtime.TARGETS)
def test_every_target_is_planned(capability: str) -> None:
    assert "engine" in plan(P40, f"hardware.compute_capability='{capability}'")


@pytest.mark.parametrize(
    "change",
    ["hardware.compute_capability='5.2'", "hardware.compute_capability='12.0'",
     "hardware.compute_capability=null", "platform=linux/arm64"],
)  # fmt: skip
def test_device_that_the_runtime_has_no_kernels_for_is_refused(change: str) -> None:
    with pytest.raises(ConfigurationError, match="does not support the device") as caught:
        plan(P40, change)
    assert ", ".join(onnx_runtime.TARGETS) in caught.value.why
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("precision", ["as-is", "bf16", "fp8", "int4"])
def test_precision_that_is_not_made_is_refused(precision: str) -> None:
    with pytest.raises(ConfigurationError, match="does not support precision"):
        plan(P40, f"engine.precision={precision}")


def test_profile_of_the_p40_requires_its_gpu() -> None:
    found = profiles.load(P40, DOCKERFILES.parent / "profiles").profile
    assert found.hardware.compute_capability == "6.1"
    assert found.hardware.memory_kind == "discrete"
    assert found.requires.driver_min == "525.60.13"
    assert found.serving.environment == "triton-onnx-runtime"
