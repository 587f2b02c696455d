"""Compile a GGUF checkpoint to OpenVINO IR: run inside the tool environment `openvino`.

    python openvino_compile.py --checkpoint DIR --settings settings.json --output DIR

    OUTPUT/openvino_model.{xml,bin}        the network
    OUTPUT/openvino_tokenizer.{xml,bin}    with the chat template
    OUTPUT/openvino_detokenizer.{xml,bin}
    OUTPUT/engine.json                     what it is and which exact runtime it is bound to

Exit code 3: the checkpoint or the settings cannot be compiled, and why. 5: the compiler failed.
Nothing is written to OUTPUT unless everything is there. No import of Forge: the tool environment
holds the compiler and nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import struct
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

CONFIGURATION_ERROR = 3
STEP_FAILED = 5

EXPECTED = tuple(
    f"openvino_{part}.{kind}"
    for part in ("model", "tokenizer", "detokenizer")
    for kind in ("xml", "bin")
)
# Architectures of openvino.genai's GGUF reader (src/cpp/src/gguf_utils, 2026.4).
ARCHITECTURES = ("llama", "qwen2", "qwen3")

MAX_SETTINGS_BYTES = 1024 * 1024
MAX_STRING_BYTES = 64 * 1024 * 1024
MAX_COUNT = 1_000_000
MAX_ARRAY = 16_000_000

# GGUF metadata value types → struct format; 8 is a string, 9 an array (ggml/docs/gguf.md).
SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
STRING, ARRAY = 8, 9

# ggml tensor type → (name, elements in a block, bytes of a block) (ggml/src/ggml-common.h).
TENSOR_TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    30: ("BF16", 1, 2),
}


class CheckpointError(Exception):
    """The checkpoint or the settings cannot be compiled."""


@dataclass(frozen=True)
class Gguf:
    """What the header of a GGUF file says."""

    architecture: str
    name: str
    tensors: int
    parameters: int
    precision: str  # the type that holds most of the parameters


def main(argv: list[str] | None = None) -> int:
    """Compile and return the exit code."""
    parser = argparse.ArgumentParser(description="Compile a GGUF checkpoint to OpenVINO IR.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        compile_checkpoint(arguments.checkpoint, arguments.settings, arguments.output)
    except CheckpointError as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    except OSError as error:
        sys.stderr.write(f"Error: the compiler could not read or write: {error}\n")
        return STEP_FAILED
    except RuntimeError as error:  # what OpenVINO raises for all its failures
        sys.stderr.write(f"Error: OpenVINO failed: {str(error).strip()}\n")
        return STEP_FAILED
    return 0


def compile_checkpoint(checkpoint: Path, settings: Path, output: Path) -> None:
    """Check everything first, compile in a temporary folder, then fill `output`."""
    precision = asked_precision(settings)
    weights = find_weights(checkpoint)
    with weights.open("rb") as file:
        header = read_gguf(file, weights.stat().st_size, weights.name)
    if header.architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"{weights.name} is a {header.architecture!r} model; OpenVINO's GGUF reader knows"
            f" {', '.join(ARCHITECTURES)}\n"
            "  → use another checkpoint, or a profile whose builder knows it"
        )
    if precision != "as-is":
        raise CheckpointError(
            f"engine.precision is {precision!r}, but {weights.name} is quantised already"
            f" ({header.precision}) and is compiled as it is\n"
            "  → set engine.precision: as-is, or give a Hugging Face checkpoint to quantise"
        )
    sys.stderr.write(
        f"compiling {weights.name}: {header.name}, {header.architecture},"
        f" {header.parameters / 1e6:.0f} M parameters, mostly {header.precision}\n"
    )
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".compile-", dir=output.parent) as folder:
        work = Path(folder)
        convert(weights, work)
        facts = engine_facts(header, weights)
        (work / "engine.json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")
        for name in (*EXPECTED, "engine.json"):
            (work / name).chmod(0o644)
            shutil.move(work / name, output / name)


def asked_precision(settings: Path) -> str:
    """`engine.precision` of the settings file; `as-is` where it is not given."""
    try:
        if settings.stat().st_size > MAX_SETTINGS_BYTES:
            raise CheckpointError(f"{settings.name} is larger than {MAX_SETTINGS_BYTES} bytes")
        values: Any = json.loads(settings.read_bytes())
        precision = values.get("engine", {}).get("precision", "as-is")
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{settings.name} is not the JSON of a step: {error}") from None
    return str(precision)


def find_weights(checkpoint: Path) -> Path:
    """The one GGUF file of a checkpoint."""
    found = sorted(checkpoint.glob("*.gguf"))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise CheckpointError(
            f"the checkpoint holds {len(found)} GGUF files, not one: {names}\n"
            "  → keep the quantisation you want and leave the others out"
        )
    if (checkpoint / "config.json").is_file():
        raise CheckpointError(
            "the checkpoint is a Hugging Face folder; that is not supported yet by this builder,"
            " which compiles GGUF\n  → name a GGUF file of the same model"
        )
    raise CheckpointError(f"the checkpoint folder {checkpoint} holds no .gguf file")


def read_gguf(file: BinaryIO, size: int, name: str) -> Gguf:
    """Walk the header and hold every tensor against the file's size. Raises CheckpointError."""
    reader = Reader(file, size, name)
    tensors, values = read_metadata(reader)
    return check_tensors(reader, tensors, values)


