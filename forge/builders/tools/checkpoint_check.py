"""Check that a Hugging Face folder is a model that a tool supports, before the tool spends minutes.

Tools must not be asked: the exporter of Edge-LLM makes a Llama of any model that it does not know
and ends with 0. Standard library only, Python 3.10 or newer; no imports of other tools.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CONFIG = "config.json"
MAX_CONFIG_BYTES = 16 * 1024 * 1024
# Classes of transformers that predict the next token: LlamaForCausalLM, GPT2LMHeadModel.
CAUSAL_CLASSES = ("ForCausalLM", "LMHeadModel")


class UnsupportedModelError(Exception):
    """The folder is not a model that the tool supports; its message says what to do."""


def check_model(
    checkpoint: Path, architectures: Sequence[str], *, quantised: bool = False
) -> dict[str, Any]:
    """Return config.json of a checkpoint that a tool supports.

    Args:
        checkpoint: a Hugging Face folder.
        architectures: values of `model_type` that the tool supports.
        quantised: whether the weights may be quantised already.

    Raises:
        UnsupportedModelError: config.json is missing or not valid, or states another model_type,
            a class that is not a causal language model, or weights that are quantised already.
    """
    config = read_config(checkpoint)
    found = config.get("model_type")
    if found not in architectures:
        what = f"the checkpoint is a {found!r} model" if found else f"{CONFIG} has no model_type"
        raise UnsupportedModelError(
            f"{what}; supported architectures: {', '.join(architectures)}\n"
            "  → use another checkpoint, or a profile whose builder supports it"
        )
    classes = config.get("architectures")
    if isinstance(classes, list) and classes and not any(map(is_causal, classes)):
        raise UnsupportedModelError(
            f"the checkpoint is not a causal language model: its class is {classes[0]!r}\n"
            "  → use a checkpoint of the class …ForCausalLM"
        )
    method = config.get("quantization_config")
    if method and not quantised:
        name = method.get("quant_method") if isinstance(method, dict) else None
        raise UnsupportedModelError(
            f"the weights are quantised already ({name!r})\n"
            "  → use the original weights of the model"
        )
    return config


def is_causal(name: object) -> bool:
    """Whether a class of transformers is a causal language model."""
    return isinstance(name, str) and name.endswith(CAUSAL_CLASSES)


def read_config(checkpoint: Path) -> dict[str, Any]:
    """Return config.json of a folder. Raises UnsupportedModelError."""
    path = checkpoint / CONFIG
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise UnsupportedModelError(f"{CONFIG} is larger than {MAX_CONFIG_BYTES} bytes")
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise UnsupportedModelError(
            f"the checkpoint has no readable {CONFIG}: {error.strerror}\n"
            "  → use a Hugging Face folder: config.json, safetensors, tokenizer.json"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UnsupportedModelError(f"{CONFIG} is not valid JSON: {error}") from None
    if not isinstance(config, dict):
        raise UnsupportedModelError(f"{CONFIG} is not a JSON object")
    return config
