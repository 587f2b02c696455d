"""TensorRT-LLM in NVIDIA's image, on a runner that has the target's GPU. Planned, never run by us.

convert@PROFILE   the data type and the quantisation: both are the checkpoint's, not trtllm-build's
engine@PROFILE    mode `engine`: `trtllm-build`, which 1.2.1 is the last release to have; it times
                  kernels on the GPU that is present and cannot name another one
                  mode `llmapi`: the Hugging Face checkpoint (quantised), loaded by the LLM API

Sources: docs/facts.md sections 4, 6 and 7; the options in flags/.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge.builders import Weights, flags
from forge.errors import ConfigurationError
from forge.profiles import Profile, select
from forge.steps import Artifact, SourceFile, Step, source

__all__ = ["ARCHITECTURES", "PRECISIONS", "READS", "compile"]

READS: Final = ("engine", "hardware.compute_capability", "serving.image")
# Model → folder of examples/models/core in the image; each has its own convert_checkpoint.py.
SCRIPTS: Final = {"llama": "llama", "mistral": "llama", "qwen2": "qwen", "qwen3": "qwen"}
ARCHITECTURES: Final = tuple(SCRIPTS)


@dataclass(frozen=True, slots=True)
class _Precision:
    """How a precision is made: the script's own words, and the quant_algo that must come out."""

    convert: tuple[str, ...] = ()
    quantise: str = ""
    algorithm: str = "none"


_PRECISIONS: Final = {
    "fp16": _Precision(convert=("--dtype", "float16")),
    "bf16": _Precision(convert=("--dtype", "bfloat16")),
    "int8": _Precision(
        convert=("--dtype", "float16", "--use_weight_only", "--weight_only_precision", "int8"),
        algorithm="W8A16",
    ),
    "int4": _Precision(quantise="int4_awq", algorithm="W4A16_AWQ"),
    "fp8": _Precision(quantise="fp8", algorithm="FP8"),
    "nvfp4": _Precision(quantise="nvfp4", algorithm="NVFP4"),
}
PRECISIONS: Final = tuple(_PRECISIONS)

_EXAMPLES: Final = "/app/examples"  # where the image keeps them
_DATASET: Final = "calibration"  # a folder the script makes beside itself; no network is needed
_TOOLS: Final = Path(__file__).parent / "tools"
_CALIBRATION: Final = Path(__file__).parent / "data" / "calibration.jsonl"


def compile(profile: Profile, weights: Weights, dockerfiles: Path) -> Artifact:  # noqa: A001
    """Plan the engine.

    Raises ConfigurationError: no image, no GPU, a precision that mode cannot load, or a checkpoint
    whose URL does not say its architecture.
    """
    if profile.serving.image is None or profile.hardware.compute_capability is None:
        message = f"Profile {profile.name!r} names no image or no GPU for tensorrt-llm"
        hint = "set serving.image and hardware.compute_capability; see profiles/rtx-pro-4000.yaml"
        raise ConfigurationError(message, hint=hint)
    if profile.engine.mode == "llmapi":
        return _engine(profile, weights, _quantised(profile, weights))
    return _engine(profile, weights, _converted(profile, weights))


def _converted(profile: Profile, weights: Weights) -> Artifact:
    """The checkpoint in TensorRT-LLM's own form."""
    made = _PRECISIONS[profile.engine.precision]
    if made.quantise:
        return _quantise(profile, weights, "tensorrt_llm")
    if weights.architecture is None:
        message = "The checkpoint's URL does not say which model it is"
        hint = "add &architecture=llama (or what it is): each model has its own conversion script"
        raise ConfigurationError(message, hint=hint)
    script = f"{_EXAMPLES}/models/core/{SCRIPTS[weights.architecture]}/convert_checkpoint.py"
    return _convert(profile, weights, script, made.convert)


