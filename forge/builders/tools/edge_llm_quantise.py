r"""Quantise a checkpoint for Edge-LLM and verify it. Runs in the environment `edge-llm`.

    python edge_llm_quantise.py --checkpoint DIR --output DIR --quantisation nvfp4 \
        --calibration FILE --architectures llama,qwen3 -- COMMAND…

COMMAND is `tensorrt-edgellm-quantize …`, which writes OUTPUT. Layers that cannot be divided into
blocks are rejected first, because the tool fails on them only at the end, after twenty minutes.
Such tools have exited with 0 without quantising anything, so hf_quant_config.json and the types of
the tensors are checked afterwards. Exit code 3: the checkpoint cannot be quantised in this way, or
was not. 5: the tool failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import edge_llm_model
import room
from checkpoint_check import UnsupportedModelError, check_model

CONFIGURATION_ERROR = 3
STEP_FAILED = 5
TIMEOUT_S = 6 * 3600
MAX_HEADER_BYTES = 256 * 1024 * 1024
MAX_JSON_BYTES = 64 * 1024 * 1024

# Measured: docs/reference/builders.md.
ROOM = room.Room(memory_mib=900, memory=4.0, disk=1.2)
# Quantisation → (quant_algo of hf_quant_config.json, safetensors type of the weights).
# ModelOpt packs two 4-bit values into one U8.
EXPECTED = {
    "nvfp4": ("NVFP4", "U8"),
    "int4_awq": ("W4A16_AWQ", "U8"),
    "fp8": ("FP8", "F8_E4M3"),
}


# Number of values that share one scale; the width of every quantised layer must be a multiple.
BLOCK = {"nvfp4": 16, "int4_awq": 128, "fp8": 1}


class QuantisationError(Exception):
    """The checkpoint cannot be quantised, or has another precision afterwards."""


def main(argv: list[str] | None = None) -> int:
    """Quantise and return the exit code."""
    parser = argparse.ArgumentParser(description="Quantise a checkpoint for Edge-LLM.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--quantisation", choices=sorted(EXPECTED), required=True)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--architectures", required=True, help="supported model_type, by commas")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args(argv)
    try:
        config = check_model(arguments.checkpoint, arguments.architectures.split(","))
        edge_llm_model.check(arguments.checkpoint)
        check_widths(config, arguments.quantisation)
        weights = room.weights_mib(arguments.checkpoint)
        room.require(ROOM, f"quantising {weights} MiB of weights", arguments.output, weights)
        if code := run(arguments.command, arguments.calibration):
            sys.stderr.write(f"Error: {Path(arguments.command[0]).name} ended with code {code}\n")
            return STEP_FAILED
        share = check(arguments.output, arguments.quantisation)
    except room.NoRoomError as error:
        return int(room.refuse(error))
    except (QuantisationError, UnsupportedModelError, edge_llm_model.ModelError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    sys.stderr.write(f"{arguments.quantisation}: {share:.0%} of the weights' bytes\n")
    return 0


def check_widths(config: dict[str, Any], quantisation: str) -> None:
    """Raise QuantisationError if the width of a layer is not a multiple of the block size."""
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    widths = {"hidden_size": hidden, "intermediate_size": config.get("intermediate_size")}
    if hidden and heads:
        head = config.get("head_dim") or hidden // heads
        widths["num_attention_heads * head_dim"] = heads * head
    block = BLOCK[quantisation]
    if wrong := [f"{name} {width}" for name, width in widths.items() if width and width % block]:
        raise QuantisationError(
            f"{quantisation} requires layer widths in multiples of {block}, but this model has"
            f" {', '.join(wrong)}\n  → choose another engine.precision for this model"
        )


def run(command: list[str], calibration: Path) -> int:
    """Run the tool with the calibration texts of a file; return its exit code."""
    with tempfile.TemporaryDirectory(prefix="edge-llm-") as folder:
        environment = os.environ | {
            # With the name of the tool's default data set, the tool does not use the network.
            "EDGELLM_QUANT_DATASET_CNN_DAILYMAIL": str(calibration.resolve()),
            "HF_HOME": folder,
            "CUDA_VISIBLE_DEVICES": "",
        }
        try:
            return subprocess.run(
                command, env=environment, timeout=TIMEOUT_S, check=False
            ).returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            sys.stderr.write(f"Error: {error}\n")
            return STEP_FAILED


def check(checkpoint: Path, quantisation: str) -> float:
    """Check configuration and tensors; return the quantised fraction of the weights' bytes."""
    algorithm, dtype = EXPECTED[quantisation]
    config = read_json(checkpoint / "hf_quant_config.json")
    claimed = (config.get("quantization") or {}).get("quant_algo")
    if claimed != algorithm:
        raise QuantisationError(
            f"quant_algo in hf_quant_config.json is {claimed!r}, expected {algorithm!r} for"
            f" {quantisation}\n"
            "  → the tool did not quantise as requested: see its log above"
        )
    sizes: dict[str, int] = {}
    for path in sorted(checkpoint.glob("*.safetensors")):
        for name, tensor in read_header(path).items():
            if name.endswith(".weight"):
                begin, end = tensor["data_offsets"]
                sizes[tensor["dtype"]] = sizes.get(tensor["dtype"], 0) + end - begin
    if not sizes.get(dtype):
        found = ", ".join(f"{kind} {size} bytes" for kind, size in sorted(sizes.items())) or "none"
        raise QuantisationError(
            f"no weight of the checkpoint is {dtype}, as {quantisation} stores them; found: {found}"
        )
    return sizes[dtype] / sum(sizes.values())


def read_header(path: Path) -> dict[str, Any]:
    """Return the tensors by name from the header of a safetensors file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER_BYTES:
            raise QuantisationError(f"{path.name} is damaged: its header has {length} bytes")
        try:
            header: dict[str, Any] = json.loads(file.read(length))
        except ValueError as error:
            raise QuantisationError(f"{path.name} is damaged: {error}") from None
    header.pop("__metadata__", None)
    return header


def read_json(path: Path) -> dict[str, Any]:
    """Read a small JSON document. Raises QuantisationError."""
    try:
        with path.open("rb") as file:
            document: dict[str, Any] = json.loads(file.read(MAX_JSON_BYTES))
    except (OSError, ValueError) as error:
        raise QuantisationError(f"{path.name} cannot be read: {error}") from None
    return document


if __name__ == "__main__":
    sys.exit(main())
