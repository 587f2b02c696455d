"""Compare the weights of a folder with what the model's class has, before anything is converted.

Runs in the environment `transformers`. The class is loaded on the meta device, so its own rules
hold (names of older releases, tied embeddings, buffers that are known to be surplus), and no
weight is read.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from huggingface_folder import CheckpointError
from safetensors_file import Tensor
from understood import UnsupportedError, unknown

MOST = 8  # names in a message
FLOATS = {"F64", "F32", "F16", "BF16"}
# Every configuration class has them or reads them under another name.
SPELLINGS = {"rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor",
             "num_experts", "num_local_experts", "rope_local_base_freq",
             "sliding_window_pattern", "_sliding_window_pattern"}  # fmt: skip


def class_names() -> Mapping[str, str]:
    """Return the class name of each `model_type` that transformers has a text model for."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return {kind: name if isinstance(name, str) else name[0]
            for kind, name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items()}  # fmt: skip


def check_fields(config: Mapping[str, Any]) -> None:
    """Raise UnsupportedError for fields that the model's configuration class does not have."""
    from transformers import CONFIG_MAPPING

    kind = str(config["model_type"])
    try:
        own = CONFIG_MAPPING[kind]()
    except KeyError:
        raise UnsupportedError(f"{kind!r} models, which transformers does not have") from None
    known = {*vars(own), *own.to_dict(), *getattr(own, "attribute_map", {}), *SPELLINGS}
    found = unknown(config, known)
    if found:
        said = ", ".join(f"{name} = {str(config[name])[:60]!r}" for name in found)
        raise UnsupportedError(f"config.json: {said} of a {kind} model")


def check_complete(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError naming keys that are missing, surplus or of another shape."""
    kinds = sorted({tensor.dtype for tensor in tensors.values()} - FLOATS)
    if kinds:
        first = next(name for name, tensor in tensors.items() if tensor.dtype in kinds)
        raise CheckpointError(
            f"{first} has the type {kinds[0]}: quantised weights are not supported\n"
            "  → use the original weights"
        )
    problems = _load_on_meta(folder, config, tensors)
    if problems:
        raise CheckpointError(
            "the weights are not those of the model in config.json: " + "; ".join(problems)
        )


def _load_on_meta(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> list[str]:
    import transformers

    transformers.logging.set_verbosity(logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    kind = str(config["model_type"])
    if kind not in class_names():
        raise CheckpointError(f"transformers has no text model for {kind!r}")
    try:
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            device_map="meta",
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            trust_remote_code=False,
            local_files_only=True,
        )
    except Exception as error:  # noqa: BLE001
        # A class may fail in any way on a config that it was not written for.
        names = _differences(kind, folder, tensors)
        if names:
            return names
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"transformers could not load it: {reason}") from None
    finally:
        transformers.logging.set_verbosity_warning()
    found = list(_named("missing", info["missing_keys"]))
    found += _named("surplus", info["unexpected_keys"])
    found += [
        f"{name} has the shape {list(there)}, not {list(here)}"
        for name, there, here in sorted(info["mismatched_keys"])[:MOST]
    ]
    if not found and _elements(tensors) < sum(one.numel() for one in model.parameters()):
        found.append(f"{_elements(tensors)} numbers, {model.num_parameters()} needed")
    return found


def _elements(tensors: Mapping[str, Tensor]) -> int:
    return sum(math.prod(tensor.shape) for tensor in tensors.values())


def _differences(kind: str, folder: Path, tensors: Mapping[str, Tensor]) -> list[str]:
    """Return missing and surplus names as the class itself would write them; empty if it cannot."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.core_model_loading import revert_weight_conversion

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        tied = set(getattr(model, "all_tied_weights_keys", {}) or {})
        state = {name: value for name, value in model.state_dict().items() if name not in tied}
        expected = revert_weight_conversion(model, state)
    except Exception:  # noqa: BLE001
        # The caller then says what transformers said.
        return []
    missing = [name for name in expected if name not in tensors]
    surplus = [name for name in tensors if name not in expected and name not in tied]
    shapes = [
        f"{name} has the shape {list(tensors[name].shape)}, not {list(value.shape)}"
        for name, value in expected.items()
        if name in tensors and tuple(value.shape) != tensors[name].shape
    ]
    return [*_named("missing", missing), *_named("surplus", surplus), *shapes[:MOST]]


def _named(what: str, names: Iterable[str]) -> list[str]:
    listed = sorted(names)
    if not listed:
        return []
    more = f" and {len(listed) - MOST} more" if len(listed) > MOST else ""
    return [f"{what}: {', '.join(listed[:MOST])}{more}"]
