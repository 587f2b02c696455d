"""ONNX Runtime with CUDA 12: an ONNX graph for GPUs before compute capability 7.5 (Pascal, Volta).

CUDA 13, TensorRT 10 and TensorRT for RTX begin at 7.5. The engine is the graph itself, so it is
made on any machine, and what is executed on the CPU for its receipt is the engine.
Sources of TARGETS and RUNTIME: docs/explanation/decisions/0024-pascal-by-onnx-runtime.md.
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
    "RUNTIME",
    "SETTINGS",
    "TAKES",
    "TARGETS",
    "compile",
    "receipt",
]

# Lengths and the batch are settings of serving: the graph has them as variables.
READS: Final = ("engine.builder", "engine.precision")
# Families whose fp32 graph had the logits of transformers at 12, 300 and 3,000 tokens:
# tests/e2e/builders/test_onnx_runtime.py.
ARCHITECTURES: Final = (
    *("cohere", "falcon", "gemma", "gemma2", "gemma3_text", "gpt_oss", "granite", "llama"),
    *("mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3", "stablelm"),
)
TAKES: Final = (HUGGINGFACE, CONVERTED_GGUF)
PRECISIONS: Final = ("fp32", "fp16")
SETTINGS: Final = (
    *("engine.max_batch_size", "engine.max_input_len", "engine.max_seq_len"),
    "serving.default_max_tokens",
    "serving.kv_cache_mib",
)
# Compute capabilities that the runtime's kernels are for: compiled for 6.0, 7.0, 7.5, 8.0, 8.6 and
# 9.0, each of which also runs on later ones of the same major version.
TARGETS: Final = ("6.0", "6.1", "7.0", "7.5", "8.0", "8.6", "8.9", "9.0")
# What the engine is bound to, as in dockerfiles/triton-onnx-runtime.
RUNTIME: Final = {
    "onnxruntime-gpu": "1.26.0",
    "nvidia-cuda-runtime-cu12": "12.9.79",
    "nvidia-cublas-cu12": "12.9.1.4",
    "nvidia-cudnn-cu12": "9.10.2.21",
}
_PLATFORM: Final = "linux/amd64"
_TOOLS: Final = Path(__file__).parent / "tools"


def compile(profile: Profile, weights: Weights, dockerfiles: Path) -> Artifact:  # noqa: A001
    """Plan the graph. Raises ConfigurationError for a device that is not a supported target."""
    capability = profile.hardware.compute_capability
    if capability not in TARGETS or profile.platform != _PLATFORM:
        device = f"{profile.platform}, compute capability {capability}"
        raise ConfigurationError(
            f"ONNX Runtime {RUNTIME['onnxruntime-gpu']} does not support the device of profile"
            f" {profile.name!r} ({device})",
            why=f"supported: compute capability {', '.join(TARGETS)} on {_PLATFORM}",
            hint=f"choose another engine.builder in profiles/{profile.name}.yaml",
        )
    step = Step(
        id=f"engine@{profile.name}",
        argv=(
            *("${tools.optimum}/bin/python", "${source.onnx_runtime_engine}"),
            *("--checkpoint", "${inputs.checkpoint}"),
            *("--settings", "${settings}"),
            *("--output", "${outputs.engine}"),
        ),
        inputs={"checkpoint": weights.onnx},
        outputs=("engine",),
        settings={**select(profile, READS), "runtime": dict(RUNTIME)},
        environments=(locked(dockerfiles / "optimum"),),
        sources=tool(_TOOLS / "onnx_runtime_engine.py"),
    )
    return step["engine"]


def receipt(profile: Profile, engine: Artifact, weights: Weights, dockerfiles: Path) -> Artifact:
    """Plan the comparison of the engine with its checkpoint."""
    script, environment = _TOOLS / "onnx_receipt.py", locked(dockerfiles / "optimum")
    return receipt_step(profile, script, environment, executed=engine, weights=weights)
