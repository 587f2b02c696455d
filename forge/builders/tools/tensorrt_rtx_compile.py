"""Compile ONNX to a TensorRT for RTX engine. Runs in the tool environment `tensorrt-rtx`.

    python tensorrt_rtx_compile.py --checkpoint DIR --settings settings.json --output DIR

    OUTPUT/model.plan            the engine, only for the GPU in the settings
    OUTPUT/tokenizer.json  …     tokenizer, chat template and generation settings, unchanged
    OUTPUT/engine.json           description, and the exact runtime and GPU that it requires

No GPU is needed: the engine is compiled ahead of time, and its kernels are finished when a device
loads it. It has one optimisation profile, optimised for adding one token to a half-full KV cache;
prompts are processed in chunks of PROMPT_PIECE tokens. With a second profile for prompts, TensorRT
stored the weights twice.

Exit code 3: the ONNX or the settings cannot be compiled, or the weights have another precision. 5:
TensorRT failed. OUTPUT is written only if everything succeeds.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import room

CONFIGURATION_ERROR = 3
STEP_FAILED = 5
MAX_SETTINGS_BYTES = 1024 * 1024
MAX_CONFIG_BYTES = 16 * 1024 * 1024

ONNX = "model.onnx"
PLAN = "model.plan"  # Triton's name for TensorRT's files
PACKAGE = "tensorrt-rtx"
COPIED = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
)
# Name of a precision in Forge → TensorRT's name of the type, and its bytes.
PRECISIONS = {"fp16": ("HALF", 2)}
# Measured: docs/reference/builders.md.
ROOM = room.Room(memory_mib=900, memory=3.6, disk=1.0)
# Minimum fraction of the weights' bytes in the engine file: tied weights are stored once.
LEAST_OF_WEIGHTS = 0.5
# Bounds the memory for attention and logits, independent of the longest prompt.
PROMPT_PIECE = 512
SHOWN_PER_PHASE = 5

Range = tuple[int, int, int]  # minimum, optimum, maximum


class CheckpointError(Exception):
    """The ONNX or the settings cannot be compiled."""


class CompileError(Exception):
    """TensorRT failed, or the engine is not complete."""


@dataclass(frozen=True)
class Settings:
    """The settings of the profile."""

    precision: str
    compute_capability: str  # "12.0"
    max_batch_size: int
    max_input_len: int
    max_seq_len: int


@dataclass(frozen=True)
class Lengths:
    """An optimisation profile: sequences, new tokens of each, tokens in the KV cache of each."""

    batch: Range
    new: Range
    past: Range

    def shape(self, tensor: str, dims: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """Return minimum, optimum and maximum shape of an input. Raises CheckpointError."""
        whole = tuple(new + past for new, past in zip(self.new, self.past, strict=True))
        match tensor.split(".", maxsplit=1)[0], len(dims):
            case "input_ids" | "position_ids", 2:
                axes: tuple[Any, ...] = (self.batch, self.new)
            case "attention_mask", 2:
                axes = (self.batch, whole)
            case "past_key_values", 4:
                axes = (self.batch, (dims[1],) * 3, self.past, (dims[3],) * 3)
            case _:
                raise CheckpointError(
                    f"unexpected input {tensor!r} of shape {dims} in the ONNX graph, expected"
                    " input_ids, position_ids, attention_mask and past_key_values.*\n"
                    "  → this builder supports decoders with a KV cache, as made by step onnx"
                )
        shapes = tuple(tuple(axis[which] for axis in axes) for which in range(3))
        if any(size < 0 for shape in shapes for size in shape):
            raise CheckpointError(f"{tensor} has a dynamic dimension other than its length: {dims}")
        return shapes


def main(argv: list[str] | None = None) -> int:
    """Compile and return the exit code."""
    parser = argparse.ArgumentParser(description="Compile ONNX to a TensorRT for RTX engine.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        settings = read_settings(arguments.settings)
        check_checkpoint(arguments.checkpoint)
        weights = room.weights_mib(arguments.checkpoint)
        room.require(ROOM, f"compiling {weights} MiB of weights", arguments.output, weights)
        compile_checkpoint(arguments.checkpoint, settings, arguments.output)
    except room.NoRoomError as error:
        return int(room.refuse(error))
    except CheckpointError as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    except CompileError as error:
        sys.stderr.write(f"Error: TensorRT failed: {error}\n")
        return STEP_FAILED
    except OSError as error:
        sys.stderr.write(f"Error: the compiler could not read or write: {error}\n")
        return STEP_FAILED
    return 0


def read_settings(path: Path) -> Settings:
    """Read the settings file of the step. Raises CheckpointError."""
    try:
        if path.stat().st_size > MAX_SETTINGS_BYTES:
            raise CheckpointError(f"{path.name} is larger than {MAX_SETTINGS_BYTES} bytes")
        values: Any = json.loads(path.read_bytes())
        engine, hardware = values["engine"], values["hardware"]
        settings = Settings(
            precision=str(engine["precision"]),
            compute_capability=str(hardware["compute_capability"]),
            max_batch_size=int(engine["max_batch_size"]),
            max_input_len=int(engine["max_input_len"]),
            max_seq_len=int(engine["max_seq_len"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path.name} is not a valid settings file: {error!r}") from None
    if settings.precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise CheckpointError(
            f"engine.precision {settings.precision!r} is not supported\n"
            f"  → set engine.precision: {known}"
        )
    if not 1 <= settings.max_input_len < settings.max_seq_len or settings.max_batch_size < 1:
        raise CheckpointError(
            f"engine.max_input_len is {settings.max_input_len} and engine.max_seq_len"
            f" {settings.max_seq_len}: no space for a response\n  → increase max_seq_len"
        )
    return settings


def check_checkpoint(checkpoint: Path) -> None:
    """Raise CheckpointError if a required file is missing."""
    for name in (ONNX, "config.json", "tokenizer.json"):
        if not (checkpoint / name).is_file():
            raise CheckpointError(f"the checkpoint has no {name}: it is not an output of step onnx")


def lengths(settings: Settings) -> Lengths:
    """Return the lengths from an empty KV cache to one with space for one more token."""
    piece = min(PROMPT_PIECE, settings.max_input_len)
    longest = settings.max_seq_len - 1
    half = max(1, longest // 2)
    return Lengths((1, 1, settings.max_batch_size), (1, 1, piece), (0, half, longest))


def compile_checkpoint(checkpoint: Path, settings: Settings, output: Path) -> None:
    """Check everything first, compile in a temporary folder, then fill `output`."""
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".compile-", dir=output.parent) as folder:
        work = Path(folder)
        weights = build(checkpoint / ONNX, settings, work / PLAN)
        facts = engine_facts(checkpoint, settings, weights)
        (work / "engine.json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")
        for path in (found for name in COPIED for found in sorted(checkpoint.glob(name))):
            target = work / path.relative_to(checkpoint)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
        for path in sorted(work.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)
            shutil.move(path, output / path.name)


def build(model: Path, settings: Settings, plan: Path) -> Counter[str]:
    """Write the engine and return how many weights the network has of each type.

    Raises:
        CheckpointError: TensorRT cannot read the graph or compile for that GPU, or the weights
            have another precision.
        CompileError: TensorRT built no engine, or one that is smaller than the weights.
    """
    import tensorrt_rtx_bindings as trt

    target = capability(settings.compute_capability, trt)
    log = logger(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    sys.stderr.write(f"reading {model.name}\n")
    if not parser.parse_from_file(str(model)):
        reasons = "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
        raise CheckpointError(f"TensorRT cannot read the ONNX graph: {reasons}")
    weights = weights_by_type(network, trt)
    check_precision(weights, settings.precision)
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(target, 0)
    add_profile(builder, network, config, settings)
    config.progress_monitor = progress = monitor(trt)
    sys.stderr.write(
        f"compiling {sum(weights.values()) / 1e6:.0f} M parameters, {settings.precision},"
        f" for compute capability {settings.compute_capability}, TensorRT for RTX"
        f" {trt.__version__}\n"
    )
    engine = builder.build_serialized_network(network, config)
    del progress  # it must outlive the build
    if engine is None:
        raise CompileError(log.last or "it built no engine and reported no error")
    with memoryview(engine) as data:
        check_engine(data, weights, settings.precision, trt)
        plan.write_bytes(data)
    return weights


def capability(wanted: str, trt: Any) -> Any:
    """Map `12.0` to SM120. Raises CheckpointError if this TensorRT does not support it."""
    name = "SM" + wanted.replace(".", "")
    members = trt.ComputeCapability.__members__
    if name not in members:
        known = ", ".join(f"{one[2:-1]}.{one[-1]}" for one in members if one.startswith("SM"))
        raise CheckpointError(
            f"TensorRT for RTX {trt.__version__} cannot compile for compute capability {wanted};"
            f" it supports {known}\n  → choose another engine.builder for this device"
        )
    return members[name]


def weights_by_type(network: Any, trt: Any) -> Counter[str]:
    """Count the elements of the network's constants by type."""
    elements: Counter[str] = Counter()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == trt.LayerType.CONSTANT:
            tensor = layer.get_output(0)
            elements[tensor.dtype.name] += math.prod(tensor.shape)
    return elements


