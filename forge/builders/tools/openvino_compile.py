"""Compile a GGUF checkpoint to OpenVINO IR. Runs in the tool environment `openvino`.

    python openvino_compile.py --checkpoint DIR --settings settings.json --output DIR

    OUTPUT/openvino_model.{xml,bin}        the network
    OUTPUT/openvino_tokenizer.{xml,bin}    with the chat template
    OUTPUT/openvino_detokenizer.{xml,bin}
    OUTPUT/generation_config.json          the ids that end an answer
    OUTPUT/engine.json                     description, measured precision, the exact runtime

OpenVINO's reader keeps some types of weights and rounds others again; tensors of the latter are
first written as Q8_0, by package gguf, to a temporary file. A file whose header has something that
the reader ignores is refused by name.

Exit code 3: the checkpoint or the settings cannot be compiled. 4: the machine has too little
memory or disk. 5: the compiler failed. OUTPUT is written only if everything succeeds. This script
does not import Forge, because the tool environment contains only the compiler.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import gguf_header
import gguf_requantise
import openvino_gguf
import openvino_ir
import room
from gguf_header import GgufHeader, GgufTensor
from openvino_ir import CheckpointError

CONFIGURATION_ERROR = 3
STEP_FAILED = 5

# For each MiB of weights as OpenVINO's reader gets them; measured: docs/reference/builders.md. The
# reader holds the weights of the file, those of the graph and the file that it writes.
ROOM = {
    "kept": room.Room(memory_mib=200, memory=3.5, disk=1.0),
    "rewritten": room.Room(memory_mib=200, memory=3.5, disk=2.0),
}

OTHER_WAY = (
    "set engine.precision to fp16, int8 or int4: the file is then converted to a Hugging Face"
    " checkpoint first, or use a Hugging Face checkpoint of the same model"
)


def main(argv: list[str] | None = None) -> int:
    """Compile and return the exit code."""
    parser = argparse.ArgumentParser(description="Compile a GGUF checkpoint to OpenVINO IR.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        compile_checkpoint(arguments.checkpoint, arguments.settings, arguments.output)
    except room.NoRoomError as error:
        return int(room.refuse(error))
    except (CheckpointError, gguf_header.GgufError, gguf_requantise.RequantiseError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    except OSError as error:
        sys.stderr.write(f"Error: the compiler could not read or write: {error}\n")
        return STEP_FAILED
    except (RuntimeError, IndexError) as error:  # OpenVINO raises these for all failures
        sys.stderr.write(f"Error: OpenVINO failed: {str(error).strip()}\n")
        return STEP_FAILED
    return 0


def compile_checkpoint(checkpoint: Path, settings: Path, output: Path) -> None:
    """Check everything first, compile in a temporary folder, then fill `output`."""
    header = gguf_header.read_parts(find_weights(checkpoint))
    check_precision(openvino_ir.requested_precision(settings), header)
    check_header(header)
    check_room(header, output)
    changed = openvino_gguf.requantised(header)
    sys.stderr.write(
        f"compiling {header.files[0]}: {header.name}, {header.architecture},"
        f" {header.parameters / 1e6:.0f} M parameters, mostly {header.precision}\n"
    )
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".compile-", dir=output.parent) as folder:
        work = Path(folder)
        take_weights(header, checkpoint, work, changed)
        convert(work)
        openvino_ir.keep_activations(work / openvino_ir.MODEL)
        facts = engine_facts(header, checkpoint, work, changed)
        openvino_ir.write_json(work / openvino_ir.FACTS, facts)
        names = [*openvino_ir.EXPECTED, openvino_ir.FACTS]
        ends = openvino_gguf.end_tokens(header)
        if ends:
            openvino_ir.write_json(work / openvino_ir.GENERATION, generation_config(header, ends))
            names.append(openvino_ir.GENERATION)
        openvino_ir.publish(work, names, output)


def find_weights(checkpoint: Path) -> list[Path]:
    """Return the GGUF files of a checkpoint."""
    found = sorted(checkpoint.glob("*.gguf"))
    if found:
        return found
    if (checkpoint / "config.json").is_file():
        raise CheckpointError(
            "engine.precision is as-is, which compiles GGUF files, but the checkpoint is a Hugging"
            " Face folder\n  → set engine.precision to fp16, int8 or int4"
        )
    raise CheckpointError(f"the checkpoint folder {checkpoint} has no .gguf file")


def check_precision(precision: str, header: GgufHeader) -> None:
    """Raise CheckpointError for another precision than `as-is`."""
    if precision != "as-is":
        raise CheckpointError(
            f"engine.precision is {precision!r}, but {header.files[0]} is already quantised"
            f" ({header.precision}) and is compiled unchanged\n"
            "  → set engine.precision: as-is, or use a Hugging Face checkpoint"
        )


def check_header(header: GgufHeader) -> None:
    """Raise CheckpointError if OpenVINO would make another model of the file."""
    found = openvino_gguf.problems(header)
    if found:
        raise CheckpointError(
            f"OpenVINO's GGUF reader would make another model of {header.files[0]}:"
            f" {openvino_ir.some(found, '; ')}\n  → {OTHER_WAY}"
        )


def check_room(header: GgufHeader, output: Path) -> None:
    """Raise NoRoomError if the machine has too little memory or disk."""
    taken = sum(new_size(one) for one in header.tensors) / room.MIB
    need = ROOM["rewritten" if openvino_gguf.must_be_rewritten(header) else "kept"]
    room.require(need, f"compiling {header.files[0]}", output, taken)


def new_size(tensor: GgufTensor) -> int:
    """Return the bytes of a tensor as OpenVINO's reader gets it."""
    block, width = gguf_requantise.BLOCK_BYTES[kind_of(tensor)]
    return tensor.elements // block * width


