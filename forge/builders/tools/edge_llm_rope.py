"""Rotary position embedding as the runtime of Edge-LLM computes it from an export's config.json.

The graph does not contain it: its input `rope_rotary_cos_sin` has for each token the cosines and
then the sines. Runs in the environment `edge-llm`.

Sources: the names in the runtime of the tensorrt-edgellm 0.11.0 wheel (Default, Dynamic,
Proportional, LongRope, MRope, NoRope, YaRN, Llama3); what each computes, from NVIDIA's tests of
it, ropeConfigTest and ropeInitializeTests: a type that is not known is computed as `default`
(so is `linear`), `dynamic` changes the base by `alpha` only. Llama 3 and YaRN are those of
https://huggingface.co/docs/transformers/internal/rope_utils.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from receipt import EngineError

# Of these, the runtime computes what transformers computes. tests/e2e/builders compares the two.
KINDS = ("default", "llama3", "yarn", "dynamic")


class RopeError(EngineError):
    """The runtime has no such rotary embedding, or this module does not compute it."""


def kind(config: dict[str, Any]) -> str:
    """Return the type of rotary embedding, as the runtime reads it: `type` before `rope_type`."""
    scaling = config.get("rope_scaling") or {}
    return str(scaling.get("type") or scaling.get("rope_type") or "default")


def cosines_and_sines(config: dict[str, Any], positions: np.ndarray) -> np.ndarray:
    """Return [positions, width] in float32: cosines in the first half, sines in the second.

    Raises RopeError.
    """
    scaling = config.get("rope_scaling") or {}
    head = int(config["head_dim"])
    base = float(config["rope_theta"])
    factor, magnitude = 1.0, 1.0
    if float(config.get("partial_rotary_factor", 1.0)) != 1.0:
        raise RopeError("partial_rotary_factor is not 1")
    name = kind(config)
    if name in ("longrope", "mrope", "nope", "proportional"):
        raise RopeError(f"rotary embedding {name!r} is not known")
    if name == "dynamic" and (alpha := scaling.get("alpha")):
        base *= float(alpha) ** (head / (head - 2))
    frequencies = base ** -(np.arange(0, head, 2, dtype=np.float64) / head)
    if name == "llama3":
        frequencies = _llama3(frequencies, scaling)
    elif name == "yarn":
        factor = float(scaling["factor"])
        frequencies = _yarn(frequencies, scaling, config, base)
        magnitude = 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0
        magnitude = float(scaling.get("attention_factor") or magnitude)
    angles = positions.astype(np.float32)[:, None] * frequencies.astype(np.float32)
    return (np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * magnitude).astype(np.float32)


def _llama3(frequencies: np.ndarray, scaling: dict[str, Any]) -> np.ndarray:
    """Divide long waves by the factor, keep short ones, and blend those between."""
    factor = float(scaling["factor"])
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    context = float(scaling["original_max_position_embeddings"])
    waves = context * frequencies / (2 * math.pi)
    share = np.clip((waves - low) / (high - low), 0, 1)
    return (1 - share) * frequencies / factor + share * frequencies


def _yarn(
    frequencies: np.ndarray, scaling: dict[str, Any], config: dict[str, Any], base: float
) -> np.ndarray:
    """Interpolate the dimensions that rotate seldom in the original context."""
    width = 2 * len(frequencies)
    context = float(
        scaling.get("original_max_position_embeddings")
        or config["original_max_position_embeddings"]
    )

    def dimension(rotations: float) -> float:
        return width * math.log(context / (rotations * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(dimension(float(scaling.get("beta_fast") or 32))), 0)
    high = min(math.ceil(dimension(float(scaling.get("beta_slow") or 1))), width - 1)
    ramp = np.clip((np.arange(len(frequencies)) - low) / ((high - low) or 0.001), 0, 1)
    return frequencies / float(scaling["factor"]) * ramp + frequencies * (1 - ramp)
