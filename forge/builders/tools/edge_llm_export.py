r"""Export a checkpoint to ONNX for Edge-LLM and verify it. Runs in the environment `edge-llm`.

    python edge_llm_export.py --checkpoint DIR --export DIR --record DIR --quantisation nvfp4 \
        --sm 110 --architectures llama,qwen3 -- COMMAND…

    EXPORT/llm/{model.onnx, model.onnx.data, embedding.safetensors, config.json, tokenizer…}
    RECORD/export.json    SM, quantisation and exact versions, which EXPORT does not contain

COMMAND is `tensorrt-edgellm-export …`, which writes EXPORT. What it would leave out of the
checkpoint is refused first (edge_llm_model.py). Its `--quantization` exits with 0 and
changes nothing, so the operators of the graph are checked. The record is a separate tree, so that
equal graphs for two SMs are one tree. Exit code 3: the checkpoint cannot be exported, or the graph
has another precision. 5: the tool failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

import edge_llm_model
import room
from checkpoint_check import UnsupportedModelError, check_model

CONFIGURATION_ERROR = 3
STEP_FAILED = 5
TIMEOUT_S = 6 * 3600
MAX_JSON_BYTES = 16 * 1024 * 1024

# Measured: docs/reference/builders.md.
ROOM = room.Room(memory_mib=900, memory=4.0, disk=1.2)
EXPECTED_FILES = (
    "model.onnx",
    "model.onnx.data",
    "embedding.safetensors",
    "config.json",
    "tokenizer.json",
)
# Quantisation → operators that only its graphs contain; one of them must be present.
OPERATORS = {
    "fp16": (),
    "nvfp4": ("trt::TRT_FP4DynamicQuantize",),
    "int4_awq": ("trt_edgellm::Int4GroupwiseGemmPlugin", "trt_edgellm::Int4GroupwiseGemmPluginV2"),
    "fp8": ("ai.onnx::QuantizeLinear",),  # nvfp4 has DequantizeLinear, but not this one
}
PACKAGES = ("tensorrt-edgellm", "torch", "transformers", "onnx", "onnxscript", "nvidia-modelopt")


class ExportError(Exception):
    """The checkpoint cannot be exported, or the graph has another precision."""


def main(argv: list[str] | None = None) -> int:
    """Export and return the exit code."""
    parser = argparse.ArgumentParser(description="Export a checkpoint to ONNX for Edge-LLM.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--export", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--quantisation", choices=sorted(OPERATORS), required=True)
    parser.add_argument("--sm", type=int, required=True)
    parser.add_argument("--architectures", required=True, help="supported model_type, by commas")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args(argv)
    try:
        quantised = arguments.quantisation != "fp16"
        check_model(arguments.checkpoint, arguments.architectures.split(","), quantised=quantised)
        edge_llm_model.check(arguments.checkpoint)
        weights = room.weights_mib(arguments.checkpoint)
        room.require(ROOM, f"exporting {weights} MiB of weights", arguments.export, weights)
        if code := run(arguments.command):
            sys.stderr.write(f"Error: {Path(arguments.command[0]).name} ended with code {code}\n")
            return STEP_FAILED
        found = check(arguments.export / "llm", arguments.quantisation)
        model = read_json(arguments.export / "llm" / "config.json").get("model")
    except room.NoRoomError as error:
        return int(room.refuse(error))
    except (ExportError, UnsupportedModelError, edge_llm_model.ModelError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    record = {
        "schema_version": 1,
        "sm": arguments.sm,
        "quantisation": arguments.quantisation,
        "model": model,
        "operators": dict(sorted(found.items())),
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }
    arguments.record.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    (arguments.record / "export.json").write_text(text, encoding="utf-8")
    sys.stderr.write(f"exported {model} in {arguments.quantisation} for sm_{arguments.sm}\n")
    return 0


def run(command: list[str]) -> int:
    """Run the tool; return its exit code."""
    with tempfile.TemporaryDirectory(prefix="edge-llm-") as folder:
        environment = os.environ | {"HF_HOME": folder, "CUDA_VISIBLE_DEVICES": ""}
        try:
            return subprocess.run(
                command, env=environment, timeout=TIMEOUT_S, check=False
            ).returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            sys.stderr.write(f"Error: {error}\n")
            return STEP_FAILED


def check(folder: Path, quantisation: str) -> Counter[str]:
    """Check that all files exist and the graph has this precision; return its operators."""
    missing = [name for name in EXPECTED_FILES if not (folder / name).is_file()]
    if missing:
        raise ExportError(f"the export does not contain {', '.join(missing)}")
    found = operators(folder / "model.onnx")
    present = {
        name for name, marks in OPERATORS.items() if any(found.get(mark) for mark in marks)
    } or {"fp16"}
    if present != {quantisation}:
        raise ExportError(
            f"expected a graph in {quantisation}, found {' and '.join(sorted(present))}\n"
            "  → quantise the checkpoint first: the exporter's --quantization has no effect"
        )
    return found


def operators(path: Path) -> Counter[str]:
    """Count the operators of a graph that are not standard ONNX, or that (de)quantise."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    return Counter(
        f"{node.domain or 'ai.onnx'}::{node.op_type}"
        for node in graph.node
        if node.domain or "uantize" in node.op_type
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a small JSON document. Raises ExportError."""
    try:
        with path.open("rb") as file:
            document: dict[str, Any] = json.loads(file.read(MAX_JSON_BYTES))
    except (OSError, ValueError) as error:
        raise ExportError(f"{path.name} cannot be read: {error}") from None
    return document


if __name__ == "__main__":
    sys.exit(main())
