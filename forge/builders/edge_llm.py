"""TensorRT Edge-LLM: quantise and export on any CPU, compile on the device.

quantise@PROFILE   only where the precision needs it; no SKU in its key
export@PROFILE     ONNX for one SM; neither the SM nor the precision stands in it, so a second
                   output records both, and equal ONNX stays one tree
engine@PROFILE     `engine.build_on: device`: the export and what the device must run on it;
                   `runner`: `llm_build` on a runner that is such a device

Sources: the 0.11.0 wheel; docs/facts.md section 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from forge.builders import Weights, flags
from forge.canonical import Json
from forge.errors import ConfigurationError
from forge.profiles import Profile, select
from forge.steps import Artifact, Environment, Step, locked, source

__all__ = ["ARCHITECTURES", "PRECISIONS", "READS", "compile", "llm_build"]

READS: Final = ("engine", "hardware.compute_capability")
# Text models of experimental/builder/models/registry.py in the wheel; the exporter takes any
# other `model_type` for a Llama without a word (tensorrt_edgellm/model.py, from_pretrained).
ARCHITECTURES: Final = ("hunyuan_v1_dense", "llama", "mistral", "qwen2", "qwen3", "qwen3_moe")
QUANTISATIONS: Final[Mapping[str, str]] = {"fp8": "fp8", "int4": "int4_awq", "nvfp4": "nvfp4"}
PRECISIONS: Final = ("fp16", *QUANTISATIONS)

# Tensor cores that compute in the format: FP8 from sm_89 on, FP4 from sm_100 on.
_NEEDS: Final = {"fp8": (8, 9), "nvfp4": (10, 0)}
_PLATFORM: Final = "linux/amd64"  # the wheel for Python 3.11 exists for it alone
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


def llm_build(profile: Profile, onnx: str, engine: str) -> tuple[str, ...]:
    """The compiler's command; lengths and batch are the profile's, never the tool's defaults."""
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
        message = f"Profile {profile.name!r} names no GPU, and edge-llm compiles for one"
        hint = f"set hardware.compute_capability in profiles/{profile.name}.yaml"
        raise ConfigurationError(message, hint=hint)
    least = _NEEDS.get(precision, (0, 0))
    if tuple(int(part) for part in capability.split(".")) < least:
        fitting = [name for name in PRECISIONS if name not in _NEEDS]
        raise ConfigurationError(
            f"Profile {profile.name!r} asks for {precision} on compute capability {capability}",
            why=f"tensor cores compute in {precision} from {least[0]}.{least[1]} on",
            hint=f"set engine.precision to one of {', '.join(fitting)}",
        )


def _quantise(profile: Profile, checkpoint: Artifact, environment: Environment) -> Artifact:
    quantisation = QUANTISATIONS[profile.engine.precision]
    samples = len(_CALIBRATION.read_text(encoding="utf-8").splitlines())  # all it holds
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
            *("--", f"{_BIN}/tensorrt-edgellm-quantize", *arguments),
        ),
        inputs={"checkpoint": checkpoint},
        outputs=("checkpoint",),
        env=_OFFLINE,
        environments=(environment,),
        sources=(source(_TOOLS / "edge_llm_quantise.py"), source(_CALIBRATION)),
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
            *("--", f"{_BIN}/tensorrt-edgellm-export", *arguments),
        ),
        inputs={"checkpoint": checkpoint},
        outputs=("export", "record"),
        env=_OFFLINE,
        environments=(environment,),
        sources=(source(_TOOLS / "edge_llm_export.py"),),
        platform=_PLATFORM,
    )


def _engine(profile: Profile, export: Step) -> Artifact:
    on_device = profile.engine.build_on == "device"
    places = (
        ("${source}", "${engine}") if on_device else ("${inputs.export}/llm", "${outputs.engine}")
    )
    compiler = llm_build(profile, *places)
    settings: dict[str, Json] = select(profile, READS)
    if on_device:  # the command is the device's: in the settings, so that no runner fills it in
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
        sources=(source(_TOOLS / "edge_llm_engine.py"),),
        platform=None if on_device else profile.platform,
        labels=() if on_device else profile.runner.labels,
        alternative="engine.build_on: device lets every device compile its own",
    )
    return step["engine"]
