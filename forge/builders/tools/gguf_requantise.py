"""Write a GGUF file again with some tensors in another type. Requires the packages gguf and numpy.

The metadata are copied byte for byte, without the keys of a split file; a tensor is read, converted
and written in pieces, so the memory does not grow with the file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from gguf_header import (
    DEFAULT_ALIGNMENT,
    MAX_COUNT,
    TENSOR_TYPES,
    UINT32,
    GgufHeader,
    GgufTensor,
    Reader,
)

PIECE_BYTES = 16 * 1024 * 1024  # of a tensor in fp32
FLOAT_BYTES = 4
FP16_MAX = 65504.0
FILE_TYPE = "general.file_type"
NUMBERS = {name: number for number, (name, _, _) in TENSOR_TYPES.items()}
BLOCK_BYTES = {name: (block, width) for name, block, width in TENSOR_TYPES.values()}


class RequantiseError(Exception):
    """A tensor cannot be written in the other type."""


def target_kind(tensor: GgufTensor) -> str:
    """Return the type to write a tensor in that cannot stay as it is.

    F32 for a vector and F16 for bfloat16 and F32, which it holds exactly or nearly so. Everything
    else becomes Q8_0: blocks of 32 elements of 8 bits, which add a mean KL divergence of about
    0.001 to the type that the file has.
    """
    if len(tensor.shape) == 1:
        return "F32"
    if tensor.kind in ("BF16", "F32") or tensor.shape[0] % BLOCK_BYTES["Q8_0"][0]:
        return "F16"
    return "Q8_0"


def requantise(
    header: GgufHeader,
    folder: Path,
    target: Path,
    kind_of: Callable[[GgufTensor], str],
    file_type: int,
) -> None:
    """Write `target`, one file with all tensors of `header`.

    Args:
        header: of the files in `folder`, by `gguf_header.read_parts`.
        folder: the checkpoint.
        target: the new file.
        kind_of: the type for each tensor; a type that equals the tensor's own copies it.
        file_type: the new `general.file_type` (llama.h, enum llama_ftype).

    Raises:
        RequantiseError: a value does not fit into the new type, or is not a number.
        OSError: a file cannot be read or written.
    """
    entries = [_file_type(file_type), *_entries(folder / header.files[0])]
    placed = _place(header, kind_of)
    with target.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", header.version, len(placed), len(entries)))
        for entry in entries:
            file.write(entry)
        for _, new in placed:
            file.write(_row(new))
        _pad(file, header)
        for old, new in placed:
            start = header.data_starts[header.files.index(old.file)] + old.offset
            with (folder / old.file).open("rb") as source:
                source.seek(start)
                for piece in _pieces(source, old, new.kind):
                    file.write(piece)
            _pad(file, header)


def _entries(path: Path) -> Iterator[bytes]:
    """Return each entry of the metadata as it is in the file, but for `split.*` and the type."""
    with path.open("rb") as file:
        reader = Reader(file, path.stat().st_size, path.name)
        reader.take(8)
        reader.count(MAX_COUNT, "tensors")
        places: list[tuple[int, int]] = []
        for _ in range(reader.count(MAX_COUNT, "metadata entries")):
            start = reader.position
            key = reader.string("a key")
            reader.value(reader.scalar(UINT32))
            if not key.startswith("split.") and key != FILE_TYPE:
                places.append((start, reader.position))
        for start, end in places:
            file.seek(start)
            yield file.read(end - start)


def _file_type(number: int) -> bytes:
    key = FILE_TYPE.encode()
    return struct.pack("<Q", len(key)) + key + struct.pack("<II", UINT32, number)


def _place(
    header: GgufHeader, kind_of: Callable[[GgufTensor], str]
) -> list[tuple[GgufTensor, GgufTensor]]:
    """Return each tensor with what it becomes."""
    placed: list[tuple[GgufTensor, GgufTensor]] = []
    offset = 0
    for old in header.tensors:
        kind = kind_of(old)
        block, width = BLOCK_BYTES[kind]
        size = old.elements // block * width
        placed.append((old, replace(old, kind=kind, offset=offset, size=size)))
        offset += size + -size % _alignment(header)
    return placed


def _row(tensor: GgufTensor) -> bytes:
    name = tensor.name.encode()
    shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
    place = struct.pack("<IQ", NUMBERS[tensor.kind], tensor.offset)
    return struct.pack("<Q", len(name)) + name + shape + place


def _pad(file: BinaryIO, header: GgufHeader) -> None:
    file.write(bytes(-file.tell() % _alignment(header)))


def _alignment(header: GgufHeader) -> int:
    return header.integer("general.alignment") or DEFAULT_ALIGNMENT


def _pieces(source: BinaryIO, tensor: GgufTensor, kind: str) -> Iterator[bytes]:
    """Return the bytes of a tensor in another type, whole rows at a time."""
    columns = tensor.shape[0]
    rows = tensor.elements // columns
    row_bytes = tensor.size // rows
    most = max(1, PIECE_BYTES // (columns * FLOAT_BYTES))
    for start in range(0, rows, most):
        count = min(most, rows - start)
        data = source.read(count * row_bytes)
        if kind == tensor.kind:
            yield data
        else:
            yield _convert(data, (count, row_bytes), tensor, kind)


def _convert(data: bytes, shape: Sequence[int], tensor: GgufTensor, kind: str) -> bytes:
    """Return rows of a tensor in another type. Raises RequantiseError."""
    import numpy as np
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize, quantize

    rows: Any = np.frombuffer(data, dtype=np.uint8).reshape(shape)
    try:
        values: Any = dequantize(rows, GGMLQuantizationType[tensor.kind])
    except (KeyError, NotImplementedError):
        raise RequantiseError(
            f"{tensor.file}: package gguf cannot read type {tensor.kind} of {tensor.name!r}\n"
            "  → use a file of the same model in another type, such as Q8_0"
        ) from None
    if not np.isfinite(values).all():
        raise RequantiseError(
            f"{tensor.file}: tensor {tensor.name!r} has values that are not finite\n"
            "  → download the checkpoint again"
        )
    if kind == "F16" and float(np.abs(values).max()) > FP16_MAX:
        raise RequantiseError(
            f"{tensor.file}: tensor {tensor.name!r} has values above {FP16_MAX:.0f}, which fp16"
            " does not hold\n  → use a file of the same model in type Q8_0"
        )
    return bytes(quantize(values, GGMLQuantizationType[kind]).tobytes())