def _quantised(profile: Profile, weights: Weights) -> Artifact:
    """The checkpoint as a Hugging Face folder, quantised where the precision needs it."""
    precision = profile.engine.precision
    made = _PRECISIONS[precision]
    if made.quantise:
        return _quantise(profile, weights, "hf")
    if precision == "fp16":
        return weights.huggingface
    raise ConfigurationError(
        f"Profile {profile.name!r} asks for {precision} in mode llmapi",
        why="the checkpoint is fp16 and the LLM API loads it as it is",
        hint="set engine.precision to fp16, int4, fp8 or nvfp4, or engine.mode to engine",
    )


def _quantise(profile: Profile, weights: Weights, form: str) -> Artifact:
    samples = len(_CALIBRATION.read_text(encoding="utf-8").splitlines())  # all it holds
    arguments = (
        *("--qformat", _PRECISIONS[profile.engine.precision].quantise),
        *("--calib_dataset", _DATASET),
        *("--calib_size", str(samples)),
        *("--export_format", form),
    )
    return _convert(profile, weights, f"{_EXAMPLES}/quantization/quantize.py", arguments)


def _convert(
    profile: Profile, weights: Weights, script: str, arguments: tuple[str, ...]
) -> Artifact:
    folders = ("--model_dir", "${inputs.checkpoint}", "--output_dir", "${outputs.checkpoint}")
    flags.check_argv(flags.load(Path(script).stem), (*folders, *arguments))
    step = Step(
        id=f"convert@{profile.name}",
        argv=(
            *("python3", "${source.tensorrt_llm_convert}"),
            *("--output", "${outputs.checkpoint}"),
            *("--algorithm", _PRECISIONS[profile.engine.precision].algorithm),
            *("--calibration", "${source.calibration}", "--dataset", _DATASET),
            *("--", "python3", script, *folders, *arguments),
        ),
        inputs={"checkpoint": weights.huggingface},
        outputs=("checkpoint",),
        env={"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"},
        sources=(*_sources("tensorrt_llm_convert.py"), source(_CALIBRATION)),
        image=profile.serving.image,
        platform=profile.platform,
        labels=profile.runner.labels,
        alternative=_alternative(profile),
    )
    return step["checkpoint"]


def _engine(profile: Profile, weights: Weights, checkpoint: Artifact) -> Artifact:
    build = _trtllm_build(profile) if profile.engine.mode == "engine" else ()
    common = (
        *("--checkpoint", "${inputs.checkpoint}"),
        *("--tokenizer", "${inputs.tokenizer}"),
        *("--settings", "${settings}"),
        *("--output", "${outputs.engine}"),
    )
    step = Step(
        id=f"engine@{profile.name}",
        argv=(
            *("python3" if build else "${python}", "${source.tensorrt_llm_engine}", *common),
            *(("--", *build) if build else ()),
        ),
        inputs={"checkpoint": checkpoint, "tokenizer": weights.huggingface},
        outputs=("engine",),
        settings=select(profile, READS),
        sources=_sources("tensorrt_llm_engine.py"),
        # A checkpoint is bound to no GPU and needs none of the image's tools: linked anywhere.
        image=profile.serving.image if build else None,
        platform=profile.platform if build else None,
        labels=profile.runner.labels if build else (),
        alternative=_alternative(profile),
    )
    return step["engine"]


def _trtllm_build(profile: Profile) -> tuple[str, ...]:
    limits = profile.engine
    arguments = (
        *("--checkpoint_dir", "${inputs.checkpoint}"),
        *("--output_dir", "${outputs.engine}"),
        *("--max_batch_size", str(limits.max_batch_size)),
        *("--max_input_len", str(limits.max_input_len)),
        *("--max_seq_len", str(limits.max_seq_len)),
        *("--kv_cache_type", "paged"),
    )
    flags.check_argv(flags.load("trtllm-build"), arguments)
    return ("trtllm-build", *arguments)


def _alternative(profile: Profile) -> str:
    return (
        "engine.mode: llmapi with precision fp16 needs no GPU to build, and builder tensorrt-rtx"
        f" compiles for sm_{str(profile.hardware.compute_capability).replace('.', '')} without one"
        " (as --profile rtx-pro-4000-aot does)"
    )


def _sources(*names: str) -> tuple[SourceFile, ...]:
    return tuple(source(_TOOLS / name) for name in names)
