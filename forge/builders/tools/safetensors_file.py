"""Read headers of safetensors files and write such files, tensor by tensor. Standard library only.

A file is: 8 bytes length of the header, little endian; the header, JSON: name → dtype, shape and
data_offsets from the end of the header; the data. Source: the safetensors README, "Format".
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library
MAX_INDEX_BYTES = 256 * 1024 * 1024
SHARD_BYTES = 4 << 30
SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2,
    "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip


class SafetensorsError(Exception):
    """The file is damaged, or files and index do not fit."""


@dataclass(frozen=True)
class Tensor:
    """Where one tensor is.

    Attributes:
        name: of the tensor.
        dtype: as safetensors writes it, e.g. `BF16`.
        shape: rows first.
        file: that holds it.
        start: of its data in the file, in bytes.
        size: of its data, in bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    size: int


def read_header(path: Path) -> list[Tensor]:
    """Return the tensors of one file. Raises SafetensorsError for a damaged one."""
    total = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(MAX_HEADER_BYTES, total - 8):
                raise SafetensorsError(f"{path.name} is damaged: its header is cut off")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        tensors = [_tensor(path, name, entry, 8 + length) for name, entry in header.items()]
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SafetensorsError(f"{path.name} is not a valid safetensors file: {error}") from None
    for tensor in tensors:
        if tensor.start + tensor.size > total:
            raise SafetensorsError(f"{path.name} is cut off: {tensor.name} is not complete")
    return tensors


def _tensor(path: Path, name: str, entry: Mapping[str, Any], base: int) -> Tensor:
    begin, end = (int(value) for value in entry["data_offsets"])
    shape = tuple(int(value) for value in entry["shape"])
    elements = 1
    for value in shape:
        elements *= value
    dtype = str(entry["dtype"])
    if begin < 0 or (dtype in SIZES and elements * SIZES[dtype] != end - begin):
        raise ValueError(f"{name} has {end - begin} bytes, its shape is {list(shape)} of {dtype}")
    return Tensor(name, dtype, shape, path, base + begin, end - begin)


def read_folder(folder: Path) -> dict[str, Tensor]:
    """Return all tensors of a Hugging Face folder by name.

    Raises SafetensorsError: no weights, a missing shard, an index that the files contradict.
    """
    index = folder / INDEX
    if not index.is_file():
        files = sorted(folder.glob("*.safetensors"))
        if (folder / SINGLE).is_file():
            files = [folder / SINGLE]
        elif len(files) != 1:
            what = "several files" if files else "none"
            raise SafetensorsError(
                f"the folder has no {SINGLE} and no {INDEX} (safetensors: {what})\n"
                "  → save the model with save_pretrained(folder, safe_serialization=True)"
            )
        return {tensor.name: tensor for tensor in read_header(files[0])}
    places = _weight_map(index)
    found: dict[str, Tensor] = {}
    for name in sorted(set(places.values())):
        path = folder / name
        if not path.is_file():
            raise SafetensorsError(f"{INDEX} names {name}, which is missing")
        found |= {tensor.name: tensor for tensor in read_header(path)}
    missing = [name for name in places if name not in found]
    surplus = [name for name in found if name not in places]
    if missing or surplus:
        kind = "in no file" if missing else "in no index"
        raise SafetensorsError(f"{INDEX} and the files differ: {(missing or surplus)[0]} is {kind}")
    return found


def _weight_map(index: Path) -> dict[str, str]:
    try:
        if index.stat().st_size > MAX_INDEX_BYTES:
            raise SafetensorsError(f"{INDEX} is larger than {MAX_INDEX_BYTES} bytes")
        places = json.loads(index.read_bytes())["weight_map"]
        names = {str(name): str(file) for name, file in places.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SafetensorsError(f"{INDEX} is not a valid index: {error!r}") from None
    if any("/" in file or file in {"", ".", ".."} for file in names.values()):
        raise SafetensorsError(f"{INDEX} names a file outside of the folder")
    return names


@dataclass(frozen=True)
class Planned:
    """One tensor that will be written."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Its data, in bytes."""
        elements = 1
        for value in self.shape:
            elements *= value
        return elements * SIZES[self.dtype]


def write(
    folder: Path, planned: Sequence[Planned], data: Iterable[bytes], shard_bytes: int = SHARD_BYTES
) -> None:
    """Write tensors as one file or as shards with an index; only one tensor is in memory.

    Args:
        folder: an existing folder.
        planned: all tensors, in the order of `data`.
        data: the bytes of each.
        shard_bytes: data of one file at most, but for a tensor that is larger.
    """
    shards = list(_shards(planned, shard_bytes))
    names = [SINGLE]
    if len(shards) > 1:
        names = [f"model-{n:05}-of-{len(shards):05}.safetensors" for n in range(1, len(shards) + 1)]
    source: Iterator[bytes] = iter(data)
    for name, shard in zip(names, shards, strict=True):
        _write_file(folder / name, shard, source)
    if len(shards) > 1:
        places = {one.name: name for name, shard in zip(names, shards, strict=True)
                  for one in shard}  # fmt: skip
        total = sum(one.size for one in planned)
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def _shards(planned: Sequence[Planned], most: int) -> Iterator[list[Planned]]:
    shard: list[Planned] = []
    for tensor in planned:
        if shard and sum(one.size for one in shard) + tensor.size > most:
            yield shard
            shard = []
        shard.append(tensor)
    yield shard


def _write_file(path: Path, shard: Sequence[Planned], source: Iterator[bytes]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for tensor in shard:
        end = position + tensor.size
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in shard:
            content = next(source)
            if len(content) != tensor.size:
                raise SafetensorsError(f"{tensor.name} has {len(content)} bytes, not {tensor.size}")
            file.write(content)
