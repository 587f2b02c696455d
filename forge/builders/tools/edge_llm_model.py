"""What Edge-LLM's exporter and runtime compute of a checkpoint; anything else is refused by name.

Standard library only. The exporter exits with 0 for a checkpoint whose fields or tensors it does
not use, and keeps zeros in place of a tensor that is missing. Sources: tensorrt_edgellm/config.py
and checkpoint/loader.py of the 0.11.0 wheel; for the rotary embedding, edge_llm_rope.py. The
families below were executed here: docs/reference/builders.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_HEADER_BYTES = 256 * 1024 * 1024
MAX_JSON_BYTES = 64 * 1024 * 1024
NAMED = 3

_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj")
_LAYER = (
    *("input_layernorm.weight", "post_attention_layernorm.weight"),
    *(f"self_attn.{name}.weight" for name in _LINEAR),
    *(f"mlp.{name}.weight" for name in ("gate_proj", "up_proj", "down_proj")),
)
# Family → tensors of each layer.
FAMILIES = {
    "llama": _LAYER,
    "mistral": _LAYER,
    "qwen2": (*_LAYER, *(f"self_attn.{name}.bias" for name in _LINEAR[:3])),
    "qwen3": (*_LAYER, "self_attn.q_norm.weight", "self_attn.k_norm.weight"),
    "hunyuan_v1_dense": (
        *_LAYER,
        *("self_attn.query_layernorm.weight", "self_attn.key_layernorm.weight"),
    ),
}
# Each of these may have a bias, which the exporter takes (seen in the executed graphs).
_BIAS = re.compile(r"(.+\.(?:[qkvo]|gate|up|down)_proj\.)bias")
# What quantised weights have next to them.
_SCALE = re.compile(r"(.+\.)(weight_scale|weight_scale_2|input_scale|pre_quant_scale)")
# Computed from the configuration; old checkpoints have it.
_IGNORED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")

ROPE = ("default", "llama3", "yarn", "dynamic")
# Fields that transformers computes with and the exporter does not, or the other way round, for
# these families; and the values with which both compute the same.
SAME: dict[str, tuple[object, ...]] = {
    "hidden_act": ("silu",),
    "hidden_activation": ("silu",),
    "partial_rotary_factor": (1,),
    "embedding_scale": (1,),
    "embed_scale": (1,),
    "scalar_embed_scale": (1,),
    "attention_scaling": (),
    "qk_scale": (),
    "scaling": (),
    "output_multiplier": (1,),
    "skip_softmax_scale_factor": (0,),
    "final_logit_softcapping": (),
}


class ModelError(Exception):
    """The exporter would make another model of the checkpoint."""


def check(checkpoint: Path) -> None:
    """Raise ModelError that names what Edge-LLM does not compute, or what is missing."""
    config = read_json(checkpoint / "config.json")
    family = str(config.get("model_type"))
    if family not in FAMILIES:
        raise ModelError(
            f"Edge-LLM's exporter does not support {family!r} models\n"
            f"  → choose one of {', '.join(sorted(FAMILIES))}"
        )
    if wrong := [*fields(config), *rotary(config), *window(config)]:
        raise ModelError(
            f"Edge-LLM's exporter does not support {', '.join(wrong)} of config.json\n"
            "  → choose another model, or another engine.builder"
        )
    check_tensors(config, tensor_names(checkpoint))


def fields(config: dict[str, Any]) -> Iterator[str]:
    """Yield fields with a value that is computed otherwise."""
    for name, values in SAME.items():
        value = config.get(name)
        if value is not None and value not in values:
            yield f"{name} {json.dumps(value)}"


def rotary(config: dict[str, Any]) -> Iterator[str]:
    """Yield what the runtime does not compute of the rotary embedding."""
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind not in ROPE:
        yield f"rope_type {json.dumps(kind)}"  # the runtime computes it as `default`
    if kind == "dynamic" and not scaling.get("alpha"):
        yield 'rope_type "dynamic" without alpha'  # it extends the context on no device
    if kind == "yarn":
        for name in ("mscale", "mscale_all_dim", "truncate"):
            if scaling.get(name) is not None:
                yield f"{name} of rope_type yarn"
    if (part := scaling.get("partial_rotary_factor")) not in (None, 1):
        yield f"partial_rotary_factor {part}"


def window(config: dict[str, Any]) -> Iterator[str]:
    """Yield a sliding window; one that holds all positions is none."""
    size = config.get("sliding_window")
    used = config.get("use_sliding_window", config.get("model_type") == "mistral")
    if used and size is not None and size < config.get("max_position_embeddings", 0):
        yield f"sliding_window {size}"
    elif any(kind != "full_attention" for kind in config.get("layer_types") or ()):
        yield f"layer_types {', '.join(sorted(set(config['layer_types'])))}"


def check_tensors(config: dict[str, Any], names: set[str]) -> None:
    """Raise ModelError for tensors that are missing or that nothing uses."""
    wanted = {"model.embed_tokens.weight", "model.norm.weight"}
    for index in range(int(config.get("num_hidden_layers") or 0)):
        layer = f"model.layers.{index}."
        wanted |= {layer + name for name in FAMILIES[str(config["model_type"])]}
    if not config.get("tie_word_embeddings"):
        wanted.add("lm_head.weight")
    if missing := sorted(wanted - names):
        raise ModelError(f"the checkpoint does not contain {few(missing)}")
    used = wanted | {"lm_head.weight"}
    left = {
        name
        for name in names - used
        if not ((beside := _beside(name)) and f"{beside}weight" in used)
        and not _IGNORED.fullmatch(name)
    }
    if left:
        raise ModelError(
            f"Edge-LLM's exporter does not use {few(sorted(left))}\n"
            "  → choose another model, or another engine.builder"
        )


def _beside(name: str) -> str | None:
    """Return the layer, with a dot, of a bias or a scale."""
    match = _SCALE.fullmatch(name) or _BIAS.fullmatch(name)
    return match[1] if match else None


def few(names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def tensor_names(checkpoint: Path) -> set[str]:
    """Return the names of all tensors of the safetensors files. Raises ModelError."""
    names: set[str] = set()
    for path in sorted(checkpoint.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                if length > MAX_HEADER_BYTES:
                    raise ModelError(f"{path.name} is damaged: its header has {length} bytes")
                names |= json.loads(file.read(length)).keys()
        except (OSError, ValueError) as error:
            raise ModelError(f"{path.name} cannot be read: {error}") from None
    return names - {"__metadata__"}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises ModelError."""
    try:
        with path.open("rb") as file:
            document: dict[str, Any] = json.loads(file.read(MAX_JSON_BYTES))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path.name} cannot be read: {error}") from None
    return document