def kind_of(tensor: GgufTensor) -> str:
    """Return the type in which OpenVINO's reader gets a tensor."""
    if openvino_gguf.is_kept(tensor.kind, tensor.shape):
        return tensor.kind
    return gguf_requantise.target_kind(tensor)


def take_weights(header: GgufHeader, checkpoint: Path, work: Path, changed: list[str]) -> None:
    """Put one GGUF file that the reader keeps into `work`: OpenVINO writes where it reads."""
    model = work / "model.gguf"
    if openvino_gguf.must_be_rewritten(header):
        if changed:
            sys.stderr.write(f"requantising {', '.join(changed)}\n")
        file_type = openvino_gguf.FILE_TYPE
        gguf_requantise.requantise(header, checkpoint, model, kind_of, file_type)
        return
    weights = (checkpoint / header.files[0]).resolve()
    try:
        model.hardlink_to(weights)
    except OSError:  # another file system, or no permission for hard links
        model.symlink_to(weights)


def convert(work: Path) -> None:
    """Let OpenVINO write the IR next to model.gguf, and delete that."""
    openvino_ir.disable_telemetry()
    import openvino_genai

    model = work / "model.gguf"
    openvino_genai.LLMPipeline(str(model), "CPU", enable_save_ov_model=True)
    model.unlink()
    missing = openvino_ir.missing(work)
    if missing:
        raise RuntimeError(f"it succeeded but did not write {', '.join(missing)}")


def generation_config(header: GgufHeader, ends: list[int]) -> dict[str, Any]:
    """Return the content of generation_config.json: every id that ends an answer."""
    config: dict[str, Any] = {"eos_token_id": ends[0] if len(ends) == 1 else ends}
    for key in ("bos_token_id", "pad_token_id"):
        value = header.values.get(f"tokenizer.ggml.{key.replace('pad_', 'padding_')}")
        if type(value) is int:
            config[key] = value
    return config


def engine_facts(
    header: GgufHeader, checkpoint: Path, work: Path, changed: list[str]
) -> dict[str, Any]:
    """Return the content of engine.json."""
    weights = openvino_ir.weight_bytes(work / openvino_ir.MODEL)
    tensors = [one for one in header.tensors if one.kind in changed]
    into = {
        kind: sorted({kind_of(one) for one in tensors if one.kind == kind} - {kind})
        for kind in changed
    }
    return {
        "schema_version": 1,
        "builder": "openvino",
        "runtime": openvino_ir.runtime(),
        "precision": {
            "asked": "as-is",
            "found": openvino_ir.most(weights),
            "checkpoint": header.precision,
            "requantised": {kind: ", ".join(kinds) for kind, kinds in into.items()},
            "weight_bytes": weights,
        },
        "model": {
            "name": header.name,
            "architecture": header.architecture,
            "parameters": header.parameters,
            "sha256": digest([checkpoint / name for name in header.files]),
        },
    }


def digest(files: list[Path]) -> str:
    """Return the SHA-256 of a file, or of the digests of several, one per line."""
    found: list[str] = []
    for path in files:
        with path.open("rb") as file:
            found.append(hashlib.file_digest(file, "sha256").hexdigest())
    if len(found) == 1:
        return found[0]
    return hashlib.sha256("".join(f"{one}\n" for one in found).encode()).hexdigest()


if __name__ == "__main__":
    code = main()
    # OpenVINO's threads may still run: flush the output and exit without waiting for them.
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(code)
