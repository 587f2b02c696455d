"""RoPE scaling of a GGUF file as `rope_parameters` of Hugging Face. Pure.

Sources: gguf-py/gguf/constants.py (names), ggml's rope_yarn (what llama.cpp computes),
transformers/modeling_rope_utils.py (what Hugging Face computes), generate_extra_tensors of
llama.cpp's converter (how a llama3 scaling becomes rope_freqs.weight).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from understood import UnsupportedError

TOLERANCE = 1e-3  # of a factor, which the file has in single precision
LOW, HIGH, ORIGINAL = 1.0, 4.0, 8192  # of all Llama 3 models
FAMILIAR = tuple((LOW, HIGH, original) for original in (ORIGINAL, 512, 1024, 2048, 4096, 16384))
# Fields of YaRN and the values with which llama.cpp computes what transformers computes.
YARN_DEFAULTS: Mapping[str, float] = {
    "rope.scaling.yarn_ext_factor": 1.0,
    "rope.scaling.yarn_attn_factor": 1.0,
    "rope.scaling.attn_factor": 1.0,
}


def rope_parameters(prefix: str, fields: Mapping[str, Any], context: int) -> dict[str, Any]:
    """Return `rope_parameters` without the base. Raises UnsupportedError.

    Args:
        prefix: of the fields, e.g. `llama.`.
        fields: all that begin with rope.scal.
        context: the model's context length, in tokens.
    """
    left = dict(fields)
    left.pop("rope.scaling.finetuned", None)
    kind = left.pop("rope.scaling.type", None)
    factor = left.pop("rope.scaling.factor", None)
    linear = left.pop("rope.scale_linear", None)
    original = left.pop("rope.scaling.original_context_length", None)
    if kind is None:
        kind = "linear" if linear not in {None, 1.0} or factor not in {None, 0.0, 1.0} else "none"
    factor = linear if factor is None else factor
    found: dict[str, Any] = {"rope_type": "default"}
    if kind == "linear" and factor:
        found = {"rope_type": "linear", "factor": float(factor)}
    elif kind == "yarn" and factor:
        found = _yarn(left, float(factor), original, context)
    elif kind not in {"none", "linear"} or (kind == "linear" and not factor):
        raise UnsupportedError(f"{prefix}rope.scaling.type = {kind!r}, factor {factor!r}")
    if left:
        said = ", ".join(f"{prefix}{name} = {value!r}" for name, value in left.items())
        raise UnsupportedError(said)
    return found


def _yarn(left: dict[str, Any], factor: float, original: object, context: int) -> dict[str, Any]:
    """Return YaRN's parameters and take its fields out of `left`."""
    found: dict[str, Any] = {"rope_type": "yarn", "factor": factor}
    found["original_max_position_embeddings"] = original or round(context / factor)
    for name, default in YARN_DEFAULTS.items():
        if left.get(name) == default:
            del left[name]
    for name in ("beta_fast", "beta_slow"):
        value = left.pop(f"rope.scaling.yarn_{name}", None)
        if value is not None:
            found[name] = float(value)
    return found


def llama3_parameters(
    factors: Sequence[float], base: float, head: int, original: object
) -> dict[str, Any]:
    """Return the llama3 scaling that has these factors.

    The factors fix the scaling up to a common multiple of the three lengths, so the usual ones are
    tried first. Raises UnsupportedError for factors of no llama3 scaling.
    """
    largest = float(max(factors))
    lengths = [(LOW, HIGH, original)] if isinstance(original, int) else list(FAMILIAR)
    fitted = _fit(factors, base, head, largest)
    for low, high, trained in (*lengths, *([fitted] if fitted else [])):
        candidate = {
            "rope_type": "llama3",
            "factor": round(largest, 4),
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": trained,
            "rope_theta": base,
        }
        expected = llama3_factors(candidate, head)
        if len(expected) == len(factors) and all(
            math.isclose(one, other, rel_tol=TOLERANCE)
            for one, other in zip(expected, factors, strict=True)
        ):
            return candidate
    raise UnsupportedError("rope_freqs.weight with other factors than those of a llama3 scaling")


def llama3_factors(parameters: Mapping[str, Any], head: int) -> list[float]:
    """Return what a llama3 scaling divides each frequency by."""
    found = []
    for index in range(0, head, 2):
        wavelength = 2 * math.pi * parameters["rope_theta"] ** (index / head)
        ratio = parameters["original_max_position_embeddings"] / wavelength
        low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
        if ratio > high:
            found.append(1.0)
        elif ratio < low:
            found.append(float(parameters["factor"]))
        else:
            smooth = (ratio - low) / (high - low)
            found.append(1 / ((1 - smooth) / parameters["factor"] + smooth))
    return found


def _fit(
    factors: Sequence[float], base: float, head: int, largest: float
) -> tuple[float, float, int] | None:
    """Return (low, high, original) from two factors between 1 and the largest, if there are two.

    1/factor is linear in 1/wavelength there; `original` is taken as 8192.
    """
    points = []
    for index, factor in enumerate(factors):
        if 1 + TOLERANCE < factor < largest * (1 - TOLERANCE):
            smooth = (1 / factor - 1 / largest) / (1 - 1 / largest)
            points.append((base ** (-2 * index / head) / (2 * math.pi), smooth))
    if len(points) < 2:  # noqa: PLR2004
        return None
    (x0, y0), (x1, y1) = points[0], points[-1]
    slope = (y1 - y0) / (x1 - x0)
    spread = ORIGINAL / slope
    low = (x0 - y0 / slope) * ORIGINAL
    return round(low, 6), round(low + spread, 6), ORIGINAL
