"""Export a Hugging Face checkpoint to ONNX with a KV cache. Runs in the tool environment `optimum`.

    python to_onnx.py --checkpoint DIR --settings settings.json --output DIR

    OUTPUT/model.onnx               input_ids, attention_mask, position_ids, past_key_values.*
                                    → logits, present.*   (opset 18)
    OUTPUT/model.onnx_data          the weights
    OUTPUT/config.json  OUTPUT/generation_config.json
    OUTPUT/tokenizer.json  …        copied from the checkpoint
    OUTPUT/export.json              requested and actual precision, parameters, exact versions

The output is independent of the device: it is compiled for every SKU. Exit code 3: the checkpoint
cannot be exported, or the output has another precision. 5: the exporter failed. OUTPUT is written
only if everything succeeds.
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

import room
from cast_check import CastError, check_tensors
from config_spellings import ConflictError, both_spellings
from huggingface_folder import CheckpointError, read_config
from onnx_graph import ExportError
from safetensors_file import SafetensorsError, read_folder
from understood import UnsupportedError, check

CONFIGURATION_ERROR = 3
STEP_FAILED = 5
OPSET = 18
# Attention that has no soft-capping in its fused form: computed step by step.
ATTENTION = {"gemma2": "eager"}
MAX_SETTINGS_BYTES = 1024 * 1024

MODEL = "model.onnx"
FACTS = "export.json"
# Tokenizer files for the server; the first one is required.
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
)
PRECISIONS = {"fp16": "FLOAT16"}  # name of a precision in Forge → ONNX's name of the type
# Peak memory, measured with llama models of 257 and 584 MiB in fp16: 1,126 and 1,444 MiB, of which
# torch, transformers and optimum are 758. Of the second one's weights in bf16 (584 MiB) 1,936 MiB
# and in fp32 (1,168 MiB) 2,519 MiB: the file is mapped, and its copy in fp16 is added.
ROOM = {
    "mapped": room.Room(memory_mib=900, memory=1.2, disk=1.0),
    "cast": room.Room(memory_mib=900, memory=2.0, disk=1.0),
}
TOOLS = ("optimum-onnx", "transformers", "torch", "onnx")


def main(argv: list[str] | None = None) -> int:
    """Export and return the exit code."""
    parser = argparse.ArgumentParser(description="Export a Hugging Face checkpoint as ONNX.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        precision = requested_precision(arguments.settings)
        check_headers(arguments.checkpoint)
        check_room(arguments.checkpoint, arguments.output)
        check_tensors(read_folder(arguments.checkpoint).values(), "F16")
        convert(arguments.checkpoint, precision, arguments.output)
    except UnsupportedError as error:
        sys.stderr.write(f"Error: Forge does not support {error}\n")
        return CONFIGURATION_ERROR
    except CastError as error:
        sys.stderr.write(f"Error: {error}\n  → choose a builder that computes in bf16\n")
        return CONFIGURATION_ERROR
    except room.NoRoomError as error:
        return int(room.refuse(error))
    except (CheckpointError, SafetensorsError, ExportError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    except Exception as error:  # noqa: BLE001
        # torch, transformers and optimum fail in any way on what they were not written for.
        sys.stderr.write(f"Error: the exporter failed: {str(error).strip()}\n")
        return STEP_FAILED
    return 0


def requested_precision(settings: Path) -> str:
    """Return `precision` of the settings file."""
    try:
        if settings.stat().st_size > MAX_SETTINGS_BYTES:
            raise CheckpointError(f"{settings.name} is larger than {MAX_SETTINGS_BYTES} bytes")
        precision = json.loads(settings.read_bytes())["precision"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{settings.name} is not a valid settings file: {error}") from None
    if precision not in PRECISIONS:
        raise CheckpointError(f"precision {precision!r} is not supported: use fp16")
    return str(precision)


def check_headers(checkpoint: Path) -> None:
    """Check what the export reads before the weights are read.

    Raises:
        CheckpointError: no complete Hugging Face folder, or without what transformers 4 reads.
        UnsupportedError: a field or family whose graph would compute something else.
    """
    for name in ("config.json", TOKENIZER[0]):
        if not (checkpoint / name).is_file():
            raise CheckpointError(f"the checkpoint has no {name}: it is not a Hugging Face folder")
    config = read_config(checkpoint)
    try:
        complete = both_spellings(config) == config
    except ConflictError as error:
        raise CheckpointError(f"config.json contradicts itself: {error}") from None
    if not complete:
        # transformers 4 would silently use its default, and the model would output nonsense.
        missing = sorted(both_spellings(config).keys() - config.keys())
        raise CheckpointError(
            f"config.json has no {', '.join(missing)}, which transformers 4 reads\n"
            "  → use the output of step `huggingface`, which writes both spellings"
        )
    check(config, "onnx")


def check_room(checkpoint: Path, output: Path) -> None:
    """Raise NoRoomError if the machine has too little memory or disk."""
    weights = room.weights_mib(checkpoint)
    cast = any(one.dtype != "F16" for one in read_folder(checkpoint).values())
    what = f"exporting {weights} MiB of weights to ONNX"
    room.require(ROOM["cast" if cast else "mapped"], what, output, weights)


def convert(checkpoint: Path, precision: str, output: Path) -> None:
    """Export in a temporary folder, check the result, then fill `output`."""
    from onnx_graph import export

    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=output.parent) as folder:
        work = Path(folder)
        sys.stderr.write(f"exporting to ONNX, opset {OPSET}, {precision}\n")
        model = load(checkpoint)
        export(model, work, OPSET)
        model.config.save_pretrained(work)
        if model.generation_config is not None:
            model.generation_config.save_pretrained(work)
        for path in (found for name in TOKENIZER for found in sorted(checkpoint.glob(name))):
            target = work / path.relative_to(checkpoint)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
        facts = export_facts(work / MODEL, precision)
        (work / FACTS).write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")
        for path in sorted(work.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)
            shutil.move(path, output / path.name)


def load(checkpoint: Path) -> Any:
    """Return the model in fp16. Raises CheckpointError if a weight is missing or surplus."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    attention = ATTENTION.get(read_config(checkpoint)["model_type"])
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        checkpoint,
        dtype=torch.float16,
        attn_implementation=attention,
        low_cpu_mem_usage=True,
        output_loading_info=True,
        trust_remote_code=False,
        local_files_only=True,
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(str(name) for name in info[kind])
        if names:
            what = kind.removesuffix("_keys")
            raise CheckpointError(
                f"transformers {transformers.__version__} finds {what} weights: "
                + ", ".join(names[:8])
            )
    return model


def export_facts(model: Path, requested: str) -> dict[str, Any]:
    """Return the content of export.json. Raises CheckpointError for another precision."""
    import onnx

    graph = onnx.load(str(model), load_external_data=False).graph
    elements: Counter[str] = Counter()
    for tensor in graph.initializer:
        kind = onnx.TensorProto.DataType.Name(tensor.data_type)
        elements[kind] += count(tensor.dims)
    found = most_common(elements)
    if found != PRECISIONS[requested]:
        raise CheckpointError(
            f"expected weights in {requested}, but the exporter wrote {found or 'none'}\n"
            "  → the checkpoint may be quantised already; use the original weights"
        )
    return {
        "schema_version": 1,
        "precision": {"asked": requested, "found": found},
        "parameters": elements[found],
        "opset": OPSET,
        "tools": {name: metadata.version(name) for name in TOOLS},
    }


def most_common(elements: Counter[str]) -> str:
    """Return the type of most weights; empty if there are none."""
    return max(elements, key=lambda kind: elements[kind]) if elements else ""


def count(dims: Any) -> int:
    """Return the number of elements of a tensor."""
    product = 1
    for dim in dims:
        product *= int(dim)
    return product


if __name__ == "__main__":
    sys.exit(main())
