"""Convert a checkpoint to a complete Hugging Face folder. Runs in the environment `transformers`.

    python to_huggingface.py --checkpoint DIR --output DIR [--architecture NAME]

    OUTPUT/config.json  OUTPUT/model.safetensors  OUTPUT/tokenizer.json  …

A GGUF file, or all parts of one, becomes fp16 (bf16 where its weights are). A Hugging Face folder
is passed on byte for byte, with two exceptions: config.json gets the names of transformers 4 in
addition to those of transformers 5, and tokenizer.json is made where there is only a
tokenizer.model.

Nothing is lost: each field of the model, each tensor and each key is used or named in a refusal.
OUTPUT is complete, without NaN and infinity, and says what its tokenizer is.

Exit code 3: the checkpoint cannot be converted, or has another architecture than expected.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import room
from cast_check import CastError, check_tensors
from config_spellings import ConflictError, both_spellings
from huggingface_folder import (
    CONFIG,
    PIECES,
    TOKENIZER,
    CheckpointError,
    check_architecture,
    check_config,
    check_kind,
    check_tokenizer,
    read_config,
)
from safetensors_file import SafetensorsError, read_folder
from sentencepiece_model import convert as convert_pieces
from understood import FAMILIES, UnsupportedError, check

CONFIGURATION_ERROR = 3
# Measured: docs/reference/builders.md. Of a GGUF file for each MiB of its weights in 16 bits, which
# are written one tensor after the other; a folder is linked, or copied to another file system.
ROOM = {
    "folder": room.Room(memory_mib=700, disk=1.0),
    "GGUF": room.Room(memory_mib=900, memory=1.5, disk=1.0),
}
BYTES = 2  # of a weight in 16 bits


def main(argv: list[str] | None = None) -> int:
    """Convert and return the exit code."""
    parser = argparse.ArgumentParser(description="Turn a checkpoint into a Hugging Face one.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--architecture", help="expected architecture, e.g. llama")
    arguments = parser.parse_args(argv)
    checkpoint, output = arguments.checkpoint, arguments.output
    try:
        check_kind(checkpoint)
        if (checkpoint / CONFIG).is_file():
            take_folder(checkpoint, output, arguments.architecture)
        else:
            take_gguf(checkpoint, output, arguments.architecture)
    except room.NoRoomError as error:
        return int(room.refuse(error))
    except UnsupportedError as error:
        return refuse(f"Forge does not support {error}")
    except CastError as error:
        return refuse(f"{error}\n  → use weights without such values")
    except (CheckpointError, SafetensorsError) as error:
        return refuse(str(error))
    except ConflictError as error:
        return refuse(f"config.json contradicts itself: {error}")
    return 0


def refuse(what: str) -> int:
    """Write an error message and return its exit code."""
    sys.stderr.write(f"Error: {what}\n")
    return CONFIGURATION_ERROR


def take_folder(checkpoint: Path, output: Path, architecture: str | None) -> None:
    """Check a Hugging Face folder and pass it on. Raises one of the errors that `main` handles."""
    config = read_config(checkpoint)
    check_architecture(config, architecture)
    check_config(config)
    check(config, "transformers")
    spelled = both_spellings(config)
    check_tokenizer(checkpoint)
    tensors = read_folder(checkpoint)
    copied = 0 if room.links(checkpoint, output) else room.weights_mib(checkpoint)
    room.require(ROOM["folder"], "checking and passing on the checkpoint", output, copied)

    from complete_weights import check_complete, check_fields

    if config["model_type"] not in FAMILIES:
        check_fields(config)
    check_complete(checkpoint, config, tensors)
    check_tensors(tensors.values(), None)
    pass_on(checkpoint, output)
    if not (checkpoint / TOKENIZER).is_file():
        convert_pieces(checkpoint / PIECES, output)
    write_config(config, spelled, output / CONFIG)


def take_gguf(checkpoint: Path, output: Path, architecture: str | None) -> None:
    """Convert a GGUF model. Raises one of the errors that `main` handles."""
    from gguf_checkpoint import parts_of, read, write_folder

    files = sorted(checkpoint.rglob("*.gguf"))
    source = read(parts_of(files))
    check_room(source.tensors.values(), output)
    own = str(source.metadata.get("general.architecture"))
    check_architecture({"model_type": own.replace("-", "_")}, architecture)

    from complete_weights import check_complete, class_names

    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".convert-", dir=output.parent) as name:
        work = Path(name)
        write_folder(source, class_names(), work)
        config = read_config(work)
        check(config, "transformers")
        check_complete(work, config, read_folder(work))
        check_tokenizer_loads(work)
        for path in sorted(work.iterdir()):
            shutil.move(path, output / path.name)


def check_room(tensors: Collection[Any], output: Path) -> None:
    """Raise NoRoomError if the machine has too little memory or disk for a GGUF file's tensors."""
    weights = BYTES * sum(int(one.n_elements) for one in tensors) / room.MIB
    what = f"converting a GGUF file to {weights:.0f} MiB of weights in 16 bits"
    room.require(ROOM["GGUF"], what, output, weights)


def check_tokenizer_loads(folder: Path) -> None:
    """Raise CheckpointError for a vocabulary that is not one, e.g. merges of missing tokens."""
    from tokenizers import Tokenizer

    try:
        Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception as error:  # noqa: BLE001 - tokenizers raises the bare class
        raise CheckpointError(f"the vocabulary of the GGUF file is damaged: {error}") from None


def pass_on(checkpoint: Path, output: Path) -> None:
    """Hard-link (or copy) every file, so that the output equals the input."""
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file():
            target = output / path.relative_to(checkpoint)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path.resolve(), target)
            except OSError:
                shutil.copyfile(path, target)


def write_config(before: Mapping[str, Any], after: Mapping[str, Any], path: Path) -> None:
    """Write config.json again if it got more names."""
    if before == after:
        return
    path.unlink()  # it may be a hard link to the checkpoint's own file
    path.write_text(json.dumps(after, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
