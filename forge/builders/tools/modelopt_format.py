"""What a Hugging Face folder that ModelOpt quantised contains, by its headers. Standard library.

hf_quant_config.json   quant_algo, modules that are left out, quantisation of the KV cache
*.safetensors          with each quantised NAME.weight: NAME.weight_scale, and by kind
NAME.weight_scale_2, NAME.input_scale, NAME.pre_quant_scale
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

MAX_HEADER_BYTES = 256 * 1024 * 1024
MAX_JSON_BYTES = 64 * 1024 * 1024

# Precision of a profile → quant_algo of hf_quant_config.json; None: not quantised.
ALGORITHMS = {
    "fp16": None,
    "bf16": None,
    "fp8": "FP8",
    "nvfp4": "NVFP4",
    "int4": "W4A16_AWQ",
    "int8": "W8A16",
}
# Values that share one scale along the width of a layer.
BLOCK = {"nvfp4": 16, "int4": 128, "fp8": 1, "int8": 1}
FLOATS = {"F16": "fp16", "BF16": "bf16", "F32": "fp32"}
# Layers that are looked up or computed in full precision, by the end of their names.
UNQUANTISED = ("embed_tokens", "lm_head")


class FormatError(Exception):
    """The folder is damaged, or has another precision than requested."""


@dataclass(frozen=True)
class Tensor:
    """A tensor by its header. `file` is the file's name."""

    file: str
    dtype: str
    shape: tuple[int, ...]


def check_widths(config: dict[str, Any], precision: str) -> None:
    """Raise FormatError if the width of a layer is not a multiple of the block size."""
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    widths = {"hidden_size": hidden, "intermediate_size": config.get("intermediate_size")}
    if hidden and heads:
        head = config.get("head_dim") or hidden // heads
        widths["num_attention_heads * head_dim"] = heads * head
    block = BLOCK[precision]
    if wrong := [f"{name} {width}" for name, width in widths.items() if width and width % block]:
        raise FormatError(
            f"{precision} requires layer widths in multiples of {block}, but this model has"
            f" {', '.join(wrong)}\n  → choose another engine.precision for this model"
        )


def check(checkpoint: Path, precision: str) -> float:
    """Check configuration and tensors; return the quantised fraction of the layers' values.

    Raises FormatError: another algorithm, or a layer that is neither quantised nor left out.
    """
    claimed = quantisation(checkpoint)
    if claimed.get("quant_algo") != ALGORITHMS[precision]:
        raise FormatError(
            f"quant_algo in hf_quant_config.json is {claimed.get('quant_algo')!r}, expected"
            f" {ALGORITHMS[precision]!r} for {precision}\n"
            "  → the tool did not quantise as requested: see its log above"
        )
    left_out = [str(one) for one in claimed.get("exclude_modules") or []]
    kinds = layers(headers(checkpoint))
    plain = [
        name
        for name, (kind, _) in kinds.items()
        if kind != precision and not any(fnmatchcase(name, one) for one in left_out)
    ]
    if plain:
        first = f"{plain[0]} ({kinds[plain[0]][0]})"
        raise FormatError(f"{len(plain)} layers are not {precision}, for example {first}")
    values = sum(count for kind, count in kinds.values() if kind == precision)
    if not values:
        raise FormatError(f"no layer of the checkpoint is {precision}")
    return values / sum(count for _, count in kinds.values())


def quantisation(checkpoint: Path) -> dict[str, Any]:
    """Return the section `quantization` of hf_quant_config.json; {} if there is no such file."""
    path = checkpoint / "hf_quant_config.json"
    found = read_json(path).get("quantization") if path.is_file() else {}
    if not isinstance(found, dict):
        raise FormatError(f"{path.name} has no section quantization")
    return found


def precision_of(checkpoint: Path) -> str:
    """Return the precision in which most values of the layers are stored. Raises FormatError."""
    values: dict[str, int] = {}
    for kind, count in layers(headers(checkpoint)).values():
        values[kind] = values.get(kind, 0) + count
    if not values:
        raise FormatError("the checkpoint has no layers in *.safetensors")
    return max(values, key=lambda kind: values[kind])


def layers(tensors: dict[str, Tensor]) -> dict[str, tuple[str, int]]:
    """Return precision and number of values of each linear layer, by its name."""
    found = {}
    for name, tensor in tensors.items():
        layer = name.removesuffix(".weight")
        if layer == name or len(tensor.shape) != 2 or layer.endswith(UNQUANTISED):  # noqa: PLR2004
            continue
        kind = _kind(layer, tensor, tensors)
        packed = 2 if tensor.dtype == "U8" else 1  # two 4-bit values a byte
        found[layer] = (kind, tensor.shape[0] * tensor.shape[1] * packed)
    return found


def _kind(layer: str, tensor: Tensor, tensors: dict[str, Tensor]) -> str:
    if tensor.dtype == "U8":
        return "nvfp4" if f"{layer}.weight_scale_2" in tensors else "int4"
    quantised = {"F8_E4M3": "fp8", "I8": "int8"}
    return (quantised | FLOATS).get(tensor.dtype, tensor.dtype)


def headers(checkpoint: Path) -> dict[str, Tensor]:
    """Return all tensors by name. Raises FormatError."""
    return {
        name: Tensor(path.name, str(entry["dtype"]), tuple(entry["shape"]))
        for path in sorted(checkpoint.glob("*.safetensors"))
        for name, entry in _entries(path)
    }


def _entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > MAX_HEADER_BYTES:
                raise FormatError(f"{path.name} is damaged: its header has {length} bytes")
            header: dict[str, Any] = json.loads(file.read(length))
    except (OSError, ValueError) as error:
        raise FormatError(f"{path.name} is damaged: {error}") from None
    for name, entry in header.items():
        if name != "__metadata__":
            yield name, entry


def read_json(path: Path) -> dict[str, Any]:
    """Read a small JSON document. Raises FormatError."""
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(MAX_JSON_BYTES))
    except (OSError, ValueError) as error:
        raise FormatError(f"{path.name} cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise FormatError(f"{path.name} is not a JSON object")
    return document
