"""What edge-llm plans for a profile."""

from __future__ import annotations

import json

import edge_llm_model
import pytest

from forge.builders import edge_llm
from forge.errors import ConfigurationError
from forge.steps import placeholders
from tests.support.builder_plans import DOCKERFILES, ROOT, key, pair, plan, profile, weights

SHARED = ("torch==", "transformers==", "safetensors==", "numpy==")


def test_thor_quantises_to_nvfp4_and_exports_for_its_sm() -> None:
    steps = plan("jetson-agx-thor")
    assert list(steps) == ["checkpoint", "huggingface", "quantise", "export", "engine"]
    assert "nvfp4" in steps["quantise"].argv
    assert steps["export"].argv[-2:] == ("--target-sm", "110")


def test_int4_for_orin_is_awq() -> None:
    assert "int4_awq" in plan("jetson-agx-orin", "engine.precision=int4")["quantise"].argv


def test_orin_is_fp16_for_the_demos_model_and_quantises_nothing() -> None:
    steps = plan("jetson-agx-orin")
    assert "quantise" not in steps
    assert steps["export"].inputs["checkpoint"].step.id == "huggingface"


def test_equal_precision_is_quantised_once_for_all_skus() -> None:
    thor = plan("jetson-agx-thor", "engine.precision=int4")["quantise"]
    assert key(thor) == key(plan("jetson-agx-orin", "engine.precision=int4")["quantise"])


def test_lengths_change_the_engine_and_neither_quantisation_nor_export() -> None:
    before = plan("jetson-agx-thor")
    after = plan("jetson-agx-thor", "engine.max_input_len=1024")
    changed = {name for name in before if key(before[name]) != key(after[name])}
    assert changed == {"engine"}


def test_engine_for_the_device_needs_no_runner_and_carries_the_command() -> None:
    engine = plan("jetson-agx-thor", "engine.max_batch_size=3")["engine"]
    assert engine.platform is None
    assert engine.labels == ()
    compiler = engine.settings["compiler"]
    assert isinstance(compiler, list)
    assert compiler[0] == "llm_build"
    assert "${source}" in compiler
    assert compiler[-2:] == ["--maxBatchSize", "3"]
    assert "4096" in compiler


def test_engine_on_a_runner_wants_the_device_and_runs_the_compiler() -> None:
    engine = plan("jetson-agx-thor", "engine.build_on=runner")["engine"]
    assert engine.platform == "linux/arm64"
    assert "jetson-agx-thor" in engine.labels
    assert "llm_build" in engine.argv
    assert "build_on: device" in engine.alternative


@pytest.mark.parametrize("precision", ["nvfp4", "fp8"])
def test_precision_the_gpu_cannot_compute_in_is_refused(precision: str) -> None:
    with pytest.raises(ConfigurationError, match="requires compute capability") as caught:
        plan("jetson-agx-orin", f"engine.precision={precision}")
    assert "fp16, int4" in caught.value.hint


def test_profile_without_a_gpu_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="has no GPU"):
        plan("jetson-agx-thor", "hardware.compute_capability=null")


def test_unknown_architecture_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="does not support 'gpt2' models") as caught:
        plan("jetson-agx-thor", architecture="gpt2")
    assert "hunyuan_v1_dense" in caught.value.why


def test_architectures_are_those_whose_tensors_the_tools_account_for() -> None:
    assert set(edge_llm.ARCHITECTURES) == set(edge_llm_model.FAMILIES)


@pytest.mark.parametrize("name", ["jetson-agx-thor", "jetson-agx-orin"])
def test_receipt_executes_the_exported_graph_beside_the_checkpoints_reference(name: str) -> None:
    chosen, made = profile(name), weights()
    engine = edge_llm.compile(chosen, made, DOCKERFILES)
    step = edge_llm.receipt(chosen, engine, made, DOCKERFILES).step
    assert step.inputs["engine"] == engine.step.inputs["export"]
    assert step.inputs["reference"] == made.reference
    assert step.argv[0] == "${tools.edge-llm}/bin/python"
    named = {source.name for source in step.sources}
    assert {"edge_llm_receipt", "edge_llm_graph", "edge_llm_attention", "receipt"} <= named


def test_both_torch_environments_pin_one_torch_and_one_transformers() -> None:
    pins = []
    for name in ("edge-llm", "transformers"):
        lock = (DOCKERFILES / name / "requirements.lock").read_text()
        pins.append({line.split()[0] for line in lock.splitlines() if line.startswith(SHARED)})
    assert pins[0] == pins[1]
    assert len(pins[0]) == len(SHARED)


def test_calibration_file_is_as_the_tool_reads_it() -> None:
    text = (ROOT / "forge" / "builders" / "data" / "calibration.jsonl").read_text("utf-8")
    assert all(json.loads(line)["article"].strip() for line in text.splitlines())


