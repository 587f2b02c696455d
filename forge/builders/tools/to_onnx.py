"""Export a Hugging Face checkpoint as ONNX with a KV cache: run inside the tool environment `onnx`.

    python to_onnx.py --checkpoint DIR --settings settings.json --output DIR

    OUTPUT/model.onnx               input_ids, attention_mask, position_ids, past_key_values.*
                                    → logits, present.*   (opset 18; weights > 2 GB beside it)
    OUTPUT/config.json  OUTPUT/generation_config.json
    OUTPUT/tokenizer.json  …        the checkpoint's own: the exporter copies none
    OUTPUT/export.json              precision asked for and found, parameters, exact tools

No device stands in it: the same bytes are compiled for every SKU. Exit code 3: the checkpoint
cannot be exported, or what came out has another precision than was asked for, and why. 5: the
exporter failed. Nothing is written to OUTPUT unless everything is there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

CONFIGURATION_ERROR = 3
STEP_FAILED = 5
OPSET = 18
TASK = "text-generation-with-past"
MAX_SETTINGS_BYTES = 1024 * 1024

MODEL = "model.onnx"
FACTS = "export.json"
# What a server needs to turn text into tokens and back; the first is required.
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
PRECISIONS = {"fp16": "FLOAT16"}  # ours → ONNX's name of the type
TOOLS = ("optimum-onnx", "transformers", "torch", "onnx")


class CheckpointError(Exception):
    """The checkpoint or the settings cannot be exported."""


def main(argv: list[str] | None = None) -> int:
    """Export and return the exit code."""
    parser = argparse.ArgumentParser(description="Export a Hugging Face checkpoint as ONNX.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        precision = asked_precision(arguments.settings)
        check_checkpoint(arguments.checkpoint)
        convert(arguments.checkpoint, precision, arguments.output)
    except CheckpointError as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    except (OSError, RuntimeError) as error:
        sys.stderr.write(f"Error: the exporter failed: {str(error).strip()}\n")
        return STEP_FAILED
    return 0


def asked_precision(settings: Path) -> str:
    """`precision` of the settings file."""
    try:
        if settings.stat().st_size > MAX_SETTINGS_BYTES:
            raise CheckpointError(f"{settings.name} is larger than {MAX_SETTINGS_BYTES} bytes")
        precision = json.loads(settings.read_bytes())["precision"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{settings.name} is not the JSON of a step: {error}") from None
    if precision not in PRECISIONS:
        raise CheckpointError(f"precision {precision!r} cannot be exported, only fp16")
    return str(precision)


def check_checkpoint(checkpoint: Path) -> None:
    """A Hugging Face folder with a tokenizer, in the spelling this transformers reads."""
    for name in ("config.json", TOKENIZER[0]):
        if not (checkpoint / name).is_file():
            raise CheckpointError(f"the checkpoint holds no {name}: it is no Hugging Face folder")
    config = json.loads((checkpoint / "config.json").read_bytes())
    if "rope_parameters" in config and "rope_theta" not in config:
        # transformers 4 would take its default without a word, and the model would talk nonsense.
        raise CheckpointError(
            "config.json says rope_parameters and no rope_theta, which transformers 4 reads\n"
            "  → let the step `huggingface` pass the checkpoint on: it writes both"
        )


def convert(checkpoint: Path, precision: str, output: Path) -> None:
    """Export in a temporary folder, check what came out, then fill `output`."""
    from optimum.exporters.onnx import main_export

    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=output.parent) as folder:
        work = Path(folder)
        sys.stderr.write(f"exporting to ONNX, opset {OPSET}, {precision}\n")
        try:
            main_export(
                str(checkpoint),
                work,
                task=TASK,
                opset=OPSET,
                device="cpu",
                dtype=precision,
                local_files_only=True,
                do_constant_folding=False,  # it would write tied weights twice
                do_validation=False,  # against torch on fp16: warns about rounding, whatever it is
            )
        except (ValueError, KeyError, NotImplementedError) as error:
            raise CheckpointError(f"optimum cannot export it: {error}") from None
        for name in TOKENIZER:
            if (checkpoint / name).is_file():
                shutil.copyfile(checkpoint / name, work / name)
        facts = export_facts(work / MODEL, precision)
        (work / FACTS).write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")
        for path in sorted(work.iterdir()):
            path.chmod(0o644)
            shutil.move(path, output / path.name)


def export_facts(model: Path, asked: str) -> dict[str, Any]:
    """The content of export.json. Raises CheckpointError for another precision than asked for."""
    import onnx

    graph = onnx.load(str(model), load_external_data=False).graph
    elements: Counter[str] = Counter()
    for tensor in graph.initializer:
        kind = onnx.TensorProto.DataType.Name(tensor.data_type)
        elements[kind] += count(tensor.dims)
    found = most_common(elements)
    if found != PRECISIONS[asked]:
        raise CheckpointError(
            f"the exporter was asked for {asked} and wrote weights of {found or 'no type at all'}\n"
            "  → the checkpoint may be quantised already; give the original weights"
        )
    return {
        "schema_version": 1,
        "precision": {"asked": asked, "found": found},
        "parameters": elements[found],
        "opset": OPSET,
        "tools": {name: metadata.version(name) for name in TOOLS},
    }


def most_common(elements: Counter[str]) -> str:
    """The type that holds most of the weights; empty where there are none."""
    return max(elements, key=lambda kind: elements[kind]) if elements else ""


def count(dims: Any) -> int:
    """Elements of a tensor."""
    product = 1
    for dim in dims:
        product *= int(dim)
    return product


if __name__ == "__main__":
    sys.exit(main())
