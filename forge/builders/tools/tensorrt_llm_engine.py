r"""Make the engine tree of TensorRT-LLM and record the facts that its config.json lacks.

    python3 tensorrt_llm_engine.py --checkpoint DIR --tokenizer DIR --settings FILE --output DIR \
        [-- trtllm-build …]

Without a command, on any machine: the Hugging Face checkpoint for the LLM API (mode llmapi), and an
engine.json with the version of TensorRT-LLM in the profile's image, as far as it is known. With a
command, in NVIDIA's image of TensorRT-LLM 1.2.1 on the target's GPU: engine, tokenizer, and an
engine.json with the SM and the exact versions that the engine requires.

Uses the standard library and, in the image, torch, tensorrt and tensorrt_llm. Exit code 3: GPU or
precision differ from the profile. 5: trtllm-build failed.
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

import modelopt_format
import room
from modelopt_format import ALGORITHMS, FormatError

CONFIGURATION_ERROR = 3
STEP_FAILED = 5
TIMEOUT_S = 6 * 3600
TOKENIZER = (
    "tokenizer*",
    "special_tokens_map.json",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
    "generation_config.json",
)
# Linked, or copied to another file system. Compiled: never run, so what NVIDIA states of Edge-LLM's
# compiler.
ROOM = {
    "llmapi": room.Room(memory_mib=32, disk=1.0),
    "engine": room.Room(memory_mib=700, memory=4.0, disk=1.0),
}
LAST_ENGINE = (1, 2, 1)  # the last release with trtllm-build
REMOVED = "upstream removed trtllm-build and its runtime in June and July 2026"


class EngineError(Exception):
    """The engine cannot be made here, or has another precision."""


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
        settings = modelopt_format.read_json(arguments.settings)
        check_room(arguments.checkpoint, arguments.output, compiled=bool(arguments.command))
        if arguments.command:
            facts = build(arguments.command, settings, arguments.output)
            link_tokenizer(arguments.tokenizer, arguments.output)
        else:
            facts = link_checkpoint(arguments.checkpoint, settings, arguments.output)
    except room.NoRoomError as error:
        return int(room.refuse(error))
    except (EngineError, FormatError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    except (OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"Error: the engine could not be made: {error}\n")
        return STEP_FAILED
    document = {"schema_version": 1, "builder": "tensorrt-llm", **facts}
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    (arguments.output / "engine.json").write_text(text, encoding="utf-8")
    return 0


def check_room(checkpoint: Path, output: Path, *, compiled: bool) -> None:
    """Raise NoRoomError if the machine has too little memory or disk."""
    weights = room.weights_mib(checkpoint)
    if compiled:
        room.require(ROOM["engine"], f"compiling {weights} MiB of weights", output, weights)
        return
    copied = 0 if room.links(checkpoint, output) else weights
    room.require(ROOM["llmapi"], f"taking {weights} MiB of weights", output, copied)


def build(command: list[str], settings: dict[str, Any], output: Path) -> dict[str, Any]:
    """Compile on this machine's GPU, which must be that of the profile."""
    import tensorrt
    import tensorrt_llm
    import torch

    check_release(str(tensorrt_llm.__version__))
    wanted = settings["hardware"]["compute_capability"]
    have = ".".join(map(str, torch.cuda.get_device_capability()))
    if have != wanted:
        raise EngineError(
            f"this runner's GPU has compute capability {have}, the profile requires {wanted}\n"
            "  → trtllm-build compiles for the present GPU: use a runner with the profile's GPU"
        )
    done = subprocess.run(command, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command[0])
    if not (output / "rank0.engine").is_file():
        raise EngineError(f"{command[0]} succeeded but did not write rank0.engine")
    config = modelopt_format.read_json(output / "config.json")
    found = ((config.get("pretrained_config") or {}).get("quantization") or {}).get("quant_algo")
    return {
        "mode": "engine",
        "target": {"compute_capability": have},
        "runtime": {"tensorrt": tensorrt.__version__, "tensorrt-llm": tensorrt_llm.__version__},
        "precision": check_precision(settings, found),
    }


def check_release(version: str) -> None:
    """Raise EngineError for a release without trtllm-build. Only the first numbers are compared."""
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers > LAST_ENGINE[:2]:
        raise EngineError(
            f"this image has TensorRT-LLM {version}, which has no engines: {REMOVED}\n"
            "  → set engine.mode: llmapi"
        )
    sys.stderr.write(f"Warning: mode engine works with TensorRT-LLM 1.2.1 only: {REMOVED}\n")


def link_checkpoint(checkpoint: Path, settings: dict[str, Any], output: Path) -> dict[str, Any]:
    """Link the checkpoint, from which the LLM API makes the engine when it loads."""
    requested = settings["engine"]["precision"]
    algorithm = modelopt_format.quantisation(checkpoint).get("quant_algo")
    if algorithm != ALGORITHMS[requested]:
        raise EngineError(f"expected precision {requested}, but quant_algo is {algorithm}")
    found = modelopt_format.precision_of(checkpoint)
    if found != requested:
        raise EngineError(f"expected precision {requested}, but most of its layers are {found}")
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file():
            link(path, output / path.relative_to(checkpoint))
    return {
        "mode": "llmapi",
        "runtime": settings.get("runtime", {}),
        "precision": {"asked": requested, "found": found},
    }


def check_precision(settings: dict[str, Any], found: str | None) -> dict[str, str]:
    """Raise EngineError unless quant_algo of a compiled engine matches the requested precision."""
    requested = settings["engine"]["precision"]
    if found != ALGORITHMS[requested]:
        raise EngineError(f"expected precision {requested}, but quant_algo is {found}")
    return {"asked": requested, "found": found or requested}


def link_tokenizer(source: Path, output: Path) -> None:
    """Link the tokenizer into a separate folder, since an engine folder has none."""
    for pattern in TOKENIZER:
        for path in sorted(source.glob(pattern)):
            link(path, output / "tokenizer" / path.relative_to(source))
    link(source / "config.json", output / "tokenizer" / "config.json")


def link(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it if links are not possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


if __name__ == "__main__":
    sys.exit(main())
