"""The header of a safetensors file: names, types, shapes and places of its tensors.

The rules are those of the format's own reader (safetensors 0.8, `SafeTensors::read_metadata`): a
header of at most 100 MB, tensors that follow one another without a gap, and nothing behind them.
Stricter than it: no key twice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from forge.errors import ConfigurationError

__all__ = ["DTYPE_BITS", "WeightTensor", "read_safetensors", "unique_keys"]

MAX_HEADER_BYTES: Final = 100_000_000
_PREFIX_BYTES: Final = 8  # the header's length
DTYPE_BITS: Final[Mapping[str, int]] = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "F64": 64,
    "I64": 64,
    "U64": 64,
    "C64": 64,
}


@dataclass(frozen=True, slots=True)
class WeightTensor:
    """One tensor of a checkpoint, as a header describes it.

    Attributes:
        name: e.g. `model.layers.0.self_attn.q_proj.weight`.
        dtype: type of the format, e.g. `BF16` (safetensors) or `Q4_K` (GGUF).
        shape: number of elements per dimension, in the order of the format.
        file: name of the file that holds it.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def read_safetensors(path: Path, name: str) -> tuple[WeightTensor, ...]:
    """Return the tensors of a safetensors file, in the order of their data.

    Args:
        path: the file.
        name: the file's name in the checkpoint, for messages.

    Raises:
        ConfigurationError: the header is not valid, or the file is shorter or longer than its
            tensors.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_PREFIX_BYTES), "little")
        if length > size - _PREFIX_BYTES:
            _refuse(name, f"its header ends behind the file's {size} bytes")
        if length > MAX_HEADER_BYTES:
            _refuse(name, f"its header has {length} bytes, more than {MAX_HEADER_BYTES}")
        rows = _rows(file.read(length), name)
    end = 0
    for tensor, (begin, stop) in sorted(rows, key=lambda row: row[1]):
        bits = tensor.elements * DTYPE_BITS[tensor.dtype]
        if begin != end or (stop - begin) * 8 != bits:
            _refuse(name, f"tensor {tensor.name!r} does not have the bytes that its shape requires")
        end = stop
    if (end := _PREFIX_BYTES + length + end) != size:
        _refuse(name, f"it has {size} bytes, but its tensors end at {end}")
    return tuple(tensor for tensor, _ in sorted(rows, key=lambda row: row[1]))


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, for json.loads. Raises ValueError for a key that is there twice."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} is there twice")
        found[key] = value
    return found


def _rows(header: bytes, name: str) -> list[tuple[WeightTensor, tuple[int, int]]]:
    try:
        if header[:1] != b"{":
            raise ValueError("it does not start with '{'")  # noqa: TRY301
        document = json.loads(header.decode(), object_pairs_hook=unique_keys)
        notes = document.pop("__metadata__", {})
        if not isinstance(notes, dict) or not all(isinstance(one, str) for one in notes.values()):
            raise ValueError("__metadata__ is not a map of strings")  # noqa: TRY301
        return [_row(key, row, name) for key, row in document.items()]
    except (ValueError, RecursionError) as error:  # a header of brackets only nests too deep
        _refuse(name, f"its header is not valid: {error}")


def _row(key: str, row: Any, name: str) -> tuple[WeightTensor, tuple[int, int]]:
    try:
        dtype, shape, (begin, end) = row["dtype"], row["shape"], row["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise ValueError(f"tensor {key!r} has no dtype, shape or data_offsets") from None
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise ValueError(f"tensor {key!r} has the unknown type {dtype!r}")
    if not isinstance(shape, list) or not all(_is_count(size) for size in (*shape, begin, end)):
        raise ValueError(f"tensor {key!r} has a shape or data_offsets that are not whole numbers")
    return WeightTensor(key, dtype, tuple(shape), name), (begin, end)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _refuse(name: str, why: str) -> NoReturn:
    hint = "download the checkpoint again"
    raise ConfigurationError(f"{name} is not a valid safetensors file", why=why, hint=hint)
