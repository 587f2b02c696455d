r"""Convert or quantise a checkpoint for TensorRT-LLM and see what came out: inside NVIDIA's image.

    python3 tensorrt_llm_convert.py --output DIR --algorithm FP8 --calibration FILE \
        --dataset calibration -- COMMAND…

COMMAND is the image's own convert_checkpoint.py or quantize.py, which writes DIR. Afterwards the
quant_algo of DIR must be what was asked for (`none`: not quantised). Standard library only, of
Python 3.10 on. Exit code 3: another precision came out. 5: the script failed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CONFIGURATION_ERROR = 3
STEP_FAILED = 5
TIMEOUT_S = 6 * 3600
MAX_JSON_BYTES = 16 * 1024 * 1024


class ConversionError(Exception):
    """What came out is not what was asked for."""


def main(argv: list[str] | None = None) -> int:
    """Convert and return the exit code."""
    parser = argparse.ArgumentParser(description="Convert a checkpoint for TensorRT-LLM.")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--algorithm", required=True)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args(argv)
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
    """The calibration texts as a local data set with a column `text`, as quantize.py reads one."""
    folder.mkdir(exist_ok=True)
    lines = calibration.read_text(encoding="utf-8").splitlines()
    texts = [json.dumps({"text": json.loads(line)["article"]}) for line in lines]
    (folder / "train.jsonl").write_text("\n".join(texts) + "\n", encoding="utf-8")


def check(checkpoint: Path, algorithm: str) -> None:
    """Hold the quant_algo of a checkpoint, in either of its forms, against what was asked for."""
    found = quant_algo(checkpoint)
    if found != algorithm:
        raise ConversionError(
            f"the checkpoint's quant_algo is {found}, {algorithm} was asked for\n"
            "  → see the script's log above: it may skip a precision without failing"
        )


def quant_algo(checkpoint: Path) -> str:
    """From hf_quant_config.json, else from the config.json TensorRT-LLM writes; `none`: none."""
    claimed = checkpoint / "hf_quant_config.json"
    document = read_json(claimed if claimed.is_file() else checkpoint / "config.json")
    return str((document.get("quantization") or {}).get("quant_algo") or "none")


def read_json(path: Path) -> dict[str, Any]:
    """A small JSON document."""
    try:
        with path.open("rb") as file:
            document: dict[str, Any] = json.loads(file.read(MAX_JSON_BYTES))
    except (OSError, ValueError) as error:
        raise ConversionError(f"{path.name} cannot be read: {error}") from None
    return document


if __name__ == "__main__":
    sys.exit(main())
