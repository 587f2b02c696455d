"""Make an ONNX graph that ONNX Runtime serves. Runs in the tool environment `optimum`.

    python onnx_runtime_engine.py --checkpoint DIR --settings settings.json --output DIR

    OUTPUT/model.onnx        the graph; fp32: every fp16 tensor and operator is fp32
    OUTPUT/model.onnx_data   its weights, in the order of the graph
    OUTPUT/tokenizer.json …  tokenizer, chat template and generation settings, unchanged
    OUTPUT/engine.json       description, and the exact runtime that it requires

fp32 is for GPUs whose fp16 arithmetic is slow: compute capability 6.1 computes 2 fp16 operations in
a cycle and multiprocessor, and 128 in fp32 (CUDA C++ Programming Guide, "Throughput of Native
Arithmetic Instructions"). The weights are those of the fp16 graph, exactly: each fp16 number is an
fp32 number. Weights are read and written one by one.

Exit code 3: the graph or the settings are not supported. 5: reading or writing failed. OUTPUT is
written only if everything succeeds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import room

CONFIGURATION_ERROR = 3
STEP_FAILED = 5
MAX_SETTINGS_BYTES = 1024 * 1024
MAX_CONFIG_BYTES = 16 * 1024 * 1024

MODEL = "model.onnx"
DATA = "model.onnx_data"
COPIED = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
)
# Name of a precision in Forge → ONNX's name of the type.
PRECISIONS = {"fp32": "FLOAT", "fp16": "FLOAT16"}
# Attributes of ONNX's operators that name a type: Cast has `to`, EyeLike and Random… have `dtype`.
TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")
INLINE_BYTES = 1024  # smaller tensors stay in model.onnx: shape inference reads them
ALIGNMENT = 4096  # so that the runtime can map each of them
REQUIRED = ("input_ids", "attention_mask")
# Measured with SmolLM2: 205 MiB. One weight at a time is held in both types; its largest one has 54
# MiB in fp16.
ROOM = {
    "fp32": room.Room(memory_mib=128, disk=2.0),
    "fp16": room.Room(memory_mib=128, disk=1.0),
}
OF_LARGEST = 3


class CheckpointError(Exception):
    """The graph or the settings are not supported."""


@dataclass(frozen=True)
class Settings:
    """The settings of the step."""

    precision: str
    runtime: dict[str, str]  # package → version


def main(argv: list[str] | None = None) -> int:
    """Convert and return the exit code."""
    parser = argparse.ArgumentParser(description="Make an ONNX graph for ONNX Runtime.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        settings = read_settings(arguments.settings)
        check_checkpoint(arguments.checkpoint)
        check_room(arguments.checkpoint, settings.precision, arguments.output)
        convert(arguments.checkpoint, settings, arguments.output)
    except room.NoRoomError as error:
        return int(room.refuse(error))
    except CheckpointError as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    except OSError as error:
        sys.stderr.write(f"Error: the graph could not be read or written: {error}\n")
        return STEP_FAILED
    return 0


def read_settings(path: Path) -> Settings:
    """Read the settings file of the step. Raises CheckpointError."""
    try:
        if path.stat().st_size > MAX_SETTINGS_BYTES:
            raise CheckpointError(f"{path.name} is larger than {MAX_SETTINGS_BYTES} bytes")
        values: Any = json.loads(path.read_bytes())
        precision = str(values["engine"]["precision"])
        runtime = {str(name): str(version) for name, version in values["runtime"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path.name} is not a valid settings file: {error!r}") from None
    if precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise CheckpointError(
            f"engine.precision {precision!r} is not supported\n  → set engine.precision: {known}"
        )
    return Settings(precision, runtime)


def check_checkpoint(checkpoint: Path) -> None:
    """Raise CheckpointError if a required file is missing."""
    for name in (MODEL, "config.json", "tokenizer.json"):
        if not (checkpoint / name).is_file():
            raise CheckpointError(f"the checkpoint has no {name}: it is not an output of step onnx")


def check_room(checkpoint: Path, precision: str, output: Path) -> None:
    """Raise NoRoomError if the machine has too little memory or disk for any graph of this size."""
    weights = room.weights_mib(checkpoint)
    what = f"converting {weights} MiB of weights to {precision}"
    room.require(ROOM[precision], what, output, weights)


def check_largest(graph: Any, precision: str) -> None:
    """Raise NoRoomError if the memory is not enough for the largest weight of the graph."""
    largest = max((2 * math.prod(one.dims) for one in graph.initializer), default=0)
    needed = ROOM[precision].memory_mib + OF_LARGEST * largest // room.MIB
    room.require_memory(needed, "converting the graph, one weight at a time,")


def convert(checkpoint: Path, settings: Settings, output: Path) -> None:
    """Convert in a temporary folder, check the result, then fill `output`."""
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".onnx-runtime-", dir=output.parent) as folder:
        work = Path(folder)
        elements = write_graph(checkpoint, work, settings.precision)
        facts = engine_facts(checkpoint, work, settings, elements)
        (work / "engine.json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")
        for path in (found for name in COPIED for found in sorted(checkpoint.glob(name))):
            target = work / path.relative_to(checkpoint)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
        for path in sorted(work.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)
            shutil.move(path, output / path.name)


def write_graph(checkpoint: Path, work: Path, precision: str) -> Counter[str]:
    """Write model.onnx and its weights; return how many weights it has of each type.

    Raises CheckpointError for a graph that cannot be read, has no KV cache or has other weights.
    """
    import onnx

    try:
        document = onnx.load(str(checkpoint / MODEL), load_external_data=False)
    except Exception as error:  # noqa: BLE001 - protobuf's own, which has no public name
        raise CheckpointError(f"{MODEL} is not a valid ONNX graph: {error}") from None
    check_graph(document.graph)
    check_largest(document.graph, precision)
    widen = precision == "fp32"
    for graph in graphs(document):
        if widen:
            widen_types(graph)
        for node in graph.node:
            convert_attributes(node, checkpoint, widen=widen)
    elements: Counter[str] = Counter()
    with (work / DATA).open("wb") as file:
        for graph in graphs(document):
            for tensor in graph.initializer:
                values = read_tensor(tensor, checkpoint, widen=widen)
                write_tensor(file, tensor, values)
                elements[onnx.TensorProto.DataType.Name(tensor.data_type)] += math.prod(tensor.dims)
    onnx.save(document, str(work / MODEL))
    check_result(document, work / MODEL, elements, precision)
    return elements


def check_graph(graph: Any) -> None:
    """Raise CheckpointError unless the graph is a decoder with a KV cache."""
    inputs = {one.name for one in graph.input}
    missing = [name for name in REQUIRED if name not in inputs]
    if missing or not any(name.startswith("past_key_values.") for name in inputs):
        lacking = ", ".join(missing) or "past_key_values.*"
        raise CheckpointError(
            f"the ONNX graph has no input {lacking}\n"
            "  → this builder supports decoders with a KV cache, as made by step onnx"
        )


def graphs(document: Any) -> Iterator[Any]:
    """Yield the graph and those of its nodes (If, Loop), at any depth."""
    if document.functions:
        names = ", ".join(sorted({one.name for one in document.functions}))
        raise CheckpointError(f"the ONNX graph has functions, which are not supported: {names}")
    waiting = [document.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting.extend(attribute.graphs)
                if attribute.HasField("g"):
                    waiting.append(attribute.g)


def widen_types(graph: Any) -> None:
    """Declare every fp16 input, output and value of a graph as fp32."""
    from onnx import TensorProto

    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT


def convert_attributes(node: Any, checkpoint: Path, *, widen: bool) -> None:
    """Convert constants inside a node, and the types that it names."""
    from onnx import TensorProto

    for attribute in node.attribute:
        names_type = attribute.name in TYPE_ATTRIBUTES and attribute.i == TensorProto.FLOAT16
        if widen and names_type:
            attribute.i = TensorProto.FLOAT
        tensors = [attribute.t] if attribute.HasField("t") else []
        for tensor in (*tensors, *attribute.tensors):
            replace_content(tensor, read_tensor(tensor, checkpoint, widen=widen))


def read_tensor(tensor: Any, checkpoint: Path, *, widen: bool) -> np.ndarray:
    """Return a tensor's values. Raises CheckpointError for external data outside the folder."""
    import onnx

    try:
        if tensor.data_location == tensor.EXTERNAL:
            values = read_outside(tensor, checkpoint)
        else:
            values = np.asarray(onnx.numpy_helper.to_array(tensor))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"weight {tensor.name!r} cannot be read: {error}") from None
    return values.astype(np.float32) if widen and values.dtype == np.float16 else values