def read_metadata(reader: Reader) -> tuple[int, dict[str, Any]]:
    """Number of tensors, and the metadata before the tensor table. Raises CheckpointError."""
    if reader.take(4) != b"GGUF":
        raise CheckpointError(f"{reader.name} is no GGUF file: it does not begin with 'GGUF'")
    version = reader.scalar(4)
    if version not in (2, 3):
        raise CheckpointError(
            f"{reader.name} is GGUF version {version}; versions 2 and 3 are known"
        )
    tensors = reader.count(10, MAX_COUNT, "tensors")
    entries = reader.count(10, MAX_COUNT, "metadata entries")
    values: dict[str, Any] = {}
    for _ in range(entries):
        key = reader.string()
        values[key] = reader.value(reader.scalar(4))
    return tensors, values


def check_tensors(reader: Reader, tensors: int, values: dict[str, Any]) -> Gguf:
    """Read the tensor table and see that the last byte of every tensor is in the file."""
    parameters: dict[str, int] = {}
    end = 0
    for _ in range(tensors):
        reader.string()
        elements = 1
        for _ in range(reader.count(4, 8, "dimensions")):
            elements *= reader.scalar(10)
        kind = reader.scalar(4)
        offset = reader.scalar(10)
        if kind not in TENSOR_TYPES:
            raise CheckpointError(f"{reader.name} has a tensor of unknown type {kind}")
        label, block, width = TENSOR_TYPES[kind]
        parameters[label] = parameters.get(label, 0) + elements
        end = max(end, offset + -(-elements // block) * width)
    if not parameters:
        raise CheckpointError(f"{reader.name} holds no tensors")
    alignment = int(values.get("general.alignment", 32))
    start = -(-reader.position // alignment) * alignment
    if start + end > reader.size:
        raise CheckpointError(
            f"{reader.name} is truncated: it has {reader.size} bytes and its tensors end at"
            f" {start + end}\n  → fetch the checkpoint again"
        )
    return Gguf(
        architecture=str(values.get("general.architecture", "")),
        name=str(values.get("general.name", "")) or "unnamed",
        tensors=tensors,
        parameters=sum(parameters.values()),
        precision=max(parameters, key=lambda label: parameters[label]),
    )


class Reader:
    """Reads little-endian values and never past the end of the file."""

    def __init__(self, file: BinaryIO, size: int, name: str) -> None:
        self.file = file
        self.size = size
        self.name = name
        self.position = 0

    def take(self, length: int) -> bytes:
        """Exactly `length` bytes."""
        data = self.file.read(length) if length <= self.size - self.position else b""
        if len(data) != length:
            raise CheckpointError(
                f"{self.name} is truncated: its header goes on after byte {self.size}\n"
                "  → fetch the checkpoint again"
            )
        self.position += length
        return data

    def scalar(self, kind: int) -> Any:
        """One number or truth value."""
        layout = SCALARS[kind]
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def count(self, kind: int, limit: int, what: str) -> int:
        """A number of things to follow, refused if it is absurd."""
        value = int(self.scalar(kind))
        if value > limit:
            raise CheckpointError(f"{self.name} is damaged: it claims to have {value} {what}")
        return value

    def string(self) -> str:
        """A length and UTF-8."""
        length = self.count(10, MAX_STRING_BYTES, "bytes in one string")
        return self.take(length).decode(errors="replace")

    def value(self, kind: int) -> Any:
        """A metadata value; of an array only its length."""
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            return self._skip_array()
        if kind not in SCALARS:
            raise CheckpointError(f"{self.name} is damaged: metadata of unknown type {kind}")
        return self.scalar(kind)

    def _skip_array(self) -> int:
        kind = self.scalar(4)
        length = self.count(10, MAX_ARRAY, "array items")
        if kind in SCALARS:
            self.take(length * struct.calcsize(SCALARS[kind]))
        elif kind == STRING:
            for _ in range(length):
                self.string()
        else:
            raise CheckpointError(f"{self.name} is damaged: an array of type {kind}")
        return length


def convert(weights: Path, work: Path) -> None:
    """Let OpenVINO write its IR beside a link to the weights: it writes where it reads."""
    import openvino_genai

    link = work / "model.gguf"
    try:
        link.hardlink_to(weights.resolve())
    except OSError:  # another file system, or hard links are forbidden there
        link.symlink_to(weights.resolve())
    openvino_genai.LLMPipeline(str(link), "CPU", enable_save_ov_model=True)
    link.unlink()
    missing = [name for name in EXPECTED if not (work / name).is_file()]
    if missing:
        raise RuntimeError(f"it returned without an error and did not write {', '.join(missing)}")


def engine_facts(header: Gguf, weights: Path) -> dict[str, Any]:
    """The content of engine.json."""
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    packages = ("openvino", "openvino-genai", "openvino-tokenizers")
    return {
        "schema_version": 1,
        "builder": "openvino",
        "runtime": {name: metadata.version(name) for name in packages},
        "precision": {"asked": "as-is", "found": header.precision},
        "model": {
            "name": header.name,
            "architecture": header.architecture,
            "parameters": header.parameters,
            "sha256": digest,
        },
    }


if __name__ == "__main__":
    code = main()
    # OpenVINO's threads may still run: leave without waiting for them, but lose no output.
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(code)
