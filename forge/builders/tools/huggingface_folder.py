"""What a Hugging Face folder must have before anything is converted. Standard library only.

The part that needs transformers is in the module complete_weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONFIG = "config.json"
ADAPTER = "adapter_config.json"
TOKENIZER, PIECES = "tokenizer.json", "tokenizer.model"
MAX_CONFIG_BYTES = 16 * 1024 * 1024
MAX_MODEL_BYTES = 256 * 1024 * 1024
PARTS = ("text_config", "vision_config", "audio_config", "thinker_config", "talker_config")


class CheckpointError(Exception):
    """The checkpoint cannot be converted."""


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json of a Hugging Face folder. Raises CheckpointError."""
    path = folder / CONFIG
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise CheckpointError(f"config.json is larger than {MAX_CONFIG_BYTES} bytes")
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"config.json is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise CheckpointError("config.json is not a JSON object")
    return config


def check_kind(folder: Path) -> None:
    """Raise CheckpointError for a folder that holds no model, e.g. a LoRA adapter."""
    if (folder / ADAPTER).is_file():
        raise CheckpointError(
            f"the checkpoint is a LoRA adapter ({ADAPTER}), not a model\n"
            "  → merge it into its base model first (peft: merge_and_unload), then pin the result"
        )


def check_config(config: Mapping[str, Any]) -> None:
    """Raise CheckpointError for a model that no step can convert."""
    quantised = config.get("quantization_config")
    if quantised is not None:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        raise CheckpointError(
            f"the weights are quantised already (quantization_config: {method or 'unnamed'})\n"
            "  → use the original weights; a builder quantises them itself"
        )
    parts = [name for name in PARTS if config.get(name) is not None]
    if parts:
        raise CheckpointError(
            f"the {config.get('model_type')!r} model has more parts than its text model"
            f" ({', '.join(parts)}), which is not supported\n"
            "  → use a checkpoint of the text model alone"
        )
    if config.get("is_encoder_decoder"):
        raise CheckpointError(f"{config.get('model_type')!r} models have an encoder: not supported")
    if not isinstance(config.get("model_type"), str):
        raise CheckpointError("config.json has no model_type")


def check_architecture(config: Mapping[str, Any], wanted: str | None, *also: str) -> None:
    """Check `model_type` against the planned architecture. Raises CheckpointError.

    Args:
        config: content of config.json.
        wanted: `architecture=` of the URL; None if it has none.
        also: other names of the model, e.g. general.architecture of its GGUF file.
    """
    found = config.get("model_type")
    if wanted is not None and wanted not in (found, *also):
        raise CheckpointError(
            f"the checkpoint is a {found!r} model, but its URL has architecture={wanted}\n"
            "  → to get the correct URL, run: forge checkpoint pin URL"
        )


def check_tokenizer(folder: Path) -> None:
    """Raise CheckpointError for a folder without a tokenizer that can be used."""
    if (folder / TOKENIZER).is_file() or (folder / PIECES).is_file():
        return
    found = [name for name in ("vocab.json", "merges.txt", "vocab.txt", "tekken.json")
             if (folder / name).is_file()]  # fmt: skip
    raise CheckpointError(
        f"the checkpoint has no {TOKENIZER} (found: {', '.join(found) or 'no tokenizer'})\n"
        "  → write it with AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
    )