def read_outside(tensor: Any, checkpoint: Path) -> np.ndarray:
    """Return values that are in a file next to the graph. Raises OSError, ValueError.

    onnx's own reader refuses files with several hard links, which a step's inputs may have.
    """
    import onnx

    place = {one.key: one.value for one in tensor.external_data}
    name, count = place.get("location", ""), math.prod(tensor.dims)
    if not name or Path(name).name != name:
        raise ValueError(f"its file {name!r} is not next to {MODEL}")
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    if dtype.kind not in "biuf":  # others are not stored as numpy holds them
        raise ValueError(f"its type {dtype} is not supported")
    offset = int(place.get("offset", 0))
    values = np.fromfile(checkpoint / name, dtype.newbyteorder("<"), count, offset=offset)
    if values.size != count or int(place.get("length", values.nbytes)) != values.nbytes:
        raise ValueError(f"its part of {name} has another size")
    return values.reshape(tuple(tensor.dims)).astype(dtype, copy=False)


def replace_content(tensor: Any, values: np.ndarray) -> None:
    """Put values into a tensor itself."""
    import onnx

    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def write_tensor(file: BinaryIO, tensor: Any, values: np.ndarray) -> None:
    """Put values into a tensor, or behind the others in the file of the weights."""
    import onnx

    if values.nbytes < INLINE_BYTES:
        replace_content(tensor, values)
        return
    if values.dtype.kind not in "biuf":  # others are not stored as numpy holds them
        raise CheckpointError(f"weight {tensor.name!r} has an unsupported type, {values.dtype}")
    file.write(bytes(-file.tell() % ALIGNMENT))
    place = {"location": DATA, "offset": file.tell(), "length": values.nbytes}
    file.write(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).data)
    kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
    outside = onnx.TensorProto.EXTERNAL
    tensor.CopyFrom(
        onnx.TensorProto(name=tensor.name, dims=values.shape, data_type=kind, data_location=outside)
    )
    for key, value in place.items():
        tensor.external_data.add(key=key, value=str(value))


