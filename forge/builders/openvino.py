"""OpenVINO: a checkpoint → OpenVINO IR on any CPU, for development.

`engine.precision: as-is` compiles a GGUF file with OpenVINO's own reader; every other precision
exports the Hugging Face form of the checkpoint with optimum-intel and NNCF, a GGUF file's as well.
What the reader gets right is decided by the tool from the file's header.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from forge.builders import Weights
from forge.builders.receipts import receipt_step
from forge.builders.takes import CONVERTED_GGUF, HUGGINGFACE, Takes
from forge.builders.tools.openvino_support import ARCHITECTURES
from forge.errors import ConfigurationError
from forge.profiles import Profile, select
from forge.steps import Artifact, Step, locked, tool

__all__ = [
    "ARCHITECTURES",
    "GGUF_ARCHITECTURES",
    "PRECISIONS",
    "READS",
    "SETTINGS",
    "TAKES",
    "compile",
    "compile_embedding",
    "receipt",
]

READS: Final = ("engine.builder", "engine.precision")
GGUF_ARCHITECTURES: Final = ("llama", "qwen2", "qwen3")  # of OpenVINO's GGUF reader
AS_IS: Final = "as-is"
EXPORTED: Final = ("fp16", "bf16", "int8", "int4")
PRECISIONS: Final = (AS_IS, *EXPORTED)
TAKES: Final = (
    Takes(
        form="gguf",
        tokenizers=("gpt2/qwen2", "gpt2/smollm"),  # known to OpenVINO's reader
        quantisations=CONVERTED_GGUF.quantisations,  # what it does not keep becomes Q8_0
        architectures=GGUF_ARCHITECTURES,
        precisions=(AS_IS,),
    ),
    replace(HUGGINGFACE, precisions=EXPORTED),
    replace(CONVERTED_GGUF, precisions=EXPORTED),
)
SETTINGS: Final = (
    *("engine.max_batch_size", "engine.max_input_len", "engine.max_seq_len"),
    "serving.default_max_tokens",
    "serving.kv_cache_mib",
    "serving.max_num_batched_tokens",
)
_TOOLS: Final = Path(__file__).parent / "tools"
_OFFLINE: Final = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
_OTHER: Final = "set engine.precision to fp16, bf16, int8 or int4"


def compile(profile: Profile, weights: Weights, dockerfiles: Path) -> Artifact:  # noqa: A001
    """Plan the IR. Batch size and lengths are serving settings, so they are not read.

    Raises ConfigurationError if `as-is` is set and the checkpoint's URL shows that OpenVINO's GGUF
    reader does not read it.
    """
    if profile.engine.precision == AS_IS:
        _check_gguf(profile, weights)
        return _step(profile, weights.original, dockerfiles / "openvino", "openvino_compile")
    return _step(
        profile, weights.huggingface, dockerfiles / "optimum", "openvino_export", env=_OFFLINE
    )


def _check_gguf(profile: Profile, weights: Weights) -> None:
    if weights.gguf is False:
        raise ConfigurationError(
            f"Profile {profile.name!r} compiles GGUF files only: its engine.precision is {AS_IS}",
            why="the checkpoint's URL names safetensors",
            hint=f"{_OTHER}, or use a GGUF file of the same model: ?path=*.gguf",
        )
    if weights.architecture is not None and weights.architecture not in GGUF_ARCHITECTURES:
        raise ConfigurationError(
            f"OpenVINO's GGUF reader does not support {weights.architecture!r} models",
            why=f"supported with engine.precision {AS_IS}: {', '.join(GGUF_ARCHITECTURES)}",
            hint=f"{_OTHER} in profiles/{profile.name}.yaml",
        )


def _step(
    profile: Profile,
    checkpoint: Artifact,
    environment: Path,
    script: str,
    env: dict[str, str] | None = None,
) -> Artifact:
    step = Step(
        id=f"engine@{profile.name}",
        argv=(
            *("${tools." + environment.name + "}/bin/python", "${source." + script + "}"),
            *("--checkpoint", "${inputs.checkpoint}"),
            *("--settings", "${settings}"),
            *("--output", "${outputs.engine}"),
        ),
        inputs={"checkpoint": checkpoint},
        outputs=("engine",),
        settings=select(profile, READS),
        env=env or {},
        environments=(locked(environment),),
        sources=tool(_TOOLS / f"{script}.py"),
        platform=profile.platform,
    )
    return step["engine"]


def compile_embedding(profile: Profile, checkpoint: Artifact, dockerfiles: Path) -> Artifact:
    """Plan the IR of an embedding model. See `forge.builders.EmbeddingBuilder`."""
    script = _TOOLS / "openvino_embedding.py"
    environment = locked(dockerfiles / "openvino")
    step = Step(
        id=f"embedding@{profile.name}",
        argv=(
            *("${tools.openvino}/bin/python", "${source.openvino_embedding}"),
            *("--checkpoint", "${inputs.checkpoint}", "--output", "${outputs.engine}"),
        ),
        inputs={"checkpoint": checkpoint},
        outputs=("engine",),
        environments=(environment,),
        sources=tool(script),
        platform=profile.platform,
    )
    return step["engine"]


def receipt(profile: Profile, engine: Artifact, weights: Weights, dockerfiles: Path) -> Artifact:
    """Plan the comparison of the IR with its checkpoint, in what it computes and in its weights."""
    script, environment = _TOOLS / "openvino_receipt.py", locked(dockerfiles / "openvino")
    compiled = weights.original if profile.engine.precision == AS_IS else weights.huggingface
    return receipt_step(profile, script, environment, engine, weights, compiled)
