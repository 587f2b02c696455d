r"""Convert or quantise a checkpoint for TensorRT-LLM and verify it. Runs in NVIDIA's image.

    python3 tensorrt_llm_convert.py --checkpoint DIR --architectures llama,qwen3 --output DIR \
        --algorithm FP8 --calibration FILE --dataset calibration -- COMMAND…

COMMAND is convert_checkpoint.py or quantize.py of the image, which writes DIR. The quant_algo of
DIR must be the requested one (`none`: not quantised). Standard library only, Python 3.10 or newer.
Exit code 3: the checkpoint has another precision. 5: the script failed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import room
from checkpoint_check import UnsupportedModelError, check_model

CONFIGURATION_ERROR = 3
STEP_FAILED = 5
TIMEOUT_S = 6 * 3600
MAX_JSON_BYTES = 16 * 1024 * 1024
# Never run: what modelopt_quantise.py takes in float32, which does the same work.
ROOM = room.Room(memory_mib=700, memory=4.0, disk=1.2)


class ConversionError(Exception):
    """The checkpoint has another precision than requested."""


def main(argv: list[str] | None = None) -> int:
    """Convert and return the exit code."""
    parser = argparse.ArgumentParser(description="Convert a checkpoint for TensorRT-LLM.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--architectures", required=True, help="supported model_type, by commas")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--algorithm", required=True)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args(argv)
    try:
        check_model(arguments.checkpoint, arguments.architectures.split(","))
        weights = room.weights_mib(arguments.checkpoint)
        room.require(ROOM, f"converting {weights} MiB of weights", arguments.output, weights)
    except room.NoRoomError as error:
        return int(room.refuse(error))
    except UnsupportedModelError as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    try:
        write_dataset(arguments.calibration, arguments.dataset)
        done = subprocess.run(arguments.command, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"Error: {error}\n")
        return STEP_FAILED
    if done.returncode:
        sys.stderr.write(f"Error: {arguments.command[1]} ended with code {done.returncode}\n")
        return STEP_FAILED
    try:
        check(arguments.output, arguments.algorithm)
    except ConversionError as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    return 0


def write_dataset(calibration: Path, folder: Path) -> None:
    """Write the calibration texts as a data set with a column `text`, for quantize.py."""
    folder.mkdir(exist_ok=True)
    lines = calibration.read_text(encoding="utf-8").splitlines()
    texts = [json.dumps({"text": json.loads(line)["article"]}) for line in lines]
    (folder / "train.jsonl").write_text("\n".join(texts) + "\n", encoding="utf-8")


def check(checkpoint: Path, algorithm: str) -> None:
    """Check the quant_algo of a checkpoint in either format. Raises ConversionError."""
    found = quant_algo(checkpoint)
    if found != algorithm:
        raise ConversionError(
            f"the checkpoint's quant_algo is {found}, expected {algorithm}\n"
            "  → see the script's log above: it may skip a precision without failing"
        )


def quant_algo(checkpoint: Path) -> str:
    """Return quant_algo from hf_quant_config.json, else from config.json; `none` if not set."""
    claimed = checkpoint / "hf_quant_config.json"
    document = read_json(claimed if claimed.is_file() else checkpoint / "config.json")
    return str((document.get("quantization") or {}).get("quant_algo") or "none")


def read_json(path: Path) -> dict[str, Any]:
    """Read a small JSON document. Raises ConversionError."""
    try:
        with path.open("rb") as file:
            document: dict[str, Any] = json.loads(file.read(MAX_JSON_BYTES))
    except (OSError, ValueError) as error:
        raise ConversionError(f"{path.name} cannot be read: {error}") from None
    return document


if __name__ == "__main__":
    sys.exit(main())
