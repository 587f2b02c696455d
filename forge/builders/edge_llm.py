"""TensorRT Edge-LLM: export on any CPU, engine on the target device. Plans only.

`tensorrt-edgellm-build`'s own defaults (32 input tokens, 96 in the KV cache) are useless, so both
come from the profile.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from forge.builders import Weights
from forge.builders._planned import planned_engine
from forge.profiles import Profile, select
from forge.steps import Artifact

__all__ = ["ARCHITECTURES", "PRECISIONS", "READS", "compile"]

READS: Final = ("engine", "hardware.compute_capability")
ARCHITECTURES: Final = ("llama", "qwen2", "qwen3")
PRECISIONS: Final = ("fp16", "fp8", "int4", "nvfp4")


def compile(profile: Profile, weights: Weights, dockerfiles: Path) -> Artifact:  # noqa: A001
    """Plan the engine."""
    argv = (
        "tensorrt-edgellm-build",
        "--model-dir",
        "${inputs.checkpoint}",
        "--engine-dir",
        "${outputs.engine}",
        "--max-input-len",
        str(profile.engine.max_input_len),
        "--max-kv-cache-capacity",
        str(profile.engine.max_seq_len),
        "--max-batch-size",
        str(profile.engine.max_batch_size),
    )
    return planned_engine(profile, weights.huggingface, argv, select(profile, READS), __file__)
