"""TensorRT for RTX: ONNX → engine, compiled ahead of time without the target's GPU.

The compiler requires an amd64 machine and no GPU, so the step has no runner labels of the profile.
Source of TARGETS: the ComputeCapability enum of tensorrt-rtx-cu13 1.7.1.116, which the tool checks
again when it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from forge.builders import Weights
from forge.builders.receipts import receipt_step
from forge.builders.takes import CONVERTED_GGUF, HUGGINGFACE
from forge.errors import ConfigurationError
from forge.profiles import Profile, select
from forge.steps import Artifact, Step, locked, tool

__all__ = [
    "ARCHITECTURES",
    "PRECISIONS",
    "READS",
    "SETTINGS",
    "TAKES",
    "TARGETS",
    "compile",
    "receipt",
]

READS: Final = (
    "engine.builder",
    "engine.precision",
    "engine.max_batch_size",
    "engine.max_input_len",
    "engine.max_seq_len",
    "hardware.compute_capability",
)
# Families whose ONNX graph had the logits of transformers at 12, 300 and 3,000 tokens: the list of
# forge/builders/tools/understood.py, which the export holds the checkpoint against.
ARCHITECTURES: Final = (
    *("cohere", "falcon", "gemma", "gemma2", "gemma3_text", "gpt_oss", "granite", "llama"),
    *("mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3", "stablelm"),
)
TAKES: Final = (HUGGINGFACE, CONVERTED_GGUF)
PRECISIONS: Final = ("fp16",)
SETTINGS: Final = (
    *("engine.max_batch_size", "engine.max_input_len", "engine.max_seq_len"),
    "serving.default_max_tokens",
    "serving.kv_cache_mib",
)
TARGETS: Final = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
_PLATFORM: Final = "linux/amd64"
_TOOL: Final = Path(__file__).parent / "tools" / "tensorrt_rtx_compile.py"


def compile(profile: Profile, weights: Weights, dockerfiles: Path) -> Artifact:  # noqa: A001
    """Plan the engine. Raises ConfigurationError for a device that is not a supported target."""
    capability = profile.hardware.compute_capability
    if capability not in TARGETS or profile.platform != _PLATFORM:
        device = f"{profile.platform}, compute capability {capability}"
        raise ConfigurationError(
            f"TensorRT for RTX cannot compile for profile {profile.name!r} ({device})",
            why=f"supported targets: {', '.join(TARGETS)} on {_PLATFORM}",
            hint=f"choose another engine.builder in profiles/{profile.name}.yaml",
        )
    step = Step(
        id=f"engine@{profile.name}",
        argv=(
            "${tools.tensorrt-rtx}/bin/python",
            "${source.tensorrt_rtx_compile}",
            "--checkpoint",
            "${inputs.checkpoint}",
            "--settings",
            "${settings}",
            "--output",
            "${outputs.engine}",
        ),
        inputs={"checkpoint": weights.onnx},
        outputs=("engine",),
        settings=select(profile, READS),
        environments=(locked(dockerfiles / "tensorrt-rtx"),),
        sources=tool(_TOOL),
        platform=_PLATFORM,
    )
    return step["engine"]


def receipt(profile: Profile, engine: Artifact, weights: Weights, dockerfiles: Path) -> Artifact:
    """Plan the comparison of the ONNX graph, as the engine requires the GPU."""
    script, environment = _TOOL.parent / "onnx_receipt.py", locked(dockerfiles / "optimum")
    return receipt_step(profile, script, environment, executed=weights.onnx, weights=weights)
