"""What edge-llm and tensorrt-llm plan for a profile; nothing runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from forge import profiles
from forge.builders import Weights, builder_of, check
from forge.errors import ConfigurationError
from forge.profiles import Profile
from forge.steps import Artifact, Step, key_of, walk

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILES = ROOT / "dockerfiles"
SHARED = ("torch==", "transformers==", "safetensors==", "numpy==")


def profile(name: str, *overrides: str) -> Profile:
    return profiles.load(name, ROOT / "profiles", overrides=overrides).profile


def weights(architecture: str | None = "llama") -> Weights:
    original = Step(id="checkpoint", argv=("fetch",), outputs=("checkpoint",))
    converted = Step(
        id="huggingface",
        argv=("convert",),
        inputs={"checkpoint": original["checkpoint"]},
        outputs=("checkpoint",),
    )
    checkpoint = converted["checkpoint"]
    onnx = Step(id="onnx", argv=("export",), inputs={"checkpoint": checkpoint}, outputs=("onnx",))
    return Weights(original["checkpoint"], checkpoint, architecture, onnx["onnx"])


def plan(name: str, *overrides: str, architecture: str | None = "llama") -> dict[str, Step]:
    chosen = profile(name, *overrides)
    builder = builder_of(chosen)
    check(chosen, builder, architecture)
    engine: Artifact = builder.compile(chosen, weights(architecture), DOCKERFILES)
    return {step.id.partition("@")[0]: step for step in walk([engine])}


def key(step: Step) -> str:
    return key_of(step, dict.fromkeys(step.inputs, "a" * 64)).digest


class TestEdgeLlm:
    def test_thor_quantises_to_nvfp4_and_exports_for_its_sm(self) -> None:
        steps = plan("jetson-agx-thor")
        assert list(steps) == ["checkpoint", "huggingface", "quantise", "export", "engine"]
        assert "nvfp4" in steps["quantise"].argv
        assert steps["export"].argv[-2:] == ("--target-sm", "110")

    def test_int4_for_orin_is_awq(self) -> None:
        assert "int4_awq" in plan("jetson-agx-orin", "engine.precision=int4")["quantise"].argv

    def test_orin_is_fp16_for_the_demos_model_and_quantises_nothing(self) -> None:
        steps = plan("jetson-agx-orin")
        assert "quantise" not in steps
        assert steps["export"].inputs["checkpoint"].step.id == "huggingface"

    def test_equal_precision_is_quantised_once_for_all_skus(self) -> None:
        thor = plan("jetson-agx-thor", "engine.precision=int4")["quantise"]
        assert key(thor) == key(plan("jetson-agx-orin", "engine.precision=int4")["quantise"])

    def test_lengths_change_the_engine_and_neither_quantisation_nor_export(self) -> None:
        before = plan("jetson-agx-thor")
        after = plan("jetson-agx-thor", "engine.max_input_len=1024")
        changed = {name for name in before if key(before[name]) != key(after[name])}
        assert changed == {"engine"}

    def test_engine_for_the_device_needs_no_runner_and_carries_the_command(self) -> None:
        engine = plan("jetson-agx-thor", "engine.max_batch_size=3")["engine"]
        assert engine.platform is None
        assert engine.labels == ()
        compiler = engine.settings["compiler"]
        assert isinstance(compiler, list)
        assert compiler[0] == "llm_build"
        assert "${source}" in compiler
        assert compiler[-2:] == ["--maxBatchSize", "3"]
        assert "4096" in compiler

    def test_engine_on_a_runner_wants_the_device_and_runs_the_compiler(self) -> None:
        engine = plan("jetson-agx-thor", "engine.build_on=runner")["engine"]
        assert engine.platform == "linux/arm64"
        assert "jetson-agx-thor" in engine.labels
        assert "llm_build" in engine.argv
        assert "build_on: device" in engine.alternative

    @pytest.mark.parametrize("precision", ["nvfp4", "fp8"])
    def test_precision_the_gpu_cannot_compute_in_is_refused(self, precision: str) -> None:
        with pytest.raises(ConfigurationError, match="tensor cores compute in") as caught:
            plan("jetson-agx-orin", f"engine.precision={precision}")
        assert "fp16, int4" in caught.value.hint

    def test_profile_without_a_gpu_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="names no GPU"):
            plan("jetson-agx-thor", "hardware.compute_capability=null")

    def test_unknown_architecture_is_refused_with_the_known_ones(self) -> None:
        with pytest.raises(ConfigurationError, match="knows no 'gpt2' models") as caught:
            plan("jetson-agx-thor", architecture="gpt2")
        assert "qwen3_moe" in caught.value.why


class TestTensorRtLlm:
    def test_every_step_of_an_engine_runs_in_the_image_on_the_gpus_runner(self) -> None:
        steps = plan("rtx-pro-4000")
        for name in ("convert", "engine"):
            assert steps[name].image == profile("rtx-pro-4000").serving.image
            assert "gpu-sm120" in steps[name].labels
            assert "tensorrt-rtx" in steps[name].alternative

    def test_fp8_is_quantised_and_data_type_is_not_trtllm_builds(self) -> None:
        steps = plan("rtx-pro-4000")
        assert "/app/examples/quantization/quantize.py" in steps["convert"].argv
        assert _pair(steps["convert"], "--qformat") == ("--qformat", "fp8")
        assert _pair(steps["convert"], "--algorithm") == ("--algorithm", "FP8")
        words = steps["engine"].argv
        assert words[words.index("--") + 1] == "trtllm-build"
        assert _pair(steps["engine"], "--max_seq_len") == ("--max_seq_len", "4096")

    @pytest.mark.parametrize(
        ("architecture", "folder"),
        [("llama", "llama"), ("mistral", "llama"), ("qwen2", "qwen"), ("qwen3", "qwen")],
    )
    def test_each_model_has_its_own_conversion_script(self, architecture: str, folder: str) -> None:
        steps = plan("rtx-pro-4000", "engine.precision=bf16", architecture=architecture)
        script = f"/app/examples/models/core/{folder}/convert_checkpoint.py"
        assert script in steps["convert"].argv
        assert _pair(steps["convert"], "--dtype") == ("--dtype", "bfloat16")

    @pytest.mark.parametrize("precision", ["fp16", "bf16", "int8", "int4", "fp8", "nvfp4"])
    def test_every_precision_makes_a_command_the_tools_take(self, precision: str) -> None:
        assert "convert" in plan("rtx-pro-4000", f"engine.precision={precision}")

    def test_model_nobody_named_is_refused_where_a_script_must_be_chosen(self) -> None:
        with pytest.raises(ConfigurationError, match="does not say which model"):
            plan("rtx-pro-4000", "engine.precision=fp16", architecture=None)

    def test_llmapi_in_fp16_needs_no_gpu_and_no_image(self) -> None:
        steps = plan("rtx-pro-4000", "engine.mode=llmapi", "engine.precision=fp16")
        assert "convert" not in steps
        assert steps["engine"].image is None
        assert steps["engine"].labels == ()

    def test_llmapi_quantised_is_a_hugging_face_checkpoint(self) -> None:
        steps = plan("rtx-pro-4000", "engine.mode=llmapi")
        assert _pair(steps["convert"], "--export_format") == ("--export_format", "hf")
        assert "trtllm-build" not in steps["engine"].argv

    @pytest.mark.parametrize("precision", ["bf16", "int8"])
    def test_llmapi_refuses_a_precision_it_cannot_load(self, precision: str) -> None:
        with pytest.raises(ConfigurationError, match="in mode llmapi"):
            plan("rtx-pro-4000", "engine.mode=llmapi", f"engine.precision={precision}")

    def test_profile_without_an_image_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="names no image"):
            plan("rtx-pro-4000", "serving.image=null")


def _pair(step: Step, option: str) -> tuple[str, str]:
    place = step.argv.index(option)
    return step.argv[place], step.argv[place + 1]


def test_openvino_refuses_a_checkpoint_whose_url_names_no_gguf_file() -> None:
    chosen = profile("development")
    other = replace(weights(), gguf=False)
    with pytest.raises(ConfigurationError, match="takes GGUF files only"):
        builder_of(chosen).compile(chosen, other, DOCKERFILES)
    assert builder_of(chosen).compile(chosen, weights(), DOCKERFILES).step.labels == ()


def test_both_torch_environments_pin_one_torch_and_one_transformers() -> None:
    pins = []
    for name in ("edge-llm", "transformers"):
        lock = (ROOT / "dockerfiles" / name / "requirements.lock").read_text()
        pins.append({line.split()[0] for line in lock.splitlines() if line.startswith(SHARED)})
    assert pins[0] == pins[1]
    assert len(pins[0]) == len(SHARED)


def test_calibration_file_is_as_the_tool_reads_it() -> None:
    text = (ROOT / "forge" / "builders" / "data" / "calibration.jsonl").read_text("utf-8")
    assert all(json.loads(line)["article"].strip() for line in text.splitlines())


def test_profiles_say_what_nobody_ran() -> None:
    for name in ("jetson-agx-thor", "jetson-agx-orin", "rtx-pro-4000"):
        profile = yaml.safe_load((ROOT / "profiles" / f"{name}.yaml").read_text())
        assert any("engine" in item for item in profile["unverified"])
        assert any("serving" in item for item in profile["unverified"])
