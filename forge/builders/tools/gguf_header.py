"""Read the headers of GGUF files, version 2 and 3. Standard library only; imported by Forge, too.

Only the header is read, and never past the end of a file. Counts, types, block sizes, alignment,
names that are there twice, tensors that overlap or end behind the file are checked as llama.cpp
does. Sources: ggml's docs/gguf.md, gguf.cpp and ggml-common.h; llama-model-loader.cpp of llama.cpp
for split files.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

MAX_COUNT = 1_000_000  # tensors, or entries of the metadata
MAX_ARRAY = 16_000_000
MAX_STRING_BYTES = 64 * 1024 * 1024
MAX_HEADER_BYTES = 512 * 1024 * 1024
MAX_DIMENSIONS = 4  # GGML_MAX_DIMS
DEFAULT_ALIGNMENT = 32

# GGUF metadata value types → struct format; 8 is a string, 9 an array (ggml/docs/gguf.md).
SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<B",  # a Boolean, which must be 0 or 1
    10: "<Q",
    11: "<q",
    12: "<d",
}
UINT32, BOOL, STRING, ARRAY, UINT64 = 4, 7, 8, 9, 10

# ggml tensor type → (name, elements of a block, bytes of a block) (ggml.h, ggml-common.h).
TENSOR_TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}
# Types that ggml had and removed; their numbers are not used again (ggml.h).
REMOVED_TYPES = {
    4: "Q4_2",
    5: "Q4_3",
    31: "Q4_0_4_4",
    32: "Q4_0_4_8",
    33: "Q4_0_8_8",
    36: "IQ4_NL_4_4",
    37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
}

# general.architecture → model_type of the same model in config.json, where they are not spelt alike
# (transformers' modeling_gguf_pytorch_utils.py; llama.cpp's convert_hf_to_gguf.py).
MODEL_TYPES = {
    "command_r": "cohere",
    "gemma3": "gemma3_text",  # a GGUF file holds the language model only
    "gemma4": "gemma4_text",
    "glm4moe": "glm4_moe",
    "gptneox": "gpt_neox",
    "granitehybrid": "granitemoehybrid",
    "hunyuan_dense": "hunyuan_v1_dense",
    "hunyuan_moe": "hunyuan_v1_moe",
    "lfm2moe": "lfm2_moe",
    "llama4": "llama4_text",
    "phi2": "phi",
    "qwen2moe": "qwen2_moe",
    "qwen3moe": "qwen3_moe",
    "qwen3next": "qwen3_next",
}

# split.count and split.no of the name that llama.cpp gives to a part.
PART_NAME = re.compile(r"(?P<model>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")


class GgufError(Exception):
    """A file is not a valid GGUF file, or the files are not one checkpoint."""


@dataclass(frozen=True)
class GgufTensor:
    """One row of the tensor table.

    Attributes:
        name: e.g. `blk.0.attn_q.weight`.
        shape: number of elements per dimension, the contiguous one first (ggml's order).
        kind: name of the ggml type, e.g. `Q4_K`.
        offset: first byte, counted from the start of the data.
        size: in bytes.
        file: name of the file that holds it.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    offset: int
    size: int
    file: str

    @property
    def elements(self) -> int:
        """Number of elements."""
        return product(self.shape)


@dataclass(frozen=True)
class GgufHeader:
    """The header of a GGUF file, or of all parts of a split one.

    Attributes:
        files: names of the files, in the order of the parts.
        version: of the format, 2 or 3.
        values: metadata; for an array its length, or its items if they were asked for.
        tensors: of all files, in the order of the table.
        data_starts: where the data start in each file, in bytes.
    """

    files: tuple[str, ...]
    version: int
    values: Mapping[str, Any] = field(repr=False)
    tensors: tuple[GgufTensor, ...] = field(repr=False)
    data_starts: tuple[int, ...] = (0,)

    @property
    def architecture(self) -> str:
        """`general.architecture`; empty if there is none."""
        return self.text("general.architecture")

    @property
    def model_type(self) -> str:
        """The architecture as config.json of the same model names it."""
        return model_type(self.architecture, self.integer(f"{self.architecture}.expert_count"))

    @property
    def name(self) -> str:
        """`general.name`."""
        return self.text("general.name") or "unnamed"

    @property
    def tokenizer(self) -> str:
        """Kind of tokenizer: `llama` (SentencePiece), `gpt2/PRE` (BPE; PRE cuts words), `none`."""
        kind = _plain(self.text("tokenizer.ggml.model"))
        if kind != "gpt2":
            return kind or "none"
        return f"gpt2/{_plain(self.text('tokenizer.ggml.pre')) or 'default'}"

    @property
    def parameters(self) -> int:
        """Number of elements of all tensors."""
        return sum(self.types.values())

    @property
    def types(self) -> dict[str, int]:
        """Elements per ggml type."""
        found: dict[str, int] = {}
        for tensor in self.tensors:
            found[tensor.kind] = found.get(tensor.kind, 0) + tensor.elements
        return found

    @property
    def precision(self) -> str:
        """The type that holds most elements."""
        types = self.types
        return max(types, key=lambda kind: types[kind])

    def text(self, key: str) -> str:
        """Return a string of the metadata; empty if it is absent or of another type."""
        value = self.values.get(key)
        return value if isinstance(value, str) else ""

    def integer(self, key: str) -> int:
        """Return an integer of the metadata; 0 if it is absent or of another type."""
        value = self.values.get(key)
        return value if type(value) is int else 0


def _plain(name: str) -> str:
    """Return a name of at most 32 letters, digits and `.`, `_`, `-`, as a URL holds it."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[:32]


def model_type(architecture: str, experts: int = 0) -> str:
    """Return the `model_type` in config.json of a model with this `general.architecture`."""
    name = re.sub(r"[^a-z0-9_]", "_", architecture.lower())[:64]
    if name == "llama" and experts:  # llama.cpp has one architecture for both
        return "mixtral"
    return MODEL_TYPES.get(name, name)


def read(path: Path, arrays: Collection[str] = ()) -> GgufHeader:
    """Read the header of one file.

    Args:
        path: a GGUF file.
        arrays: keys of the metadata whose arrays are wanted, and not only their lengths.

    Raises:
        GgufError: it is not a valid GGUF file, or is shorter than its tensors.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return read_file(file, path.stat().st_size, path.name, arrays)


def read_file(file: BinaryIO, size: int, name: str, arrays: Collection[str] = ()) -> GgufHeader:
    """Read the header of an open file of `size` bytes. Raises GgufError."""
    reader = Reader(file, size, name)
    if reader.take(4) != b"GGUF":
        raise GgufError(f"{name} is not a GGUF file: it does not start with 'GGUF'")
    version = reader.scalar(UINT32)
    if version not in (2, 3):
        swapped = int.from_bytes(int(version).to_bytes(4, "little"), "big")
        kind = (
            f"big-endian GGUF version {swapped}" if swapped in (2, 3) else f"GGUF version {version}"
        )
        raise GgufError(f"{name} is {kind}; supported are versions 2 and 3, little-endian")
    count = reader.count(MAX_COUNT, "tensors")
    values = _metadata(reader, reader.count(MAX_COUNT, "metadata entries"), arrays)
    rows = [_row(reader) for _ in range(count)]
    alignment = _alignment(values, name)
    start = -(-reader.position // alignment) * alignment
    tensors = tuple(_tensor(row, alignment, name) for row in rows)
    _check_places(tensors, start, size, name)
    return GgufHeader((name,), version, values, tensors, (start,))


def read_parts(paths: Sequence[Path], arrays: Collection[str] = ()) -> GgufHeader:
    """Read one GGUF file, or all parts of a split one, as one checkpoint.

    Args:
        paths: the files in any order; `NAME-00001-of-0000N.gguf` are parts of one checkpoint.
        arrays: see `read`.

    Raises:
        GgufError: a part is missing or is one of another checkpoint, the files are several
            checkpoints, or one is damaged.
        OSError: a file cannot be read.
    """
    ordered = order(paths)
    headers = [read(path, arrays if number == 0 else ()) for number, path in enumerate(ordered)]
    first = headers[0]
    count = first.integer("split.count") or 1
    if len(headers) == 1 and count == 1:
        return first
    if len(headers) != count:
        raise GgufError(
            f"{first.files[0]} is one of {count} parts, but {len(headers)} are there\n"
            "  → take all parts, with the names NAME-00001-of-0000N.gguf that llama.cpp gives them"
        )
    for number, header in enumerate(headers):
        _check_part(header, number, first)
    tensors = tuple(tensor for header in headers for tensor in header.tensors)
    _check_names((tensor.name for tensor in tensors), "tensor", "the parts")
    total = first.integer("split.tensors.count")
    if total and total != len(tensors):
        raise GgufError(
            f"the parts of {first.files[0]} have {len(tensors)} tensors, not {total}\n"
            "  → a part belongs to another checkpoint: download all of them again"
        )
    files = tuple(header.files[0] for header in headers)
    starts = tuple(header.data_starts[0] for header in headers)
    return GgufHeader(files, first.version, first.values, tensors, starts)


def order(paths: Sequence[Path]) -> list[Path]:
    """Return the parts of one checkpoint in their order.

    Raises GgufError if a part is missing or the files are not one checkpoint.
    """
    if not paths:
        raise GgufError("there is no GGUF file")
    names = {path: PART_NAME.fullmatch(path.name) for path in sorted(paths)}
    models = {
        (path.parent, match["model"], int(match["count"])) if match else path
        for path, match in names.items()
    }
    if len(models) != 1:
        listed = ", ".join(path.name for path in sorted(paths))
        raise GgufError(
            f"the checkpoint holds {len(paths)} GGUF files that are not one model: {listed}\n"
            "  → select one model with path= in the checkpoint's URL"
        )
    parts = {int(match["number"]): path for path, match in names.items() if match}
    if not parts:
        return list(names)
    one, match = next((path, match) for path, match in names.items() if match)
    count = int(match["count"])
    missing = [number for number in range(1, count + 1) if number not in parts]
    if missing or len(parts) != count:
        absent = ", ".join(f"{match['model']}-{n:05d}-of-{count:05d}.gguf" for n in missing[:8])
        raise GgufError(
            f"parts of the split GGUF file are missing: {absent or 'none'} (found {one.name})\n"
            "  → take all parts: path=*.gguf in the checkpoint's URL"
        )
    return [parts[number] for number in sorted(parts)]


def _check_part(header: GgufHeader, number: int, first: GgufHeader) -> None:
    """Raise GgufError if a part is not the one that its name says."""
    name, count = header.files[0], first.integer("split.count")
    found = (header.values.get("split.no"), header.values.get("split.count"))
    if found != (number, count):
        raise GgufError(
            f"{name} is not part {number + 1} of {count}: its split.no is {found[0]} and its"
            f" split.count {found[1]}\n  → download the parts again"
        )
    other = header.architecture
    if other and other != first.architecture:
        raise GgufError(
            f"{name} is a part of another checkpoint: a {other!r} model, and {first.files[0]} is"
            f" {first.architecture!r}\n  → download the parts again"
        )


def _metadata(reader: Reader, entries: int, arrays: Collection[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for _ in range(entries):
        key = reader.string("a key")
        if key in values:
            raise GgufError(f"{reader.name} is damaged: it has the key {key!r} twice")
        values[key] = reader.value(reader.scalar(UINT32), items=key in arrays)
    return values


def _alignment(values: Mapping[str, Any], name: str) -> int:
    alignment = values.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise GgufError(f"{name} is damaged: general.alignment {alignment!r} is not a power of two")
    return alignment


@dataclass(frozen=True)
class _Row:
    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


def _row(reader: Reader) -> _Row:
    name = reader.string("a tensor's name")
    dimensions = reader.scalar(UINT32)
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise GgufError(f"{reader.name} is damaged: tensor {name!r} has {dimensions} dimensions")
    shape = tuple(int(reader.scalar(UINT64)) for _ in range(dimensions))
    return _Row(name, shape, int(reader.scalar(UINT32)), int(reader.scalar(UINT64)))


def _tensor(row: _Row, alignment: int, file: str) -> GgufTensor:
    if row.kind not in TENSOR_TYPES:
        removed = f" ({REMOVED_TYPES[row.kind]}, removed)" if row.kind in REMOVED_TYPES else ""
        raise GgufError(
            f"{file} has a tensor of unknown type {row.kind}{removed}: {row.name!r}\n"
            "  → use a file of the same model in another type, such as Q8_0"
        )
    kind, block, width = TENSOR_TYPES[row.kind]
    if 0 in row.shape or row.shape[0] % block:
        shape = "x".join(map(str, row.shape))
        raise GgufError(
            f"{file} is damaged: tensor {row.name!r} of {shape} elements has no whole blocks of"
            f" {block}, as {kind} requires"
        )
    if row.offset % alignment:
        raise GgufError(
            f"{file} is damaged: tensor {row.name!r} starts at {row.offset}, not at a multiple of"
            f" {alignment}"
        )
    size = product(row.shape) // block * width
    return GgufTensor(row.name, row.shape, kind, row.offset, size, file)


def _check_places(tensors: Sequence[GgufTensor], start: int, size: int, name: str) -> None:
    """Raise GgufError if tensors overlap, or the file ends before they do."""
    if not tensors:
        raise GgufError(f"{name} has no tensors")
    _check_names((tensor.name for tensor in tensors), "tensor", name)
    end, before = 0, ""
    for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
        if tensor.offset < end:
            raise GgufError(f"{name} is damaged: tensors {before!r} and {tensor.name!r} overlap")
        end, before = tensor.offset + tensor.size, tensor.name
    if start + end > size:
        raise GgufError(
            f"{name} is truncated: it has {size} bytes, but its tensors end at {start + end}\n"
            "  → download the checkpoint again"
        )


def _check_names(names: Iterable[str], what: str, file: str) -> None:
    known: set[str] = set()
    for name in names:
        if name in known:
            raise GgufError(f"{file} is damaged: {what} {name!r} is there twice")
        known.add(name)


def product(shape: Iterable[int]) -> int:
    """Return the number of elements of a shape."""
    elements = 1
    for size in shape:
        elements *= size
    return elements


class Reader:
    """Reads little-endian values, never past the end of the file."""

    def __init__(self, file: BinaryIO, size: int, name: str) -> None:
        self.file = file
        self.size = size
        self.name = name
        self.position = 0

    def take(self, length: int) -> bytes:
        """Return exactly `length` bytes."""
        if self.position + length > min(self.size, MAX_HEADER_BYTES):
            self._refuse()
        data = self.file.read(length)
        if len(data) != length:
            self._refuse()
        self.position += length
        return data

    def _refuse(self) -> None:
        if self.size > MAX_HEADER_BYTES:
            raise GgufError(f"{self.name} is damaged: its header exceeds {MAX_HEADER_BYTES} bytes")
        raise GgufError(
            f"{self.name} is truncated: its header continues after byte {self.size}\n"
            "  → download the checkpoint again"
        )

    def scalar(self, kind: int) -> Any:
        """Return a number or Boolean."""
        layout = SCALARS[kind]
        value = struct.unpack(layout, self.take(struct.calcsize(layout)))[0]
        if kind != BOOL:
            return value
        if value > 1:
            raise GgufError(f"{self.name} is damaged: a Boolean is {value}")
        return bool(value)

    def count(self, limit: int, what: str) -> int:
        """Return a count. Raises GgufError if it exceeds `limit`."""
        value = int(self.scalar(UINT64))
        if value > limit:
            raise GgufError(f"{self.name} is damaged: it has {value} {what}")
        return value

    def string(self, what: str = "") -> str:
        """Return a string, stored as a length and UTF-8; a name must be valid UTF-8."""
        data = self.take(self.count(MAX_STRING_BYTES, "bytes in one string"))
        try:
            return data.decode(errors="strict" if what else "replace")
        except UnicodeDecodeError:
            raise GgufError(f"{self.name} is damaged: {what} is not valid UTF-8") from None

    def value(self, kind: int, *, items: bool = False) -> Any:
        """Return a metadata value; for an array its length, or its items if asked for."""
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            return self._array(items=items)
        if kind not in SCALARS:
            raise GgufError(f"{self.name} is damaged: metadata of unknown type {kind}")
        return self.scalar(kind)

    def _array(self, *, items: bool) -> Any:
        kind = self.scalar(UINT32)
        length = self.count(MAX_ARRAY, "array items")
        if kind == STRING:
            if items:
                return [self.string() for _ in range(length)]
            for _ in range(length):
                self.take(self.count(MAX_STRING_BYTES, "bytes in one string"))
            return length
        if kind not in SCALARS:
            raise GgufError(f"{self.name} is damaged: an array of type {kind}")
        layout = f"<{length}{SCALARS[kind][1:]}"
        data = self.take(struct.calcsize(layout))
        if not items:
            return length
        found = struct.unpack(layout, data)
        return [bool(value) for value in found] if kind == BOOL else list(found)
