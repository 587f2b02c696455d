"""config.json as transformers 4 and 5 read it alike. Pure; imports the standard library only.

transformers 5 writes `rope_parameters`; transformers 4, which exports to ONNX, reads `rope_theta`
and `rope_scaling`, silently defaults to a base of 10000, and calls some numbers otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Names of one number in transformers 5 and 4, by family.
RENAMED: Mapping[str, Mapping[str, str]] = {
    "qwen2_moe": {"num_local_experts": "num_experts"},
    "qwen3_moe": {"num_local_experts": "num_experts"},
    "olmoe": {"num_local_experts": "num_experts"},
}
# Names of the base and of the part of a head that is rotated, in transformers 4, where they are not
# `rope_theta` and `partial_rotary_factor`: GPT-NeoX would take 10000 and 0.25 without them.
ROTARY_NAMES: Mapping[str, Mapping[str, str]] = {
    family: {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}
    for family in ("gpt_neox", "gpt_neox_japanese")
}
FULL, SLIDING = "full_attention", "sliding_attention"


class ConflictError(Exception):
    """The two spellings of one field have different values."""


def both_spellings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return config.json with the old names next to the new ones.

    Raises ConflictError if both are there and differ.
    """
    found = dict(config)
    for new, old in RENAMED.get(str(config.get("model_type")), {}).items():
        for one, other in ((new, old), (old, new)):
            if one in config:
                _put(found, other, config[one])
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict) or not rope:
        return found
    if any(isinstance(part, dict) for part in rope.values()):
        _by_layer_type(found, rope)
    else:
        _one(found, rope)
    return found


def _one(found: dict[str, Any], rope: Mapping[str, Any]) -> None:
    old = ROTARY_NAMES.get(str(found.get("model_type")), {})
    for name in ("rope_theta", "partial_rotary_factor"):
        if rope.get(name) is not None:
            _put(found, name, rope[name])
            _put(found, old.get(name, name), rope[name])
    scaling = _scaling(rope)
    if scaling is not None:
        _put(found, "rope_scaling", scaling)


def _scaling(rope: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return `rope_scaling` of transformers 4; None without scaling."""
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    elsewhere = {"rope_theta", "partial_rotary_factor"}
    if kind == "longrope":  # Phi-3's configuration class takes these three fields only
        return {"type": kind} | {name: rope[name] for name in ("short_factor", "long_factor")}
    return {name: rope[name] for name in rope if name not in elsewhere}


def _by_layer_type(found: dict[str, Any], rope: Mapping[str, Any]) -> None:
    """Write the RoPE of full and sliding attention (Gemma 3) under its old names."""
    full, sliding = rope.get(FULL), rope.get(SLIDING)
    if set(rope) != {FULL, SLIDING} or not isinstance(full, dict) or not isinstance(sliding, dict):
        return  # transformers 4 has no names for it; the export then refuses it
    _one(found, full)
    if _scaling(sliding) is None and "rope_theta" in sliding:
        _put(found, "rope_local_base_freq", sliding["rope_theta"])


def _put(found: dict[str, Any], name: str, value: object) -> None:
    known = found.get(name)
    if known is None:
        found[name] = value
    elif known != value and not _same_scaling(known, value):
        raise ConflictError(f"{name} is {known!r}, but its other spelling says {value!r}")


def _same_scaling(one: object, other: object) -> bool:
    """Whether two values are one scaling with `type` and `rope_type` as names of its kind."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return False

    def plain(values: dict[str, Any]) -> dict[str, Any]:
        kind = values.get("rope_type", values.get("type"))
        return {**values, "rope_type": kind, "type": kind}

    first, second = plain(one), plain(other)
    return all(first[name] == second[name] for name in first.keys() & second.keys())
