"""TensorRT Edge-LLM: quantise and export on any CPU, compile on the device.

quantise@PROFILE   only for precisions that require it; no SKU in its key
export@PROFILE     ONNX for one SM; the ONNX contains neither the SM nor the precision, so a second
                   output records both, and equal ONNX is one tree
engine@PROFILE     `engine.build_on: device`: the export and the command for the device;
                   `runner`: `llm_build` on a runner that is such a device
accuracy@PROFILE   the export, executed on a CPU (tools/edge_llm_receipt.py), against the checkpoint

Sources: the 0.11.0 wheel; docs/reference/nvidia-facts.md section 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from forge.builders import Weights, flags
from forge.builders.receipts import receipt_step
from forge.builders.takes import CONVERTED_GGUF, HUGGINGFACE
from forge.canonical import Json
from forge.errors import ConfigurationError
from forge.profiles import Profile, select
from forge.steps import Artifact, Environment, Step, locked, source, tool

__all__ = [
    "ARCHITECTURES",
    "PRECISIONS",
    "READS",
    "SETTINGS",
    "TAKES",
    "compile",
    "llm_build",
    "receipt",
]

READS: Final = ("engine", "hardware.compute_capability")
# Those whose exported graph was executed here and had the logits of transformers, in fp16; llama,
# qwen2 and qwen3 quantised as well (docs/results/accuracy.md). The exporter silently treats any
# other `model_type` as a Llama (tensorrt_edgellm/model.py, from_pretrained).
# tools/edge_llm_model.py has the same list.
ARCHITECTURES: Final = ("hunyuan_v1_dense", "llama", "mistral", "qwen2", "qwen3")
TAKES: Final = (HUGGINGFACE, CONVERTED_GGUF)
QUANTISATIONS: Final[Mapping[str, str]] = {"fp8": "fp8", "int4": "int4_awq", "nvfp4": "nvfp4"}
PRECISIONS: Final = ("fp16", *QUANTISATIONS)
SETTINGS: Final = (
    *("engine.max_batch_size", "engine.max_input_len", "engine.max_seq_len"),
    "serving.default_max_tokens",
    "engine.build_on",
)

# First compute capability with tensor cores for the format: sm_89 for FP8, sm_100 for FP4.
_NEEDS: Final = {"fp8": (8, 9), "nvfp4": (10, 0)}
_PLATFORM: Final = "linux/amd64"  # the only platform of the wheel for Python 3.11
_TOOLS: Final = Path(__file__).parent / "tools"
_CALIBRATION: Final = Path(__file__).parent / "data" / "calibration.jsonl"
_OFFLINE: Final = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
_BIN: Final = "${tools.edge-llm}/bin"


def compile(profile: Profile, weights: Weights, dockerfiles: Path) -> Artifact:  # noqa: A001
    """Plan the engine.

    Raises ConfigurationError for a GPU without tensor cores for the precision.
    """
    _check_gpu(profile)
    environment = locked(dockerfiles / "edge-llm")
    checkpoint = weights.huggingface
    if profile.engine.precision in QUANTISATIONS:
        checkpoint = _quantise(profile, checkpoint, environment)
    export = _export(profile, checkpoint, environment)
    return _engine(profile, export)


def receipt(profile: Profile, engine: Artifact, weights: Weights, dockerfiles: Path) -> Artifact:
    """Plan the comparison of the exported graph, as the engine requires the device."""
    script, environment = _TOOLS / "edge_llm_receipt.py", locked(dockerfiles / "edge-llm")
    return receipt_step(profile, script, environment, executed=_export_of(engine), weights=weights)


def llm_build(profile: Profile, onnx: str, engine: str) -> tuple[str, ...]:
    """Return the compiler's command, with lengths and batch size of the profile."""
    limits = profile.engine
    arguments = (
        *("--onnxDir", onnx),
        *("--engineDir", engine),
        *("--maxInputLen", str(limits.max_input_len)),
        *("--maxKVCacheCapacity", str(limits.max_seq_len)),
        *("--maxBatchSize", str(limits.max_batch_size)),
    )
    flags.check_argv(flags.load("llm_build"), arguments)
    return ("llm_build", *arguments)


