"""Compile ONNX to a TensorRT for RTX engine: run inside the tool environment `tensorrt-rtx`.

    python tensorrt_rtx_compile.py --checkpoint DIR --settings settings.json --output DIR

    OUTPUT/model.plan            the engine, for the GPU the settings name and no other
    OUTPUT/tokenizer.json  …     tokenizer, chat template and generation settings, as they came
    OUTPUT/engine.json           what it is, which exact runtime and which GPU it is bound to

No GPU is needed here: the engine is compiled ahead of time, and its kernels are finished on the
device when it is loaded. It has one optimisation profile, made best for adding one token to a
half-full KV cache; a prompt is read in pieces of PROMPT_PIECE tokens. A second profile, for whole
prompts, was tried: TensorRT then stored the weights twice.

Exit code 3: the ONNX or the settings cannot be compiled, or what came out has another precision
than was asked for, and why. 5: TensorRT failed. Nothing is written to OUTPUT unless everything is
there.
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
    "chat_template.jinja",
)
# Ours → TensorRT's name of the type, and its bytes.
PRECISIONS = {"fp16": ("HALF", 2)}
# Part of the weights that must be found in the engine's file: tied ones are stored once.
LEAST_OF_WEIGHTS = 0.5
# Bounds the memory for attention and logits, whatever the longest prompt is.
PROMPT_PIECE = 512
SHOWN_PER_PHASE = 5

Range = tuple[int, int, int]  # least, best, most


class CheckpointError(Exception):
    """The ONNX or the settings cannot be compiled."""


class CompileError(Exception):
    """TensorRT did not do what it was asked for."""


@dataclass(frozen=True)
class Settings:
    """What the profile asks for."""

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
        """Least, best and most shape of a network input. Raises CheckpointError."""
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
                    f"the ONNX graph has an input {tensor!r} of shape {dims}, which is none of"
                    " input_ids, position_ids, attention_mask and past_key_values.*\n"
                    "  → this builder compiles decoders with a KV cache, as step onnx makes them"
                )
        shapes = tuple(tuple(axis[which] for axis in axes) for which in range(3))
        if any(size < 0 for shape in shapes for size in shape):
            raise CheckpointError(f"{tensor} has another open dimension than its length: {dims}")
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
        compile_checkpoint(arguments.checkpoint, settings, arguments.output)
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
    """The step's settings file. Raises CheckpointError."""
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
        raise CheckpointError(f"{path.name} is not the JSON of a step: {error!r}") from None
    if settings.precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise CheckpointError(
            f"engine.precision is {settings.precision!r}, this makes {known}\n"
            f"  → set engine.precision: {known}"
        )
    if not 1 <= settings.max_input_len < settings.max_seq_len or settings.max_batch_size < 1:
        raise CheckpointError(
            f"engine.max_input_len is {settings.max_input_len} and engine.max_seq_len"
            f" {settings.max_seq_len}: no room for an answer\n  → set max_seq_len to more"
        )
    return settings


def check_checkpoint(checkpoint: Path) -> None:
    """Raise CheckpointError unless everything that must be in the folder is."""
    for name in (ONNX, "config.json", "tokenizer.json"):
        if not (checkpoint / name).is_file():
            raise CheckpointError(f"the checkpoint holds no {name}: it is not what step onnx makes")


def lengths(settings: Settings) -> Lengths:
    """From an empty KV cache to one that is full but for the token to come."""
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
        for name in COPIED:
            if (checkpoint / name).is_file():
                shutil.copyfile(checkpoint / name, work / name)
        for path in sorted(work.iterdir()):
            path.chmod(0o644)
            shutil.move(path, output / path.name)


def build(model: Path, settings: Settings, plan: Path) -> Counter[str]:
    """Write the engine and return how many weights the network has of each type.

    Raises:
        CheckpointError: TensorRT cannot read the graph or compile for that GPU, or the weights
            are not of the precision asked for.
        CompileError: TensorRT built nothing, or less than the weights.
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
        raise CompileError(log.last or "it built nothing and said nothing")
    with memoryview(engine) as data:
        check_engine(data, weights, settings.precision, trt)
        plan.write_bytes(data)
    return weights


def capability(wanted: str, trt: Any) -> Any:
    """`12.0` → SM120, if this TensorRT can compile for it. Raises CheckpointError."""
    name = "SM" + wanted.replace(".", "")
    members = trt.ComputeCapability.__members__
    if name not in members:
        known = ", ".join(f"{one[2:-1]}.{one[-1]}" for one in members if one.startswith("SM"))
        raise CheckpointError(
            f"TensorRT for RTX {trt.__version__} cannot compile for compute capability {wanted};"
            f" it knows {known}\n  → choose another engine.builder for this device"
        )
    return members[name]


def weights_by_type(network: Any, trt: Any) -> Counter[str]:
    """Elements of the network's constants by type: what the parser made of the weights."""
    elements: Counter[str] = Counter()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == trt.LayerType.CONSTANT:
            tensor = layer.get_output(0)
            elements[tensor.dtype.name] += math.prod(tensor.shape)
    return elements


def check_precision(weights: Counter[str], asked: str) -> None:
    """Raise CheckpointError unless most weights have the type that was asked for."""
    wanted, _ = PRECISIONS[asked]
    found = max(weights, key=lambda kind: weights[kind]) if weights else "none"
    if found != wanted:
        raise CheckpointError(
            f"engine.precision is {asked}, but the network's weights are {found}\n"
            "  → export the ONNX with that precision: the network is strongly typed, TensorRT"
            " changes none"
        )


def check_engine(data: memoryview, weights: Counter[str], precision: str, trt: Any) -> None:
    """What can be told of an engine without its GPU: its size and its format. No more than that."""
    kind, width = PRECISIONS[precision]
    least = int(weights[kind] * width * LEAST_OF_WEIGHTS)
    if len(data) < least:
        raise CompileError(f"the engine has {len(data)} bytes, its weights alone {least}")
    _, said = trt.Runtime(logger(trt, quiet=True)).get_engine_validity(data)
    if int(said) & int(trt.EngineInvalidityDiagnostics.MALFORMED_ENGINE):
        raise CompileError("it does not know the format of its own engine")


def add_profile(builder: Any, network: Any, config: Any, settings: Settings) -> None:
    """Give TensorRT the shapes to expect."""
    profile, expected = builder.create_optimization_profile(), lengths(settings)
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        profile.set_shape(tensor.name, *expected.shape(tensor.name, tuple(tensor.shape)))
    if config.add_optimization_profile(profile) < 0:
        raise CompileError("it refuses the optimisation profile")


def logger(trt: Any, *, quiet: bool = False) -> Any:
    """TensorRT's warnings and errors on stderr; the last error is kept."""

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
    """TensorRT's own progress as lines on stderr: a few for the outermost phase."""

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
            return True  # go on

        def phase_finish(self, phase: str) -> None:
            self.steps.pop(phase, None)

    return Monitor()


def engine_facts(checkpoint: Path, settings: Settings, weights: Counter[str]) -> dict[str, Any]:
    """The content of engine.json."""
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
    """SHA-256 of model.onnx, or of the `sha256sum` lines where weights lie beside it."""
    lines = []
    for path in sorted(checkpoint.glob(f"{ONNX}*")):
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    return lines[0][:64] if len(lines) == 1 else hashlib.sha256("".join(lines).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
