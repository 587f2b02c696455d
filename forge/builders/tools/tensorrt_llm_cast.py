r"""Bring a Hugging Face checkpoint into 16 bits of one kind. Tool environment `transformers`.

    python tensorrt_llm_cast.py --checkpoint DIR --output DIR --precision bf16

Files whose tensors have that type already are hard-linked. A value that fp16 cannot hold is refused
by the name of its tensor: fp16 ends at 65,504, bf16 at 3e38. bf16 keeps 8 of 11 bits of a fp16
value; what that costs is in the accuracy receipt.

Exit code 3: a value or a type cannot be cast. 5: a file could not be written.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import modelopt_format
import room
from modelopt_format import FLOATS, FormatError
from modelopt_quantise import check_architecture, link

CONFIGURATION_ERROR = 3
STEP_FAILED = 5
CONFIG = "config.json"
# Measured: docs/reference/builders.md; memory for each MiB of the largest file that is cast, of
# which one after the other is read and held in both types.
ROOM = room.Room(memory_mib=400, memory=2.0, disk=1.0)
TYPES = {"fp16": "float16", "bf16": "bfloat16"}


def main(argv: list[str] | None = None) -> int:
    """Cast and return the exit code."""
    parser = argparse.ArgumentParser(description="Bring a checkpoint into fp16 or bf16.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--precision", choices=sorted(TYPES), required=True)
    parser.add_argument("--architectures", help="supported model_type, by commas; default: any")
    arguments = parser.parse_args(argv)
    try:
        check_architecture(arguments.checkpoint, arguments.architectures)
        cast(arguments.checkpoint, arguments.precision, arguments.output)
    except room.NoRoomError as error:
        return int(room.refuse(error))
    except FormatError as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    except OSError as error:
        sys.stderr.write(f"Error: the checkpoint could not be cast: {error}\n")
        return STEP_FAILED
    return 0


def cast(checkpoint: Path, precision: str, output: Path) -> None:
    """Write the checkpoint. Raises FormatError."""
    tensors = modelopt_format.headers(checkpoint)
    if not tensors:
        raise FormatError("the checkpoint has no *.safetensors")
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS:
            raise FormatError(
                f"tensor {name} is {tensor.dtype}: the checkpoint is quantised already\n"
                "  → use the original in 16 bits"
            )
    other = {one.file for one in tensors.values() if FLOATS[one.dtype] != precision}
    check_room(checkpoint, other, output)
    for path in sorted(checkpoint.rglob("*")):
        name = str(path.relative_to(checkpoint))
        if path.is_file() and name != CONFIG:
            if name in other:
                cast_file(path, precision, output / name)
            else:
                link(path, output / name)
    write_config(modelopt_format.read_json(checkpoint / CONFIG), precision, output / CONFIG)
    if other:
        sys.stderr.write(f"cast {len(other)} files to {precision}\n")


def check_room(checkpoint: Path, other: Collection[str], output: Path) -> None:
    """Raise NoRoomError if the machine has too little memory or disk for the files to be cast."""
    sizes = [(checkpoint / name).stat().st_size / room.MIB for name in other]
    whole = sum(sizes) if room.links(checkpoint, output) else room.weights_mib(checkpoint)
    what = f"casting {sum(sizes):.0f} MiB of weights"
    need = room.Room(ROOM.memory_mib, disk=ROOM.disk)
    room.require(need, what, output, whole, ROOM.memory * max(sizes, default=0))


def cast_file(source: Path, precision: str, target: Path) -> None:
    """Write one file. Raises FormatError for a value that is out of range, or not finite."""
    import torch
    from safetensors.torch import load_file, save_file

    wanted = getattr(torch, TYPES[precision])
    made = {}
    for name, tensor in load_file(source).items():
        if not torch.isfinite(tensor).all():
            raise FormatError(f"tensor {name} has values that are not finite")
        made[name] = tensor.to(wanted)
        if not torch.isfinite(made[name]).all():
            raise FormatError(
                f"tensor {name} has the value {tensor.abs().max().item():.3g}, which {precision}"
                " cannot hold\n  → set engine.precision to bf16"
            )
        if tensor.any() and not made[name].any():
            raise FormatError(f"tensor {name} would be all zero in {precision}")
    save_file(made, target, metadata={"format": "pt"})
    target.chmod(0o644)  # safetensors writes mode 0600


def write_config(config: dict[str, Any], precision: str, path: Path) -> None:
    """Write config.json with the type of the weights."""
    for key in ("dtype", "torch_dtype"):
        if key in config:
            config[key] = TYPES[precision]
    config.setdefault("torch_dtype" if "dtype" not in config else "dtype", TYPES[precision])
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # torch's threads may still run
