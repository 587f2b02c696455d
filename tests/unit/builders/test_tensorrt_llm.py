"""What tensorrt-llm plans for a profile."""

from __future__ import annotations

import pytest

from forge.builders import tensorrt_llm
from forge.errors import ConfigurationError
from tests.support.builder_plans import DOCKERFILES, ROOT, key, pair, plan, profile, weights

CONVERTED = {
    "fp16": ("--dtype", "float16"),
    "bf16": ("--dtype", "bfloat16"),
    "int8": ("--dtype", "float16", "--use_weight_only", "--weight_only_precision", "int8"),
}


ENGINE = "engine.mode=engine"
BF16 = "engine.precision=bf16"
LLMAPI = ("fp16", "bf16", "int4", "fp8", "nvfp4")


def test_bundle_of_the_default_mode_is_made_without_image_and_gpu() -> None:
    steps = plan("rtx-pro-4000")
    assert list(steps) == ["checkpoint", "huggingface", "quantise", "engine"]
    for step in steps.values():
        assert step.image is None
        assert step.labels == ()


@pytest.mark.parametrize(
    ("precision", "script", "step"),
    [("fp16", "tensorrt_llm_cast", "cast"), ("bf16", "tensorrt_llm_cast", "cast"),
     ("fp8", "modelopt_quantise", "quantise"), ("nvfp4", "modelopt_quantise", "quantise"),
     ("int4", "modelopt_quantise", "quantise")],
)  # fmt: skip
def test_checkpoint_of_the_llm_api_is_cast_or_quantised_on_a_cpu(
    precision: str, script: str, step: str
) -> None:
    steps = plan("rtx-pro-4000", f"engine.precision={precision}")
    made = steps[step]
    assert made.argv[:2] == ("${tools.transformers}/bin/python", f"${{source.{script}}}")
    assert pair(made, "--precision") == ("--precision", precision)
    assert made.env == {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    assert [one.name for one in made.environments] == ["transformers"]
    assert steps["engine"].inputs["checkpoint"].step is made


def test_calibration_texts_are_part_of_a_quantised_checkpoint_only() -> None:
    quantised, cast = plan("rtx-pro-4000")["quantise"], plan("rtx-pro-4000", BF16)["cast"]
    assert pair(quantised, "--calibration") == ("--calibration", "${source.calibration}")
    assert "calibration" in [one.name for one in quantised.sources]
    assert "calibration" not in [one.name for one in cast.sources]


@pytest.mark.parametrize("step", ["quantise", "engine"])
def test_modules_that_a_script_imports_are_part_of_its_step(step: str) -> None:
    assert "modelopt_format" in [one.name for one in plan("rtx-pro-4000")[step].sources]


@pytest.mark.parametrize(
    ("image", "release"),
    [("nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3", "1.2.1"),
     ("nvcr.io/nvidia/tritonserver:26.04-trtllm-python-py3@sha256:" + "0" * 64, "1.2.1"),
     ("registry.example/mirror/tritonserver:26.03-trtllm-python-py3", "1.2.0"),
     ("nvcr.io/nvidia/tritonserver:26.02-trtllm-python-py3", "1.1.0"),
     ("nvcr.io/nvidia/tritonserver:25.10-trtllm-python-py3", "1.0.0"),
     ("nvcr.io/nvidia/tritonserver:26.10-trtllm-python-py3", None),
     ("nvcr.io/nvidia/tritonserver:26.07-py3", None),
     ("nvcr.io/nvidia/tensorrt-llm/release:1.3.0rc11", "1.3.0rc11"),
     ("triton-26.07-trtllm", "1.2.1"),
     ("registry.example/own:latest", None)],
)  # fmt: skip
def test_release_in_an_image_is_known_by_nvidias_table_only(
    image: str, release: str | None
) -> None:
    assert tensorrt_llm.release_of(image) == release
    settings = plan("rtx-pro-4000", f"serving.image={image}")["engine"].settings
    assert settings.get("runtime") == (release and {"tensorrt-llm": release})


@pytest.mark.parametrize(
    "image",
    ["nvcr.io/nvidia/tritonserver:26.08-trtllm-python-py3",
     "nvcr.io/nvidia/tensorrt-llm/release:1.3.0rc11",
     "nvcr.io/nvidia/tensorrt-llm/release:1.4.0"],
)  # fmt: skip
def test_mode_engine_is_refused_for_images_after_its_last_release(image: str) -> None:
    with pytest.raises(ConfigurationError, match="has no engines") as caught:
        plan("rtx-pro-4000", ENGINE, f"serving.image={image}")
    assert "upstream removed trtllm-build" in caught.value.why
    assert "engine.mode: llmapi" in caught.value.hint


@pytest.mark.parametrize(
    "image",
    ["nvcr.io/nvidia/tensorrt-llm/release:1.2.1", "registry.example/own:latest",
     "nvcr.io/nvidia/tritonserver:25.09-trtllm-python-py3"],
)  # fmt: skip
def test_mode_engine_is_planned_for_its_releases_and_for_images_nobody_knows(image: str) -> None:
    assert plan("rtx-pro-4000", ENGINE, f"serving.image={image}")["engine"].image == image


def test_every_step_of_mode_engine_runs_in_the_image_on_the_gpus_runner() -> None:
    steps = plan("rtx-pro-4000", ENGINE)
    for name in ("convert", "engine"):
        assert steps[name].image == profile("rtx-pro-4000").serving.image
        assert "gpu-sm120" in steps[name].labels
        assert "tensorrt-rtx" in steps[name].alternative
        assert "upstream removed trtllm-build" in steps[name].alternative


@pytest.mark.parametrize("mode", ["engine", "llmapi"])
@pytest.mark.parametrize("precision", LLMAPI)
def test_receipt_executes_a_hugging_face_checkpoint_of_the_profiles_precision(
    mode: str, precision: str
) -> None:
    chosen = profile("rtx-pro-4000", f"engine.mode={mode}", f"engine.precision={precision}")
    model = weights()
    engine = tensorrt_llm.compile(chosen, model, DOCKERFILES)
    measured = tensorrt_llm.receipt(chosen, engine, model, DOCKERFILES).step
    executed = measured.inputs["engine"].step
    assert pair(executed, "--precision") == ("--precision", precision)
    assert measured.inputs["reference"] == model.reference
    assert {"torch_receipt", "receipt", "modelopt_layers"} <= {one.name for one in measured.sources}
    assert (executed == engine.step.inputs["checkpoint"].step) == (mode == "llmapi")


def test_fp8_is_quantised_and_data_type_is_not_trtllm_builds() -> None:
    steps = plan("rtx-pro-4000", ENGINE)
    assert "/app/examples/quantization/quantize.py" in steps["convert"].argv
    assert pair(steps["convert"], "--qformat") == ("--qformat", "fp8")
    assert pair(steps["convert"], "--algorithm") == ("--algorithm", "FP8")
    words = steps["engine"].argv
    assert words[words.index("--") + 1] == "trtllm-build"
    assert pair(steps["engine"], "--max_seq_len") == ("--max_seq_len", "4096")


@pytest.mark.parametrize(
    ("architecture", "folder"),
    [("llama", "llama"), ("mistral", "llama"), ("qwen2", "qwen"), ("qwen3", "qwen")],
)
def test_each_model_has_its_own_conversion_script(architecture: str, folder: str) -> None:
    steps = plan("rtx-pro-4000", ENGINE, "engine.precision=bf16", architecture=architecture)
    script = f"/app/examples/models/core/{folder}/convert_checkpoint.py"
    assert script in steps["convert"].argv
    assert pair(steps["convert"], "--dtype") == ("--dtype", "bfloat16")


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8", "int4", "fp8", "nvfp4"])
def test_every_precision_makes_a_command_the_tools_take(precision: str) -> None:
    assert "convert" in plan("rtx-pro-4000", ENGINE, f"engine.precision={precision}")


def test_model_nobody_named_is_refused_where_a_script_must_be_chosen() -> None:
    with pytest.raises(ConfigurationError, match="URL has no architecture"):
        plan("rtx-pro-4000", ENGINE, "engine.precision=fp16", architecture=None)


def test_llmapi_refuses_a_precision_it_cannot_load() -> None:
    with pytest.raises(ConfigurationError, match="mode llmapi does not support precision int8"):
        plan("rtx-pro-4000", "engine.precision=int8")


def test_profile_without_an_image_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="has no image"):
        plan("rtx-pro-4000", ENGINE, "serving.image=null")


