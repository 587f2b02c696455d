"""OpenVINO: GGUF → OpenVINO IR on any CPU, for development."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from forge.builders import Weights
from forge.errors import ConfigurationError
from forge.profiles import Profile, select
from forge.steps import Artifact, Step, locked, source

__all__ = ["ARCHITECTURES", "PRECISIONS", "READS", "compile"]

READS: Final = ("engine.builder", "engine.precision")
ARCHITECTURES: Final = ("llama", "qwen2", "qwen3")
PRECISIONS: Final = ("as-is",)
_TOOL: Final = Path(__file__).parent / "tools" / "openvino_compile.py"


def compile(profile: Profile, weights: Weights, dockerfiles: Path) -> Artifact:  # noqa: A001
    """Plan the IR. Batch size and lengths are decided when it is served, so they are not read.

    Raises ConfigurationError: the checkpoint is no GGUF file, as far as its URL says.
    """
    if weights.gguf is False:
        message = f"Builder openvino of profile {profile.name!r} takes GGUF files only"
        hint = "name a GGUF file of the same model: ?path=*.gguf"
        raise ConfigurationError(message, why="the checkpoint's URL names safetensors", hint=hint)
    step = Step(
        id=f"engine@{profile.name}",
        argv=(
            "${tools.openvino}/bin/python",
            "${source.openvino_compile}",
            "--checkpoint",
            "${inputs.checkpoint}",
            "--settings",
            "${settings}",
            "--output",
            "${outputs.engine}",
        ),
        inputs={"checkpoint": weights.original},
        outputs=("engine",),
        settings=select(profile, READS),
        environments=(locked(dockerfiles / "openvino"),),
        sources=(source(_TOOL),),
        platform=profile.platform,
    )
    return step["engine"]