def check_precision(weights: Counter[str], requested: str) -> None:
    """Raise CheckpointError unless most weights have the requested type."""
    wanted, _ = PRECISIONS[requested]
    found = max(weights, key=lambda kind: weights[kind]) if weights else "none"
    if found != wanted:
        raise CheckpointError(
            f"engine.precision is {requested}, but the network's weights are {found}\n"
            "  → export the ONNX with that precision: TensorRT does not change the types of a"
            " strongly typed network"
        )


def check_engine(data: memoryview, weights: Counter[str], precision: str, trt: Any) -> None:
    """Check size and format of the engine; without its GPU, nothing else can be checked."""
    kind, width = PRECISIONS[precision]
    least = int(weights[kind] * width * LEAST_OF_WEIGHTS)
    if len(data) < least:
        raise CompileError(f"the engine has {len(data)} bytes, fewer than its weights ({least})")
    _, diagnostics = trt.Runtime(logger(trt, quiet=True)).get_engine_validity(data)
    if int(diagnostics) & int(trt.EngineInvalidityDiagnostics.MALFORMED_ENGINE):
        raise CompileError("TensorRT cannot read the format of its own engine")


def add_profile(builder: Any, network: Any, config: Any, settings: Settings) -> None:
    """Add the optimisation profile, which has the shapes of the inputs."""
    profile, expected = builder.create_optimization_profile(), lengths(settings)
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        profile.set_shape(tensor.name, *expected.shape(tensor.name, tuple(tensor.shape)))
    if config.add_optimization_profile(profile) < 0:
        raise CompileError("TensorRT rejected the optimisation profile")


