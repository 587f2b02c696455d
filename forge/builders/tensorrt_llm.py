"""TensorRT-LLM: converted checkpoint → engine on a runner that has the target's GPU. Plans only.

`trtllm-build` cannot name another GPU: it times kernels on the one present. TensorRT-LLM 1.2.1 is
the last release that has it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from forge.builders import Weights
from forge.builders._planned import planned_engine
from forge.profiles import Profile, select
from forge.steps import Artifact

__all__ = ["ARCHITECTURES", "PRECISIONS", "READS", "compile"]

READS: Final = ("engine", "hardware.compute_capability", "serving.image")
ARCHITECTURES: Final = ("llama", "qwen2", "qwen3")
PRECISIONS: Final = ("fp16", "bf16", "fp8", "int8", "int4", "nvfp4")


def compile(profile: Profile, weights: Weights, dockerfiles: Path) -> Artifact:  # noqa: A001
    """Plan the engine."""
    argv = (
        "trtllm-build",
        "--checkpoint_dir",
        "${inputs.checkpoint}",
        "--output_dir",
        "${outputs.engine}",
        "--max_batch_size",
        str(profile.engine.max_batch_size),
        "--max_input_len",
        str(profile.engine.max_input_len),
        "--max_seq_len",
        str(profile.engine.max_seq_len),
    )
    return planned_engine(profile, weights.huggingface, argv, select(profile, READS), __file__)