def check_result(document: Any, model: Path, elements: Counter[str], precision: str) -> None:
    """Check the written graph: valid, of one type, and with weights of the requested one."""
    import onnx

    found = max(elements, key=lambda kind: elements[kind]) if elements else "none"
    if found != PRECISIONS[precision]:
        raise CheckpointError(
            f"engine.precision is {precision}, but the graph's weights are {found}\n"
            "  → use the output of step onnx, which is fp16"
        )
    try:
        # With inference of all types: a node that was left in fp16 is not valid.
        onnx.checker.check_model(str(model), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise CheckpointError(f"the graph is not valid in {precision}: {error}") from None
    for graph in graphs(document) if precision == "fp32" else ():
        left = [node.name for node in graph.node if makes_fp16(node)]
        if left:
            raise CheckpointError(f"nodes still compute in fp16: {', '.join(left[:5])}")


def makes_fp16(node: Any) -> bool:
    """Return whether a node names fp16 as its type, or holds a constant of it."""
    from onnx import TensorProto

    return any(
        (one.name in TYPE_ATTRIBUTES and one.i == TensorProto.FLOAT16)
        or (one.HasField("t") and one.t.data_type == TensorProto.FLOAT16)
        for one in node.attribute
    )


def engine_facts(
    checkpoint: Path, work: Path, settings: Settings, elements: Counter[str]
) -> dict[str, Any]:
    """Return the content of engine.json."""
    config_file = checkpoint / "config.json"
    if config_file.stat().st_size > MAX_CONFIG_BYTES:
        raise CheckpointError(f"config.json is larger than {MAX_CONFIG_BYTES} bytes")
    config = json.loads(config_file.read_bytes())
    kind = PRECISIONS[settings.precision]
    return {
        "schema_version": 1,
        "builder": "onnx-runtime",
        "runtime": settings.runtime,
        "precision": {"asked": settings.precision, "found": kind},
        "model": {
            "name": str(config.get("_model_name_or_path") or "unnamed"),
            "architecture": str(config.get("model_type", "")),
            "parameters": elements[kind],
            "sha256": digest(work),
        },
    }


def digest(folder: Path) -> str:
    """Return the SHA-256 of `sha256sum` lines of model.onnx and its weights."""
    lines = []
    for path in (folder / MODEL, folder / DATA):
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