def logger(trt: Any, *, quiet: bool = False) -> Any:
    """Return a logger that prints warnings and errors to stderr and keeps the last error."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last = ""

        def log(self, severity: Any, message: str) -> None:
            if quiet or severity > trt.ILogger.WARNING:
                return
            sys.stderr.write(f"TensorRT {severity.name.lower()}: {message.strip()}\n")
            if severity < trt.ILogger.WARNING:
                self.last = message.strip()

    return Logger()


def monitor(trt: Any) -> Any:
    """Return a progress monitor that prints a few lines per outermost phase to stderr."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            if parent is None:
                self.steps[phase] = steps
                sys.stderr.write(f"{phase}\n")

        def step_complete(self, phase: str, step: int) -> bool:
            steps = self.steps.get(phase, 0)
            if steps >= SHOWN_PER_PHASE and (step + 1) % (steps // SHOWN_PER_PHASE) == 0:
                sys.stderr.write(f"{phase}: {100 * (step + 1) // steps} %\n")
            return True  # continue

        def phase_finish(self, phase: str) -> None:
            self.steps.pop(phase, None)

    return Monitor()


def engine_facts(checkpoint: Path, settings: Settings, weights: Counter[str]) -> dict[str, Any]:
    """Return the content of engine.json."""
    import tensorrt_rtx_bindings as trt

    config_file = checkpoint / "config.json"
    if config_file.stat().st_size > MAX_CONFIG_BYTES:
        raise CheckpointError(f"config.json is larger than {MAX_CONFIG_BYTES} bytes")
    config = json.loads(config_file.read_bytes())
    kind, _ = PRECISIONS[settings.precision]
    return {
        "schema_version": 1,
        "builder": "tensorrt-rtx",
        "runtime": {PACKAGE: trt.__version__},
        "compute_capability": settings.compute_capability,
        "precision": {"asked": settings.precision, "found": kind},
        "model": {
            "name": str(config.get("_model_name_or_path") or "unnamed"),
            "architecture": str(config.get("model_type", "")),
            "parameters": weights[kind],
            "sha256": digest(checkpoint),
        },
    }


def digest(checkpoint: Path) -> str:
    """Return the SHA-256 of model.onnx, or of `sha256sum` lines if it has external weights."""
    lines = []
    for path in sorted(checkpoint.glob(f"{ONNX}*")):
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    return lines[0][:64] if len(lines) == 1 else hashlib.sha256("".join(lines).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
