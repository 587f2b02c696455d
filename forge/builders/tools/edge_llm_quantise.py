r"""Quantise a checkpoint for Edge-LLM and see that it was: run inside the environment `edge-llm`.

    python edge_llm_quantise.py --checkpoint DIR --output DIR --quantisation nvfp4 \
        --calibration FILE -- COMMAND…

COMMAND is the real `tensorrt-edgellm-quantize …`, which writes OUTPUT. Layers it cannot cut into
blocks are refused before: it finds that out at the very end, after twenty minutes. Tools of its
kind have exited 0 without quantising anything, so afterwards both what hf_quant_config.json claims
and what the tensors are must be what was asked for. Exit code 3: the checkpoint cannot be quantised
so, or was not. 5: the tool failed.
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

CONFIGURATION_ERROR = 3
STEP_FAILED = 5
TIMEOUT_S = 6 * 3600
MAX_HEADER_BYTES = 256 * 1024 * 1024
MAX_JSON_BYTES = 64 * 1024 * 1024

# Quantisation → (quant_algo of hf_quant_config.json, safetensors type of the weights).
# ModelOpt packs two 4-bit values into one U8.
EXPECTED = {
    "nvfp4": ("NVFP4", "U8"),
    "int4_awq": ("W4A16_AWQ", "U8"),
    "fp8": ("FP8", "F8_E4M3"),
}


# Values that share one scale: the width of every quantised layer must be a multiple.
BLOCK = {"nvfp4": 16, "int4_awq": 128, "fp8": 1}


class QuantisationError(Exception):
    """What came out is not what was asked for."""


def main(argv: list[str] | None = None) -> int:
    """Quantise and return the exit code."""
    parser = argparse.ArgumentParser(description="Quantise a checkpoint for Edge-LLM.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--quantisation", choices=sorted(EXPECTED), required=True)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args(argv)
    try:
        check_widths(read_json(arguments.checkpoint / "config.json"), arguments.quantisation)
        if code := run(arguments.command, arguments.calibration):
            sys.stderr.write(f"Error: {Path(arguments.command[0]).name} ended with code {code}\n")
            return STEP_FAILED
        share = check(arguments.output, arguments.quantisation)
    except QuantisationError as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    sys.stderr.write(f"{arguments.quantisation}: {share:.0%} of the weights' bytes\n")
    return 0


def check_widths(config: dict[str, Any], quantisation: str) -> None:
    """Raise QuantisationError for a model whose layers are no whole number of blocks wide."""
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    widths = {"hidden_size": hidden, "intermediate_size": config.get("intermediate_size")}
    if hidden and heads:
        head = config.get("head_dim") or hidden // heads
        widths["num_attention_heads * head_dim"] = heads * head
    block = BLOCK[quantisation]
    if wrong := [f"{name} {width}" for name, width in widths.items() if width and width % block]:
        raise QuantisationError(
            f"{quantisation} takes layers in blocks of {block}, and this model has"
            f" {', '.join(wrong)}\n  → choose another engine.precision for this model"
        )


def run(command: list[str], calibration: Path) -> int:
    """Run the tool with the calibration texts of this file; returns its exit code."""
    with tempfile.TemporaryDirectory(prefix="edge-llm-") as folder:
        environment = os.environ | {
            # Named after the tool's default data set: with it nothing is looked for in a network.
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
    """Hold claim and tensors against `quantisation`; returns its share of the weights' bytes."""
    algorithm, dtype = EXPECTED[quantisation]
    config = read_json(checkpoint / "hf_quant_config.json")
    claimed = (config.get("quantization") or {}).get("quant_algo")
    if claimed != algorithm:
        raise QuantisationError(
            f"hf_quant_config.json says quant_algo {claimed!r}, {quantisation} is {algorithm!r}\n"
            "  → the tool quantised nothing or something else: see its log above"
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
    """Tensors by name of a safetensors file (its header is a length and JSON)."""
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
    """A small JSON document."""
    try:
        with path.open("rb") as file:
            document: dict[str, Any] = json.loads(file.read(MAX_JSON_BYTES))
    except (OSError, ValueError) as error:
        raise QuantisationError(f"{path.name} cannot be read: {error}") from None
    return document


if __name__ == "__main__":
    sys.exit(main())
