"""Whether weights survive the cast to another floating-point type. numpy only.

Refused: NaN or infinity in the source; a finite value that becomes infinite; a tensor whose values
are so small that the cast loses them. One small value does not count: every bfloat16 checkpoint has
some below fp16's least normal number, 6.1e-5, and next to values of usual size their error of at
most 3e-8 does not matter. So what is compared is the error of the whole tensor: it is lost where
the root mean square of the errors is more than LOSS of that of the values. Rounding alone makes
2^-11 at most in fp16 and 2^-8 in bfloat16 (IEEE 754; bfloat16 has 8 significant bits).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from safetensors_file import Tensor

FP16_MAX = 65504.0
LOSS = {"F16": 2.0**-10, "BF16": 2.0**-7, "F32": 0.0}
FLOATS = ("F64", "F32", "F16", "BF16")
CHUNK = 1 << 22  # elements at a time, 16 MiB in fp32
NUMPY = {"F64": np.float64, "F32": np.float32, "F16": np.float16}


class CastError(Exception):
    """A tensor that does not survive; the message names it."""


def check_tensors(tensors: Iterable[Tensor], target: str | None) -> None:
    """Raise CastError for the first tensor that does not survive.

    Args:
        tensors: of a checkpoint; those of other types are skipped.
        target: safetensors' name of the type, `F16`, `BF16` or `F32`; None: only NaN and infinity
            are looked for.
    """
    for tensor in tensors:
        if tensor.dtype in FLOATS:
            wanted = None if target == tensor.dtype else target
            check_values(tensor.name, read_chunks(tensor), wanted)


def read_chunks(tensor: Tensor) -> Iterator[np.ndarray]:
    """Yield a tensor's values in fp32 (fp64 for F64), a part at a time, from its mapped file."""
    if not tensor.size:
        return
    raw = np.memmap(tensor.file, np.uint8, "r", offset=tensor.start, shape=(tensor.size,))
    kind = np.dtype(np.uint16 if tensor.dtype == "BF16" else NUMPY[tensor.dtype])
    step = CHUNK * kind.itemsize
    for start in range(0, tensor.size, step):
        part = np.frombuffer(raw[start : start + step].tobytes(), kind)
        if tensor.dtype == "BF16":
            yield from_bfloat16(part)
        elif tensor.dtype == "F16":
            yield part.astype(np.float32)
        else:
            yield part


def check_values(name: str, chunks: Iterable[np.ndarray], target: str | None) -> None:
    """Raise CastError if the values of one tensor do not survive."""
    errors = values = 0.0
    for chunk in chunks:
        if not np.isfinite(chunk).all():
            kind = "NaN" if np.isnan(chunk).any() else "infinite values"
            raise CastError(f"{name} has {kind}")
        if target is None:
            continue
        after = cast(chunk, target)
        if not np.isfinite(after).all():
            largest = float(np.abs(chunk).max())
            raise CastError(f"{name} has the value {largest:.6g}, which {_type(target)} has not")
        exact = chunk.astype(np.float64)
        errors += float(np.square(after.astype(np.float64) - exact).sum())
        values += float(np.square(exact).sum())
    if target is not None and errors**0.5 > LOSS[target] * values**0.5:
        raise CastError(f"{name} has values that are too small for {_type(target)}")


def cast(values: np.ndarray, target: str) -> np.ndarray:
    """Return values as the type rounds them, in fp32 (or fp16)."""
    with np.errstate(over="ignore", under="ignore"):
        if target == "F16":
            return values.astype(np.float16)
        if target == "BF16":
            return from_bfloat16(to_bfloat16(values))
        return values.astype(np.float32)


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Return finite values as the bits of bfloat16, rounded to the nearest, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Return the values of bfloat16's bits in fp32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _type(target: str) -> str:
    return {"F16": "fp16", "BF16": "bf16", "F32": "fp32"}[target]