def _check_gpu(profile: Profile) -> None:
    capability, precision = profile.hardware.compute_capability, profile.engine.precision
    if capability is None:
        message = f"Profile {profile.name!r} has no GPU, which builder edge-llm requires"
        hint = f"set hardware.compute_capability in profiles/{profile.name}.yaml"
        raise ConfigurationError(message, hint=hint)
    least = _NEEDS.get(precision, (0, 0))
    if tuple(int(part) for part in capability.split(".")) < least:
        fitting = [name for name in PRECISIONS if name not in _NEEDS]
        raise ConfigurationError(
            f"Profile {profile.name!r}: compute capability {capability} has no {precision}",
            why=f"{precision} requires compute capability {least[0]}.{least[1]} or newer",
            hint=f"set engine.precision to one of {', '.join(fitting)}",
        )


def _quantise(profile: Profile, checkpoint: Artifact, environment: Environment) -> Artifact:
    quantisation = QUANTISATIONS[profile.engine.precision]
    samples = len(_CALIBRATION.read_text(encoding="utf-8").splitlines())  # all samples of the file
    arguments = (
        "llm",
        *("--model_dir", "${inputs.checkpoint}"),
        *("--output_dir", "${outputs.checkpoint}"),
        *("--quantization", quantisation),
        *("--device", "cpu"),
        *("--num_samples", str(samples)),
    )
    flags.check_argv(flags.load("tensorrt-edgellm-quantize"), arguments)
    step = Step(
        id=f"quantise@{profile.name}",
        argv=(
            *(f"{_BIN}/python", "${source.edge_llm_quantise}"),
            *("--checkpoint", "${inputs.checkpoint}"),
            *("--output", "${outputs.checkpoint}"),
            *("--quantisation", quantisation),
            *("--calibration", "${source.calibration}"),
            *("--architectures", ",".join(ARCHITECTURES)),
            *("--", f"{_BIN}/tensorrt-edgellm-quantize", *arguments),
        ),
        inputs={"checkpoint": checkpoint},
        outputs=("checkpoint",),
        env=_OFFLINE,
        environments=(environment,),
        sources=(*tool(_TOOLS / "edge_llm_quantise.py"), source(_CALIBRATION)),
        platform=_PLATFORM,
    )
    return step["checkpoint"]


def _export(profile: Profile, checkpoint: Artifact, environment: Environment) -> Step:
    sm = str(profile.hardware.compute_capability).replace(".", "")
    arguments = ("${inputs.checkpoint}", "${outputs.export}", "--target-sm", sm)
    flags.check_argv(flags.load("tensorrt-edgellm-export"), arguments)
    precision = profile.engine.precision
    return Step(
        id=f"export@{profile.name}",
        argv=(
            *(f"{_BIN}/python", "${source.edge_llm_export}"),
            *("--checkpoint", "${inputs.checkpoint}"),
            *("--export", "${outputs.export}"),
            *("--record", "${outputs.record}"),
            *("--quantisation", QUANTISATIONS.get(precision, precision)),
            *("--sm", sm),
            *("--architectures", ",".join(ARCHITECTURES)),
            *("--", f"{_BIN}/tensorrt-edgellm-export", *arguments),
        ),
        inputs={"checkpoint": checkpoint},
        outputs=("export", "record"),
        env=_OFFLINE,
        environments=(environment,),
        sources=tool(_TOOLS / "edge_llm_export.py"),
        platform=_PLATFORM,
    )


def _engine(profile: Profile, export: Step) -> Artifact:
    on_device = profile.engine.build_on == "device"
    places = (
        ("${source}", "${engine}") if on_device else ("${inputs.export}/llm", "${outputs.engine}")
    )
    compiler = llm_build(profile, *places)
    settings: dict[str, Json] = select(profile, READS)
    if on_device:  # in the settings, because the device and not the runner runs the command
        settings["compiler"] = list(compiler)
    step = Step(
        id=f"engine@{profile.name}",
        argv=(
            *("${python}", "${source.edge_llm_engine}"),
            *("--export", "${inputs.export}"),
            *("--record", "${inputs.record}"),
            *("--settings", "${settings}"),
            *("--output", "${outputs.engine}"),
            *(() if on_device else ("--", *compiler)),
        ),
        inputs={"export": export["export"], "record": export["record"]},
        outputs=("engine",),
        settings=settings,
        sources=tool(_TOOLS / "edge_llm_engine.py"),
        platform=None if on_device else profile.platform,
        labels=() if on_device else profile.runner.labels,
        alternative="set engine.build_on: device to compile on each device",
    )
    return step["engine"]


def _export_of(compiled: Artifact) -> Artifact:
    """Return the export that an engine is compiled from."""
    return compiled.step.inputs["export"]
