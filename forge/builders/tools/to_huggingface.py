"""Turn a GGUF checkpoint into a Hugging Face one: run inside the tool environment `transformers`.

    python to_huggingface.py --checkpoint DIR --output DIR [--architecture NAME]

    OUTPUT/config.json  OUTPUT/model.safetensors  OUTPUT/tokenizer.json  …     fp16

A checkpoint that is a Hugging Face folder already is passed on byte for byte, but for one thing:
transformers 5 writes `rope_parameters` where transformers 4 reads `rope_theta`, and what finds
neither silently takes 10000 and makes a model that talks nonsense. So config.json gets both.

Exit code 3: the checkpoint cannot be converted, or is another architecture than was said, and why.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

CONFIG = "config.json"
CONFIGURATION_ERROR = 3
MAX_CONFIG_BYTES = 16 * 1024 * 1024


class CheckpointError(Exception):
    """The checkpoint cannot be converted."""


def main(argv: list[str] | None = None) -> int:
    """Convert and return the exit code."""
    parser = argparse.ArgumentParser(description="Turn a GGUF checkpoint into a Hugging Face one.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--architecture", help="what the model must be, e.g. llama")
    arguments = parser.parse_args(argv)
    try:
        if (arguments.checkpoint / CONFIG).is_file():
            pass_on(arguments.checkpoint, arguments.output)
        else:
            convert(find_gguf(arguments.checkpoint), arguments.output)
        config = read_config(arguments.output)
        check_architecture(config, arguments.architecture)
        write_both_spellings(config, arguments.output / CONFIG)
    except CheckpointError as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    return 0


def find_gguf(checkpoint: Path) -> Path:
    """The one GGUF file of a checkpoint."""
    found = sorted(checkpoint.rglob("*.gguf"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise CheckpointError(
            f"the checkpoint is neither a Hugging Face folder nor one GGUF file (found: {names})\n"
            "  → choose one file by path= in the checkpoint's URL"
        )
    return found[0]


def pass_on(checkpoint: Path, output: Path) -> None:
    """Hard-link (or copy) every file, so that equal bytes stop the rebuild here."""
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file():
            target = output / path.relative_to(checkpoint)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path.resolve(), target)
            except OSError:
                shutil.copyfile(path, target)


def convert(weights: Path, output: Path) -> None:
    """Read the GGUF file's weights and tokenizer, write them as fp16 safetensors."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name = str(weights.parent), weights.name
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float16)
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{name} cannot be read by transformers: {error}") from None
    # The weights are fp16 from here on; else the config would still claim GGUF's quantisation.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    for path in output.iterdir():
        path.chmod(0o644)  # safetensors' is 0600


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a Hugging Face folder. Raises CheckpointError."""
    path = folder / CONFIG
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise CheckpointError(f"config.json is larger than {MAX_CONFIG_BYTES} bytes")
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"config.json is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise CheckpointError("config.json does not hold an object")
    return config


def check_architecture(config: dict[str, Any], wanted: str | None) -> None:
    """Hold `model_type` against what was planned with."""
    found = config.get("model_type")
    if wanted is not None and found != wanted:
        raise CheckpointError(
            f"the checkpoint is a {found!r} model, its URL says {wanted!r}\n"
            "  → forge checkpoint pin URL prints the right one"
        )


def write_both_spellings(config: dict[str, Any], path: Path) -> None:
    """Add `rope_theta` and `rope_scaling` where only `rope_parameters` says them."""
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict) or "rope_theta" not in rope or "rope_theta" in config:
        return
    config["rope_theta"] = rope["rope_theta"]
    if rope.get("rope_type", "default") != "default":
        config["rope_scaling"] = {name: rope[name] for name in rope if name != "rope_theta"}
    path.unlink()  # it may be a hard link to the checkpoint's own file
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
