"""TensorRT for RTX: ONNX → engine compiled ahead of time for a GPU that is not here.

The compiler needs an amd64 machine and no GPU, whatever GPU the engine is for: the step asks for
no label of the profile's runner. Source of TARGETS: the ComputeCapability enum of
tensorrt-rtx-cu13 1.7.1.116, which the tool asks again when it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from forge.builders import Weights
from forge.errors import ConfigurationError
from forge.profiles import Profile, select
from forge.steps import Artifact, Step, locked, source

__all__ = ["ARCHITECTURES", "PRECISIONS", "READS", "TARGETS", "compile"]

READS: Final = (
    "engine.builder",
    "engine.precision",
    "engine.max_batch_size",
    "engine.max_input_len",
    "engine.max_seq_len",
    "hardware.compute_capability",
)
ARCHITECTURES: Final = ("llama", "qwen2")
PRECISIONS: Final = ("fp16",)
TARGETS: Final = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
_PLATFORM: Final = "linux/amd64"
_TOOL: Final = Path(__file__).parent / "tools" / "tensorrt_rtx_compile.py"


def compile(profile: Profile, weights: Weights, dockerfiles: Path) -> Artifact:  # noqa: A001
    """Plan the engine. Raises ConfigurationError for a device TensorRT for RTX cannot target."""
    capability = profile.hardware.compute_capability
    if capability not in TARGETS or profile.platform != _PLATFORM:
        device = f"{profile.platform}, compute capability {capability}"
        raise ConfigurationError(
            f"TensorRT for RTX cannot compile for profile {profile.name!r} ({device})",
            why=f"it targets {', '.join(TARGETS)} on {_PLATFORM}",
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
        sources=(source(_TOOL),),
        platform=_PLATFORM,
    )
    return step["engine"]
