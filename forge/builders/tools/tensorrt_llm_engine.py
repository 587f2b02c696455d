r"""Make the engine tree of TensorRT-LLM and record what its config.json does not say.

    python3 tensorrt_llm_engine.py --checkpoint DIR --tokenizer DIR --settings FILE --output DIR \
        [-- trtllm-build …]

With a command, inside NVIDIA's image on the target's GPU: engine, tokenizer, and an engine.json
with the SM and the exact TensorRT version, which an engine is bound to and does not name. Without:
the Hugging Face checkpoint for the LLM API (mode llmapi), on any machine.

Standard library, and inside the image torch, tensorrt and tensorrt_llm. Exit code 3: another GPU or
another precision than the profile's. 5: trtllm-build failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

CONFIGURATION_ERROR = 3
STEP_FAILED = 5
TIMEOUT_S = 6 * 3600
MAX_JSON_BYTES = 64 * 1024 * 1024
TOKENIZER = (
    "tokenizer*",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)
ALGORITHMS = {
    "fp16": None,
    "bf16": None,
    "int8": "W8A16",
    "int4": "W4A16_AWQ",
    "fp8": "FP8",
    "nvfp4": "NVFP4",
}


class EngineError(Exception):
    """The engine cannot be made here, or another one came out."""


def main(argv: list[str] | None = None) -> int:
    """Make the tree and return the exit code."""
    parser = argparse.ArgumentParser(description="Make the engine tree of TensorRT-LLM.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("command", nargs="*")
    arguments = parser.parse_args(argv)
    try:
        settings = read_json(arguments.settings)
        if arguments.command:
            facts = build(arguments.command, settings, arguments.output)
            link_tokenizer(arguments.tokenizer, arguments.output)
        else:
            facts = link_checkpoint(arguments.checkpoint, settings, arguments.output)
    except EngineError as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    except (OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"Error: the engine could not be made: {error}\n")
        return STEP_FAILED
    document = {"schema_version": 1, "builder": "tensorrt-llm", **facts}
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    (arguments.output / "engine.json").write_text(text, encoding="utf-8")
    return 0


def build(command: list[str], settings: dict[str, Any], output: Path) -> dict[str, Any]:
    """Compile on this machine's GPU, which must be the profile's."""
    import tensorrt
    import tensorrt_llm
    import torch

    wanted = settings["hardware"]["compute_capability"]
    have = ".".join(map(str, torch.cuda.get_device_capability()))
    if have != wanted:
        raise EngineError(
            f"this runner's GPU has compute capability {have}, the profile wants {wanted}\n"
            "  → trtllm-build compiles for the GPU that is present: use a runner that has it"
        )
    done = subprocess.run(command, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command[0])
    if not (output / "rank0.engine").is_file():
        raise EngineError(f"{command[0]} ended well and wrote no rank0.engine")
    config = read_json(output / "config.json")
    found = ((config.get("pretrained_config") or {}).get("quantization") or {}).get("quant_algo")
    return {
        "mode": "engine",
        "target": {"compute_capability": have},
        "runtime": {"tensorrt": tensorrt.__version__, "tensorrt-llm": tensorrt_llm.__version__},
        "precision": check_precision(settings, found),
    }


def link_checkpoint(checkpoint: Path, settings: dict[str, Any], output: Path) -> dict[str, Any]:
    """The checkpoint as it is: the LLM API makes the engine when it loads it."""
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file():
            link(path, output / path.relative_to(checkpoint))
    claimed = checkpoint / "hf_quant_config.json"
    document = read_json(claimed) if claimed.is_file() else {}
    found = (document.get("quantization") or {}).get("quant_algo")
    return {"mode": "llmapi", "runtime": {}, "precision": check_precision(settings, found)}


def check_precision(settings: dict[str, Any], found: str | None) -> dict[str, str]:
    """Raise EngineError unless the quant_algo is the one of the precision asked for."""
    asked = settings["engine"]["precision"]
    if found != ALGORITHMS[asked]:
        raise EngineError(f"{asked} was asked for and quant_algo is {found}")
    return {"asked": asked, "found": found or asked}


def link_tokenizer(source: Path, output: Path) -> None:
    """An engine folder has no tokenizer: it goes into a folder of its own beside the engine."""
    for pattern in TOKENIZER:
        for path in sorted(source.glob(pattern)):
            link(path, output / "tokenizer" / path.name)
    link(source / "config.json", output / "tokenizer" / "config.json")


def link(source: Path, target: Path) -> None:
    """Hard link, or copy where that is not possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def read_json(path: Path) -> dict[str, Any]:
    """A small JSON document."""
    try:
        with path.open("rb") as file:
            document: dict[str, Any] = json.loads(file.read(MAX_JSON_BYTES))
    except (OSError, ValueError) as error:
        raise EngineError(f"{path.name} cannot be read: {error}") from None
    return document


if __name__ == "__main__":
    sys.exit(main())