@pytest.mark.parametrize(
    ("precision", "quantisation"), [("fp8", "fp8"), ("int4", "int4_awq"), ("nvfp4", "nvfp4")]
)
def test_quantisation_runs_offline_on_any_cpu_with_all_calibration_samples(
    precision: str, quantisation: str
) -> None:
    step = plan("jetson-agx-thor", f"engine.precision={precision}")["quantise"]
    samples = (ROOT / "forge/builders/data/calibration.jsonl").read_text().count("\n")
    assert pair(step, "--quantization") == ("--quantization", quantisation)
    assert pair(step, "--num_samples") == ("--num_samples", str(samples))
    assert pair(step, "--device") == ("--device", "cpu")
    assert step.env == {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    assert (step.platform, step.labels, step.settings) == ("linux/amd64", (), {})
    assert {source.name for source in step.sources} == {
        *("edge_llm_quantise", "edge_llm_model", "checkpoint_check", "room", "calibration"),
    }
    assert pair(step, "--architectures")[1].split(",") == list(edge_llm.ARCHITECTURES)


def test_export_records_what_does_not_stand_in_the_onnx() -> None:
    step = plan("jetson-agx-thor")["export"]
    assert step.outputs == ("export", "record")
    assert pair(step, "--sm") == ("--sm", "110")
    assert pair(step, "--quantisation") == ("--quantisation", "nvfp4")
    plain = plan("jetson-agx-orin")["export"]
    assert pair(plain, "--quantisation") == ("--quantisation", "fp16")
    assert (step.platform, step.labels) == ("linux/amd64", ())


def test_engine_takes_both_outputs_of_the_export() -> None:
    steps = plan("jetson-agx-thor")
    taken = {name: (one.step.id, one.output) for name, one in steps["engine"].inputs.items()}
    export = steps["export"].id
    assert taken == {"export": (export, "export"), "record": (export, "record")}


@pytest.mark.parametrize("build_on", ["device", "runner"])
def test_compiler_of_a_device_is_a_setting_and_of_a_runner_the_command(build_on: str) -> None:
    engine = plan("jetson-agx-thor", f"engine.build_on={build_on}")["engine"]
    chosen = profile("jetson-agx-thor")
    if build_on == "device":
        expected = edge_llm.llm_build(chosen, "${source}", "${engine}")
        assert engine.settings["compiler"] == list(expected)
        assert "--" not in engine.argv
    else:
        expected = edge_llm.llm_build(chosen, "${inputs.export}/llm", "${outputs.engine}")
        assert engine.argv[engine.argv.index("--") + 1 :] == expected
        assert "compiler" not in engine.settings


def test_lengths_of_the_compiler_are_the_profiles() -> None:
    chosen = profile(
        "jetson-agx-thor", "engine.max_input_len=11", "engine.max_seq_len=22",
        "engine.max_batch_size=3",
    )  # fmt: skip
    assert edge_llm.llm_build(chosen, "in", "out") == (
        *("llm_build", "--onnxDir", "in", "--engineDir", "out", "--maxInputLen", "11"),
        *("--maxKVCacheCapacity", "22", "--maxBatchSize", "3"),
    )


@pytest.mark.parametrize(
    ("precision", "capability", "planned"),
    [
        ("fp8", "8.7", False), ("fp8", "8.9", True), ("nvfp4", "9.0", False),
        ("nvfp4", "10.0", True), ("int4", "7.5", True), ("fp16", "7.5", True),
    ],
)  # fmt: skip
def test_precision_is_planned_from_the_first_gpu_that_computes_in_it(
    precision: str, capability: str, planned: object
) -> None:
    changes = (f"engine.precision={precision}", f"hardware.compute_capability='{capability}'")
    if planned:
        assert "engine" in plan("jetson-agx-thor", *changes)
        return
    with pytest.raises(ConfigurationError) as caught:
        plan("jetson-agx-thor", *changes)
    assert caught.value.exit_code == 3


def test_quantisation_is_the_same_for_every_device_and_the_export_for_every_precision_is_not() -> (
    None
):
    orin, thor = (
        plan(name, "engine.precision=int4") for name in ("jetson-agx-orin", "jetson-agx-thor")
    )
    assert key(orin["export"]) != key(thor["export"])
    assert key(thor["export"]) != key(plan("jetson-agx-thor")["export"])


@pytest.mark.parametrize("name", ["quantise", "export", "engine"])
def test_every_placeholder_names_what_the_step_declares(name: str) -> None:
    step = plan("jetson-agx-thor")[name]
    kinds = {kind for kind, _ in placeholders(step.argv)}
    assert kinds <= {"inputs", "outputs", "tools", "source", "settings", "python"}
