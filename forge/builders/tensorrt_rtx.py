"""TensorRT-RTX: ONNX → engine compiled ahead of time for a GPU that is not here. Plans only.

Source: FACTS of tensorrt-rtx-cu13 1.7.1.116, whose ComputeCapability enum is TARGETS.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from forge.builders import Weights
from forge.builders._planned import planned_engine
from forge.errors import ConfigurationError
from forge.profiles import Profile, select
from forge.steps import Artifact

__all__ = ["ARCHITECTURES", "PRECISIONS", "READS", "compile"]

READS: Final = ("engine", "hardware.compute_capability")
ARCHITECTURES: Final = ("llama", "qwen2", "qwen3")
PRECISIONS: Final = ("fp16",)
TARGETS: Final = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")


def compile(profile: Profile, weights: Weights, dockerfiles: Path) -> Artifact:  # noqa: A001
    """Plan the engine. Raises ConfigurationError for a GPU TensorRT-RTX cannot target."""
    capability = profile.hardware.compute_capability
    if capability not in TARGETS:
        raise ConfigurationError(
            f"TensorRT-RTX cannot compile for compute capability {capability}",
            why=f"it targets {', '.join(TARGETS)}",
            hint=f"choose another engine.builder in profiles/{profile.name}.yaml",
        )
    argv = ("python", "tensorrt_rtx_compile.py", "--checkpoint", "${inputs.checkpoint}",
            "--settings", "${settings}", "--output", "${outputs.engine}")  # fmt: skip
    return planned_engine(profile, weights.huggingface, argv, select(profile, READS), __file__)
