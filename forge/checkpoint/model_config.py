"""What config.json of a Hugging Face checkpoint states of the model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from forge.builders.tools.checkpoint_check import is_causal
from forge.checkpoint.safetensors import unique_keys
from forge.errors import ConfigurationError

__all__ = ["ModelConfig", "read_config", "read_document"]

MAX_DOCUMENT_BYTES: Final = 64 * 1024 * 1024
_NO_NAME: Final = re.compile(r"[^a-z0-9_]")
# Keys of config.json that only models with another input than text have.
_INPUTS: Final = {
    "vision_config": "images",
    "visual": "images",
    "mm_vision_tower": "images",
    "audio_config": "sound",
    "audio_encoder": "sound",
    "speech_config": "sound",
}


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The model as config.json describes it.

    Attributes:
        architecture: `model_type` in lower case.
        quantisation: method of `quantization_config`, e.g. `gptq`; `none` if there is none.
    """

    architecture: str
    quantisation: str


def read_config(path: Path) -> ModelConfig:
    """Read config.json of a causal language model.

    Raises:
        ConfigurationError: it is not valid, states no model_type, or another kind of model.
        OSError: it cannot be read.
    """
    document = read_document(path, "config.json")
    if "_diffusers_version" in document:
        raise ConfigurationError(
            "The checkpoint is a part of a pipeline of diffusers, which makes images",
            hint="use a causal language model",
        )
    stated = document.get("model_type")
    if not isinstance(stated, str) or not stated:
        raise ConfigurationError(
            "config.json states no model_type",
            why="it does not say which model the weights are of"
            if document
            else "it is an empty object",
            hint="take config.json of the same model from its publisher",
        )
    _check_kind(document, stated)
    return ModelConfig(_NO_NAME.sub("_", stated.lower())[:64], quantisation(document))


def read_document(path: Path, name: str) -> dict[str, Any]:
    """Read a JSON object of a checkpoint. Raises ConfigurationError and OSError."""
    size = path.stat().st_size
    if size > MAX_DOCUMENT_BYTES:
        raise ConfigurationError(f"{name} is larger than {MAX_DOCUMENT_BYTES} bytes")
    try:
        document = json.loads(path.read_bytes(), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        hint = "download the checkpoint again"
        raise ConfigurationError(f"{name} is not valid JSON", why=str(error), hint=hint) from None
    if not isinstance(document, dict):
        raise ConfigurationError(f"{name} is not valid", why="it is not a JSON object")
    return document


def quantisation(document: Mapping[str, Any]) -> str:
    """Return the method of `quantization_config`, e.g. `gptq`; `none` if there is none.

    transformers reads `compression_config` as well; bitsandbytes has no quant_method in old files.
    """
    nested = document.get("text_config")
    for place in (document, nested if isinstance(nested, dict) else {}):
        for key in ("quantization_config", "compression_config"):
            found = place.get(key)
            if found:
                return _method(found)
    return "none"


def _method(found: Any) -> str:
    if not isinstance(found, dict):
        return "unknown"
    method = found.get("quant_method")
    if isinstance(method, str) and method:
        return re.sub(r"[^a-z0-9._-]", "_", method.lower())[:32]
    if found.get("load_in_4bit") or found.get("load_in_8bit"):
        return "bitsandbytes"
    return "modelopt" if found.get("quant_algo") else "unknown"


def _check_kind(document: Mapping[str, Any], stated: str) -> None:
    """Raise ConfigurationError for a model that is not a causal language model of text."""
    inputs = next((kind for key, kind in _INPUTS.items() if document.get(key)), None)
    classes = document.get("architectures")
    names = [name for name in classes if isinstance(name, str)] if isinstance(classes, list) else []
    if inputs is not None:
        raise ConfigurationError(
            f"The checkpoint is a {stated!r} model that takes {inputs} in addition to text",
            why="builders support models of text only",
            hint="use a model of text of the same family",
        )
    if document.get("is_encoder_decoder") is True:
        raise ConfigurationError(
            f"The checkpoint is a {stated!r} model with an encoder and a decoder",
            why="builders support causal language models (decoders) only",
            hint="use a causal language model",
        )
    if names and not any(map(is_causal, names)):
        raise ConfigurationError(
            f"The checkpoint is not a causal language model: config.json names {names[0]!r}",
            why="builders support the classes …ForCausalLM and …LMHeadModel only",
            hint="use a causal language model, or the one that this model was made from",
        )
