"""Write a GGUF file, or all parts of a split one, as a Hugging Face folder.

Runs in the environment `transformers`. Tensors are dequantised by gguf's own code and written one
after the other. Where most weights are bfloat16 the folder has bfloat16, else fp16.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cast_check import cast, check_values, to_bfloat16
from config_spellings import both_spellings
from gguf_model import ROPE_FACTORS, Move, convert
from gguf_tokenizer import Tokenizer
from gguf_tokenizer import convert as convert_tokenizer
from safetensors_file import Planned, write
from understood import UnsupportedError

PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
DTYPES = {"F16": "float16", "BF16": "bfloat16"}  # of safetensors → of config.json
ROWS_BYTES = 64 << 20  # in fp32, dequantised at a time


@dataclass(frozen=True)
class Gguf:
    """All parts of one model: fields, and tensors by name."""

    metadata: Mapping[str, object]
    tensors: Mapping[str, Any]


def parts_of(files: Sequence[Path]) -> list[Path]:
    """Return the parts of one model in order. Raises UnsupportedError for anything else."""
    if len(files) == 1 and not PART.fullmatch(files[0].name):
        return list(files)
    matches = [(PART.fullmatch(path.name), path) for path in files]
    named = [(match, path) for match, path in matches if match]
    stems = {(match["stem"], match["count"], path.parent) for match, path in named}
    if not files or len(named) != len(files) or len(stems) != 1:
        names = ", ".join(path.name for path in files) or "none"
        raise UnsupportedError(
            f"the checkpoint is neither a Hugging Face folder nor one GGUF model (found: {names})\n"
            "  → select one file, or all parts of one, with path= in the checkpoint's URL"
        )
    by_number = {int(match["number"]): path for match, path in named}
    count = int(named[0][0]["count"])
    missing = [number for number in range(1, count + 1) if number not in by_number]
    if missing or len(by_number) != count:
        raise UnsupportedError(
            f"{named[0][1].name} is one of {count} parts, but part {missing or 'number'} is missing"
        )
    return [by_number[number] for number in range(1, count + 1)]


def read(parts: Sequence[Path]) -> Gguf:
    """Read the headers of all parts. Raises UnsupportedError for damaged ones."""
    import gguf

    metadata: dict[str, object] = {}
    tensors: dict[str, Any] = {}
    for path in parts:
        try:
            reader = gguf.GGUFReader(path)
            fields = {name: field.contents() for name, field in reader.fields.items()}
        except (ValueError, KeyError, IndexError, OSError, OverflowError, MemoryError) as error:
            raise UnsupportedError(f"{path.name} is not a valid GGUF file: {error}") from None
        metadata = {**fields, **metadata}
        for tensor in reader.tensors:
            if tensor.name in tensors:
                raise UnsupportedError(f"{path.name} has a second tensor {tensor.name}")
            tensors[tensor.name] = tensor
    expected = metadata.get("split.tensors.count")
    if expected is not None and expected != len(tensors):
        raise UnsupportedError(f"the parts have {len(tensors)} tensors, not {expected}")
    return Gguf(metadata, tensors)


def write_folder(source: Gguf, architectures: Mapping[str, str], folder: Path) -> None:
    """Write config.json, weights and tokenizer.

    Args:
        source: the model.
        architectures: class name by model_type.
        folder: an existing, empty folder.

    Raises:
        UnsupportedError: the file has what is not supported.
        CastError: a value does not survive.
    """
    shapes = {name: tuple(int(n) for n in reversed(tensor.shape))
              for name, tensor in source.tensors.items()}  # fmt: skip
    factors = source.tensors.get(ROPE_FACTORS)
    numbers = None if factors is None else [float(n) for n in _whole(factors).ravel()]
    tokenizer = convert_tokenizer(source.metadata)
    conversion = convert(source.metadata, shapes, numbers)
    words = len(source.metadata["tokenizer.ggml.tokens"])  # type: ignore[arg-type]
    if words > conversion.config["vocab_size"]:
        raise UnsupportedError(
            f"a vocabulary of {words} tokens with {conversion.config['vocab_size']} embeddings"
        )
    dtype = _dtype(source)
    config = {
        **conversion.config,
        **tokenizer.ids,
        "architectures": [architectures[conversion.config["model_type"]]],
        "dtype": DTYPES[dtype],
    }
    _write_json(folder / "config.json", both_spellings(config))
    ids = {name: value for name, value in tokenizer.ids.items() if value is not None}
    _write_json(folder / "generation_config.json", ids)
    write_tokenizer(tokenizer, folder)
    planned = [Planned(move.target, dtype, move.shape) for move in conversion.moves]
    write(folder, planned, _contents(source, conversion.moves, dtype))


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the files of a tokenizer."""
    _write_json(folder / "tokenizer.json", tokenizer.tokenizer, sort=False)
    _write_json(folder / "tokenizer_config.json", tokenizer.config)
    for name, text in tokenizer.templates.items():
        path = folder / "chat_template.jinja"
        if name != "default":
            path = (
                folder
                / "additional_chat_templates"
                / f"{re.sub(r'[^A-Za-z0-9_-]', '_', name)}.jinja"
            )
            path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _dtype(source: Gguf) -> str:
    elements: Counter[str] = Counter()
    for tensor in source.tensors.values():
        elements[tensor.tensor_type.name] += int(tensor.n_elements)
    return "BF16" if elements.most_common(1)[0][0] == "BF16" else "F16"


def _contents(source: Gguf, moves: Sequence[Move], dtype: str) -> Iterator[bytes]:
    for move in moves:
        if move.source is None:
            yield bytes(Planned(move.target, dtype, move.shape).size)
            continue
        tensor = source.tensors[move.source]
        rows: list[np.ndarray] = []
        for values in _rows(tensor):
            if move.subtract:
                values -= np.float32(move.subtract)  # noqa: PLW2901
            rows.append(_store(move.source, values, dtype))
        content = np.concatenate(rows).reshape(move.shape)
        yield (_unpermuted(content, move.heads) if move.heads else content).tobytes()


def _store(name: str, values: np.ndarray, dtype: str) -> np.ndarray:
    check_values(name, [values], dtype)
    return to_bfloat16(values) if dtype == "BF16" else cast(values, dtype)


def _rows(tensor: Any) -> Iterator[np.ndarray]:
    """Yield a tensor in fp32, some rows at a time."""
    columns = max(1, int(tensor.shape[0]))
    step = max(1, ROWS_BYTES // (4 * columns))
    data = tensor.data if tensor.data.ndim > 1 else tensor.data[None]
    for start in range(0, data.shape[0], step):
        yield _dequantised(tensor, data[start : start + step])


def _whole(tensor: Any) -> np.ndarray:
    return _dequantised(tensor, tensor.data)


def _dequantised(tensor: Any, data: np.ndarray) -> np.ndarray:
    from gguf import quants

    try:
        return np.array(quants.dequantize(data, tensor.tensor_type), np.float32)
    except (NotImplementedError, ValueError) as error:
        kind = tensor.tensor_type.name
        raise UnsupportedError(f"{tensor.name} of type {kind}: {error}") from None


def _unpermuted(values: np.ndarray, heads: int) -> np.ndarray:
    """Undo `permute` of llama.cpp's converter: the pairs of each head in Hugging Face's order."""
    rest = values.shape[1:]
    half = values.shape[0] // heads // 2
    return values.reshape(heads, half, 2, *rest).swapaxes(1, 2).reshape(values.shape)


def _write_json(path: Path, content: Mapping[str, Any], *, sort: bool = True) -> None:
    text = json.dumps(content, indent=2, sort_keys=sort, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
