"""TensorRT-LLM: the checkpoint is made here; the engine or its serving needs the GPU.

Mode `llmapi`, the default, on any machine:

cast@PROFILE       fp16 and bf16: the checkpoint in that type
quantise@PROFILE   fp8, nvfp4 and int4: by ModelOpt, on a CPU
engine@PROFILE     the checkpoint, which the LLM API loads, and the version that it is bound to

Mode `engine`, in NVIDIA's image on a runner with the target's GPU, for TensorRT-LLM 1.2.1 only:
upstream removed this path in June and July 2026. Not yet run on hardware.

convert@PROFILE    data type and quantisation, which are set in the checkpoint, not by trtllm-build
engine@PROFILE     `trtllm-build`, which times kernels on the GPU that is present and cannot compile
                   for another one

Sources: docs/reference/nvidia-facts.md sections 4, 6, 7 and 10; the options in flags/.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge.builders import Weights, flags
from forge.builders.receipts import receipt_step
from forge.builders.takes import CONVERTED_GGUF, HUGGINGFACE
from forge.canonical import Json
from forge.errors import ConfigurationError
from forge.profiles import Profile, select
from forge.steps import Artifact, Step, locked, source, tool

__all__ = [
    "ARCHITECTURES",
    "PRECISIONS",
    "READS",
    "SETTINGS",
    "TAKES",
    "compile",
    "receipt",
    "release_of",
]

READS: Final = ("engine", "hardware.compute_capability", "serving.image")
# Model → folder of examples/models/core in the image; each has its own convert_checkpoint.py.
SCRIPTS: Final = {"llama": "llama", "mistral": "llama", "qwen2": "qwen", "qwen3": "qwen"}
# Quantised and executed here, with a receipt: tests/e2e/test_builder_tensorrt_llm.py.
ARCHITECTURES: Final = ("llama", "mistral", "phi3", "qwen2", "qwen3")
TAKES: Final = (HUGGINGFACE, CONVERTED_GGUF)


@dataclass(frozen=True, slots=True)
class _Precision:
    """How a precision is made for mode `engine`, and the expected quant_algo."""

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
QUANTISED: Final = frozenset(name for name, one in _PRECISIONS.items() if one.quantise)
"""Precisions that ModelOpt calibrates."""
# int8 is not among them: the LLM API reads no such checkpoint of ModelOpt.
_LLMAPI: Final = ("fp16", "bf16", "int4", "fp8", "nvfp4")
SETTINGS: Final = (
    *("engine.max_batch_size", "engine.max_input_len", "engine.max_seq_len"),
    "serving.default_max_tokens",
    "engine.mode",
    "serving.kv_cache_fraction",
)

# First Triton image of a release of TensorRT-LLM: docs/introduction/compatibility.md of Triton.
_RELEASES: Final = {"25.09": "1.0.0", "25.12": "1.1.0", "26.03": "1.2.0", "26.04": "1.2.1"}
_KNOWN: Final = ("25.09", "26.07")  # first and last image of an unbroken series in that table
_TRITON: Final = re.compile(r"(?:^|[/:-])(\d\d\.\d\d)-trtllm")  # also our name of the base image
_OWN: Final = re.compile(r"/tensorrt-llm/[a-z-]+:v?(\d+\.\d+\.\d+[a-z0-9.]*)")
_LAST_ENGINE: Final = (1, 2, 1)
_REMOVED: Final = "upstream removed trtllm-build and its runtime in June and July 2026"

_EXAMPLES: Final = "/app/examples"  # path in the image
_DATASET: Final = "calibration"  # a local folder, so that no network is needed
_TOOLS: Final = Path(__file__).parent / "tools"
_CALIBRATION: Final = Path(__file__).parent / "data" / "calibration.jsonl"
_OFFLINE: Final = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def compile(profile: Profile, weights: Weights, dockerfiles: Path) -> Artifact:  # noqa: A001
    """Plan the engine.

    Raises ConfigurationError: the profile has no image or GPU, the mode does not support the
    precision or the image, or the checkpoint's URL has no architecture.
    """
    if profile.serving.image is None or profile.hardware.compute_capability is None:
        message = f"Profile {profile.name!r} has no image or no GPU for builder tensorrt-llm"
        hint = "set serving.image and hardware.compute_capability; see profiles/rtx-pro-4000.yaml"
        raise ConfigurationError(message, hint=hint)
    if profile.engine.mode == "engine":
        _check_release(profile)
        return _engine(profile, weights, _converted(profile, weights))
    _check_llmapi(profile)
    return _engine(profile, weights, _prepared(profile, weights, dockerfiles))


def receipt(profile: Profile, engine: Artifact, weights: Weights, dockerfiles: Path) -> Artifact:
    """Plan the comparison of the checkpoint that the LLM API loads.

    For mode `engine` the same quantisation by ModelOpt is executed, since neither TensorRT-LLM's
    own checkpoint nor the engine can be executed on a CPU.
    """
    executed = (
        _checkpoint_of(engine)
        if profile.engine.mode == "llmapi"
        else _prepared(profile, weights, dockerfiles)
    )
    script, environment = _TOOLS / "torch_receipt.py", locked(dockerfiles / "transformers")
    return receipt_step(profile, script, environment, executed=executed, weights=weights)


def _checkpoint_of(made: Artifact) -> Artifact:
    return made.step.inputs["checkpoint"]


def release_of(image: str) -> str | None:
    """Return the version of TensorRT-LLM in an image, from its tag; None if it is not known."""
    if match := _OWN.search(image):
        return match[1]
    match = _TRITON.search(image)
    if match is None or not _KNOWN[0] <= match[1] <= _KNOWN[1]:
        return None
    return _RELEASES[max(tag for tag in _RELEASES if tag <= match[1])]


def _check_release(profile: Profile) -> None:
    image = str(profile.serving.image)
    release, match = release_of(image), _TRITON.search(image)
    newer = match is not None and match[1] > _KNOWN[1]
    if release is not None:
        newer = tuple(int(one) for one in re.findall(r"\d+", release)[:3]) > _LAST_ENGINE
    if newer:
        raise ConfigurationError(
            f"Profile {profile.name!r}: {image} has no engines, which engine.mode: engine requires",
            why=f"{_REMOVED}; the last release with it is 1.2.1",
            hint="set engine.mode: llmapi, or serving.image to"
            " nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3",
        )


def _check_llmapi(profile: Profile) -> None:
    if profile.engine.precision not in _LLMAPI:
        raise ConfigurationError(
            f"Profile {profile.name!r}: mode llmapi does not support precision"
            f" {profile.engine.precision}",
            why=f"the LLM API loads {', '.join(_LLMAPI)}",
            hint="set engine.precision to one of them",
        )


def _prepared(profile: Profile, weights: Weights, dockerfiles: Path) -> Artifact:
    """Return the checkpoint as a Hugging Face folder in the profile's precision."""
    precision = profile.engine.precision
    quantised = _PRECISIONS[precision].algorithm != "none"
    script = _TOOLS / ("modelopt_quantise.py" if quantised else "tensorrt_llm_cast.py")
    calibration = ("--calibration", "${source.calibration}") if quantised else ()
    step = Step(
        id=f"{'quantise' if quantised else 'cast'}@{profile.name}",
        argv=(
            *("${tools.transformers}/bin/python", f"${{source.{script.stem}}}"),
            *("--checkpoint", "${inputs.checkpoint}"),
            *("--output", "${outputs.checkpoint}"),
            *("--precision", precision, *calibration),
            *("--architectures", ",".join(ARCHITECTURES)),
        ),
        inputs={"checkpoint": weights.huggingface},
        outputs=("checkpoint",),
        env=_OFFLINE,
        environments=(locked(dockerfiles / "transformers"),),
        sources=(*tool(script), *((source(_CALIBRATION),) if quantised else ())),
    )
    return step["checkpoint"]