@pytest.mark.parametrize("precision", CONVERTED)
def test_precision_without_calibration_is_the_conversion_scripts(precision: str) -> None:
    step = plan("rtx-pro-4000", ENGINE, f"engine.precision={precision}")["convert"]
    command = step.argv[step.argv.index("--") + 1 :]
    script = "/app/examples/models/core/llama/convert_checkpoint.py"
    folders = ("--model_dir", "${inputs.checkpoint}", "--output_dir", "${outputs.checkpoint}")
    assert command == ("python3", script, *folders, *CONVERTED[precision])


@pytest.mark.parametrize(
    ("precision", "algorithm"),
    [("fp16", "none"), ("bf16", "none"), ("int8", "W8A16"), ("int4", "W4A16_AWQ"), ("fp8", "FP8"),
     ("nvfp4", "NVFP4")],
)  # fmt: skip
def test_algorithm_that_must_come_out_is_checked_by_the_tool(
    precision: str, algorithm: str
) -> None:
    step = plan("rtx-pro-4000", ENGINE, f"engine.precision={precision}")["convert"]
    assert pair(step, "--algorithm") == ("--algorithm", algorithm)


@pytest.mark.parametrize(("precision", "form"), [("int4", "int4_awq"), ("nvfp4", "nvfp4")])
def test_quantisation_is_calibrated_with_all_samples_and_offline(precision: str, form: str) -> None:
    step = plan("rtx-pro-4000", ENGINE, f"engine.precision={precision}")["convert"]
    samples = (ROOT / "forge/builders/data/calibration.jsonl").read_text().count("\n")
    assert pair(step, "--qformat") == ("--qformat", form)
    assert pair(step, "--calib_size") == ("--calib_size", str(samples))
    assert pair(step, "--export_format") == ("--export_format", "tensorrt_llm")
    assert step.env == {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def test_quantised_checkpoint_needs_no_architecture() -> None:
    assert "convert" in plan("rtx-pro-4000", ENGINE, architecture=None)


def test_lengths_and_batch_of_the_compiler_are_the_profiles() -> None:
    engine = plan(
        "rtx-pro-4000", ENGINE, "engine.max_input_len=11", "engine.max_seq_len=22",
        "engine.max_batch_size=3",
    )["engine"]  # fmt: skip
    assert engine.argv[engine.argv.index("--") + 1 :] == (
        *("trtllm-build", "--checkpoint_dir", "${inputs.checkpoint}"),
        *("--output_dir", "${outputs.engine}", "--max_batch_size", "3"),
        *("--max_input_len", "11", "--max_seq_len", "22", "--kv_cache_type", "paged"),
    )


@pytest.mark.parametrize(("mode", "step"), [("engine", "convert"), ("llmapi", "quantise")])
def test_lengths_change_the_engine_and_not_the_checkpoint(mode: str, step: str) -> None:
    before, after = (
        plan("rtx-pro-4000", f"engine.mode={mode}", f"engine.max_seq_len={tokens}")
        for tokens in (4096, 4000)
    )
    assert key(before[step]) == key(after[step])
    assert key(before["engine"]) != key(after["engine"])


@pytest.mark.parametrize("change", ["hardware.compute_capability='8.9'", "engine.precision=int4"])
def test_gpu_and_precision_change_the_engine(change: str) -> None:
    before, after = plan("rtx-pro-4000", ENGINE), plan("rtx-pro-4000", ENGINE, change)
    assert key(before["engine"]) != key(after["engine"])


def test_engine_takes_the_tokenizer_of_the_hugging_face_checkpoint() -> None:
    steps = plan("rtx-pro-4000", ENGINE)
    taken = {name: one.step.id for name, one in steps["engine"].inputs.items()}
    assert taken == {"checkpoint": steps["convert"].id, "tokenizer": "huggingface"}
    plain = plan("rtx-pro-4000")["engine"]
    taken = {name: one.step.id for name, one in plain.inputs.items()}
    assert taken == {"checkpoint": "quantise@rtx-pro-4000", "tokenizer": "huggingface"}
    assert plain.argv[0] == "${python}"


def test_profile_without_a_gpu_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="has no image or no GPU") as caught:
        plan("rtx-pro-4000", ENGINE, "hardware.compute_capability=null")
    assert caught.value.exit_code == 3
    assert "serving.image" in caught.value.hint


def test_alternative_names_the_gpu_of_the_profile() -> None:
    engine = plan("rtx-pro-4000", ENGINE, "hardware.compute_capability='8.9'")["engine"]
    assert "sm_89" in engine.alternative
    assert "engine.mode: llmapi" in engine.alternative


def test_model_without_a_conversion_script_is_refused_in_mode_engine_only() -> None:
    with pytest.raises(ConfigurationError, match="does not support 'phi3'"):
        plan("rtx-pro-4000", ENGINE, "engine.precision=fp16", architecture="phi3")
    assert "cast" in plan("rtx-pro-4000", "engine.precision=fp16", architecture="phi3")


def test_scripts_are_those_of_supported_architectures() -> None:
    assert set(tensorrt_llm.SCRIPTS) <= set(tensorrt_llm.ARCHITECTURES)
    assert profile("rtx-pro-4000").engine.precision in tensorrt_llm.PRECISIONS