def _converted(profile: Profile, weights: Weights) -> Artifact:
    """Return the checkpoint in TensorRT-LLM's format."""
    made = _PRECISIONS[profile.engine.precision]
    if made.quantise:
        return _quantise(profile, weights)
    if weights.architecture is None:
        message = "The checkpoint's URL has no architecture"
        hint = "add it, for example &architecture=llama: it selects the conversion script"
        raise ConfigurationError(message, hint=hint)
    if weights.architecture not in SCRIPTS:
        raise ConfigurationError(
            f"Mode engine of profile {profile.name!r} does not support {weights.architecture!r}",
            why=f"conversion scripts are known for {', '.join(SCRIPTS)}",
            hint="set engine.mode: llmapi",
        )
    script = f"{_EXAMPLES}/models/core/{SCRIPTS[weights.architecture]}/convert_checkpoint.py"
    return _convert(profile, weights, script, made.convert)


def _quantise(profile: Profile, weights: Weights) -> Artifact:
    samples = len(_CALIBRATION.read_text(encoding="utf-8").splitlines())  # all it holds
    arguments = (
        *("--qformat", _PRECISIONS[profile.engine.precision].quantise),
        *("--calib_dataset", _DATASET),
        *("--calib_size", str(samples)),
        *("--export_format", "tensorrt_llm"),
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
            *("--checkpoint", "${inputs.checkpoint}"),
            *("--architectures", ",".join(ARCHITECTURES)),
            *("--output", "${outputs.checkpoint}"),
            *("--algorithm", _PRECISIONS[profile.engine.precision].algorithm),
            *("--calibration", "${source.calibration}", "--dataset", _DATASET),
            *("--", "python3", script, *folders, *arguments),
        ),
        inputs={"checkpoint": weights.huggingface},
        outputs=("checkpoint",),
        env=_OFFLINE,
        sources=(*tool(_TOOLS / "tensorrt_llm_convert.py"), source(_CALIBRATION)),
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
    settings: dict[str, Json] = select(profile, READS)
    release = release_of(str(profile.serving.image))
    if release is not None and not build:  # the image itself says it when it compiles
        settings["runtime"] = {"tensorrt-llm": release}
    step = Step(
        id=f"engine@{profile.name}",
        argv=(
            *("python3" if build else "${python}", "${source.tensorrt_llm_engine}", *common),
            *(("--", *build) if build else ()),
        ),
        inputs={"checkpoint": checkpoint, "tokenizer": weights.huggingface},
        outputs=("engine",),
        settings=settings,
        sources=tool(_TOOLS / "tensorrt_llm_engine.py"),
        # A checkpoint depends on no GPU and no tool of the image: any machine can link it.
        image=profile.serving.image if build else None,
        platform=profile.platform if build else None,
        labels=profile.runner.labels if build else (),
        alternative=_alternative(profile) if build else "",
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
        f"use engine.mode: llmapi, which needs no GPU to build ({_REMOVED}), or builder"
        " tensorrt-rtx, which compiles without a GPU for"
        f" sm_{str(profile.hardware.compute_capability).replace('.', '')}"
        " (see --profile rtx-pro-4000-aot)"
    )
