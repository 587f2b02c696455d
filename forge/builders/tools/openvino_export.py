"""Export a Hugging Face checkpoint to OpenVINO IR. Runs in the tool environment `optimum`.

    python openvino_export.py --checkpoint DIR --settings settings.json --output DIR

    OUTPUT/openvino_model.{xml,bin}        the network, its KV cache inside
    OUTPUT/openvino_tokenizer.{xml,bin}  OUTPUT/openvino_detokenizer.{xml,bin}
    OUTPUT/config.json  OUTPUT/generation_config.json
    OUTPUT/tokenizer.json  …               copied from the checkpoint
    OUTPUT/engine.json                     requested and measured precision, exact versions

Exit code 3: the checkpoint or the settings cannot be exported. 4: the machine has too little
memory or disk. 5: the exporter failed. OUTPUT is written only if everything succeeds.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import openvino_ir
import openvino_support
import room
from openvino_ir import CheckpointError

CONFIGURATION_ERROR = 3
STEP_FAILED = 5
TASK = "text-generation-with-past"
FP16_MAX = 65504.0
MAX_CONFIG_BYTES = 16 * 1024 * 1024

# Name of a precision in Forge → element types of OpenVINO, one of which the weights must have.
PRECISIONS = {
    "fp16": ("f16",),
    "bf16": ("bf16",),
    "int8": ("u8", "i8"),
    "int4": ("u4", "i4"),
}
# Group size and share of the layers in 4 bits: optimum-intel's _DEFAULT_4BIT_WQ_CONFIG. The
# embedding and the last layer get 8 bits.
INT4_GROUP, INT4_RATIO = 128, 1.0

# By precision, for each MiB of weights in 16 bits; measured: docs/reference/builders.md.
ROOM = {
    "fp16": room.Room(memory_mib=700, memory=4.0, disk=1.1),
    "bf16": room.Room(memory_mib=700, memory=4.0, disk=1.1),
    "int8": room.Room(memory_mib=700, memory=4.0, disk=1.7),
    "int4": room.Room(memory_mib=700, memory=4.0, disk=1.5),
}

# Files of the checkpoint for the server; the first one is required.
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
TOOLS = ("optimum-intel", "optimum", "transformers", "torch", "nncf")


def main(argv: list[str] | None = None) -> int:
    """Export and return the exit code."""
    parser = argparse.ArgumentParser(description="Export a Hugging Face checkpoint to OpenVINO.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        export_checkpoint(arguments.checkpoint, arguments.settings, arguments.output)
    except room.NoRoomError as error:
        return int(room.refuse(error))
    except CheckpointError as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    except (OSError, RuntimeError) as error:
        sys.stderr.write(f"Error: the exporter failed: {str(error).strip()}\n")
        return STEP_FAILED
    return 0


def export_checkpoint(checkpoint: Path, settings: Path, output: Path) -> None:
    """Check everything first, export in a temporary folder, then fill `output`."""
    precision = openvino_ir.requested_precision(settings)
    check_precision(precision)
    config = read_config(checkpoint)
    check_config(config)
    check_room(checkpoint, precision, output)
    openvino_ir.disable_telemetry()
    quiet()
    check_keys(checkpoint, config)
    check_range(checkpoint, precision)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=output.parent) as folder:
        work = Path(folder)
        convert_tokenizer(
            checkpoint, work
        )  # first, because it takes seconds and the export minutes
        sys.stderr.write(f"exporting {config['model_type']} to OpenVINO IR, {precision}\n")
        parameters = export(checkpoint, precision, work, str(config["model_type"]))
        if precision in ("int8", "int4"):
            compress(work / openvino_ir.MODEL, precision)
            openvino_ir.keep_activations(work / openvino_ir.MODEL)
        openvino_ir.write_json(
            work / openvino_ir.FACTS, engine_facts(work, checkpoint, precision, config, parameters)
        )
        openvino_ir.publish(work, sorted(path.name for path in work.iterdir()), output)


def check_precision(precision: str) -> None:
    """Raise CheckpointError for a precision that this tool does not make."""
    if precision not in PRECISIONS:
        raise CheckpointError(
            f"engine.precision {precision!r} is not supported for a Hugging Face checkpoint\n"
            f"  → set engine.precision to one of {', '.join(PRECISIONS)}"
        )


def read_config(checkpoint: Path) -> dict[str, Any]:
    """Return config.json of a Hugging Face folder. Raises CheckpointError."""
    for name in ("config.json", TOKENIZER[0]):
        if not (checkpoint / name).is_file():
            raise CheckpointError(f"the checkpoint has no {name}: it is not a Hugging Face folder")
    if not list(checkpoint.glob("*.safetensors")):
        raise CheckpointError(
            "the checkpoint has no .safetensors file\n"
            "  → save the weights again: AutoModelForCausalLM.from_pretrained(DIR)"
            ".save_pretrained(DIR)"
        )
    path = checkpoint / "config.json"
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise CheckpointError(f"config.json is larger than {MAX_CONFIG_BYTES} bytes")
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"config.json is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise CheckpointError("config.json is not a JSON object")
    return config


def check_config(config: Mapping[str, Any]) -> None:
    """Raise CheckpointError if the export would be another model."""
    found = openvino_support.problems(config)
    if found:
        raise CheckpointError(
            f"OpenVINO cannot serve this checkpoint as it is: {'; '.join(found)}\n"
            "  → use another checkpoint, or a profile whose builder supports it:"
            " docs/reference/builders.md"
        )


def check_room(checkpoint: Path, precision: str, output: Path) -> None:
    """Raise NoRoomError if the machine has too little memory or disk."""
    weights = room.weights_mib(checkpoint)
    room.require(ROOM[precision], f"exporting {weights} MiB of weights", output, weights)


def quiet() -> None:
    """Keep libraries from the network and from reporting progress."""
    import logging

    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    os.environ |= {"TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
    logging.getLogger("nncf").setLevel(logging.ERROR)


def check_keys(checkpoint: Path, config: Mapping[str, Any]) -> None:
    """Raise CheckpointError if config.json has a key that transformers would ignore."""
    from transformers import AutoConfig

    try:
        read = AutoConfig.from_pretrained(str(checkpoint), local_files_only=True)
        known = type(read)().to_dict() | dict(type(read).attribute_map)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise CheckpointError(f"transformers cannot read config.json: {error}") from None
    unknown = openvino_support.unknown_keys(config, known)
    if unknown:
        raise CheckpointError(
            f"transformers {metadata.version('transformers')} ignores"
            f" {', '.join(unknown)} of config.json\n"
            "  → if the model computes the same without, delete it from config.json"
        )


def check_range(checkpoint: Path, precision: str) -> None:
    """Raise CheckpointError for a weight that is not finite or that fp16 does not hold."""
    import torch
    from safetensors import safe_open

    for path in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(str(path), framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dictionary
                tensor = file.get_tensor(name)
                if not tensor.is_floating_point():
                    continue
                low, high = (float(value) for value in torch.aminmax(tensor))
                check_values(name, low, high, path.name, precision)


def check_values(name: str, low: float, high: float, file: str, precision: str) -> None:
    """Raise CheckpointError if a tensor's smallest or largest value cannot be written."""
    if not (abs(low) < float("inf") and abs(high) < float("inf")):  # also false for NaN
        raise CheckpointError(
            f"tensor {name} of {file} has values that are not finite\n"
            "  → download the checkpoint again, or use another one"
        )
    if precision == "fp16" and max(abs(low), abs(high)) > FP16_MAX:
        raise CheckpointError(
            f"tensor {name} of {file} has values up to {max(abs(low), abs(high)):.3g}, but fp16"
            f" holds {FP16_MAX:.0f}\n  → set engine.precision: bf16"
        )


def export(checkpoint: Path, precision: str, work: Path, family: str) -> int:
    """Write the IR in 16 bits, and the configuration. Return the number of parameters."""
    import torch
    from optimum.exporters.openvino.convert import export_from_model
    from optimum.intel import OVConfig
    from transformers import AutoModelForCausalLM

    stored = torch.bfloat16 if precision == "bf16" else torch.float16
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            str(checkpoint),
            dtype=stored,
            local_files_only=True,
            attn_implementation="eager" if family in openvino_support.EAGER else "sdpa",
            output_loading_info=True,
        )
    except (ValueError, KeyError, TypeError, ImportError) as error:
        raise CheckpointError(f"transformers could not read the checkpoint: {error}") from None
    check_loading(loading)
    parameters = sum(one.numel() for one in model.parameters())
    try:
        # No dtype: with "fp16" the rotary frequencies are rounded, too, and long contexts differ.
        export_from_model(
            model.eval(),
            work,
            task=TASK,
            ov_config=OVConfig(),
            stateful=True,
            patch_16bit_model=True,
        )
    except (ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise CheckpointError(f"optimum could not export the checkpoint: {error}") from None
    del model
    gc.collect()
    return parameters


def check_loading(loading: Mapping[str, Iterable[Any]]) -> None:
    """Raise CheckpointError if a tensor was missing, not used or of another shape."""
    meanings = {
        "missing_keys": "has no",
        "unexpected_keys": "has tensors that transformers does not use:",
        "mismatched_keys": "has another shape of",
    }
    for key, meaning in meanings.items():
        names = sorted(str(one) for one in loading.get(key) or ())
        if names:
            raise CheckpointError(
                f"the checkpoint {meaning} {openvino_ir.some(names, ', ')}\n"
                "  → download the checkpoint again, or use another one"
            )


def compress(path: Path, precision: str) -> None:
    """Replace an IR by one with the weights in 8 or 4 bits."""
    import nncf
    import openvino

    model = openvino.Core().read_model(path)
    modes = nncf.CompressWeightsMode
    if precision == "int8":
        model = nncf.compress_weights(model, mode=modes.INT8_ASYM)
    else:
        model = nncf.compress_weights(
            model,
            mode=modes.INT4_ASYM,
            ratio=INT4_RATIO,
            group_size=INT4_GROUP,
            advanced_parameters=nncf.AdvancedCompressionParameters(
                group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST
            ),
        )
    compressed = path.with_stem("compressed")
    openvino.save_model(model, compressed, compress_to_fp16=False)
    del model
    gc.collect()
    for suffix in (".xml", ".bin"):
        compressed.with_suffix(suffix).rename(path.with_suffix(suffix))


def convert_tokenizer(checkpoint: Path, work: Path) -> None:
    """Write OpenVINO's tokenizer and detokenizer, and copy the checkpoint's own files."""
    import openvino
    import openvino_tokenizers
    from transformers import PreTrainedTokenizerFast

    try:
        # tokenizer.json as it is: a class of transformers may build another tokenizer, and those of
        # transformers 5 are unknown to transformers 4.
        tokenizer = PreTrainedTokenizerFast.from_pretrained(str(checkpoint), local_files_only=True)
        converted = openvino_tokenizers.convert_tokenizer(tokenizer, with_detokenizer=True)
    except Exception as error:  # noqa: BLE001 - tokenizers raises Exception itself
        raise CheckpointError(f"OpenVINO cannot convert the tokenizer: {error}") from None
    for model, part in zip(converted, ("tokenizer", "detokenizer"), strict=True):
        openvino.save_model(model, work / f"openvino_{part}.xml")
    for name in TOKENIZER:
        if (checkpoint / name).is_file():
            (work / name).write_bytes((checkpoint / name).read_bytes())


def engine_facts(
    work: Path,
    checkpoint: Path,
    precision: str,
    config: Mapping[str, Any],
    parameters: int,
) -> dict[str, Any]:
    """Return the content of engine.json. Raises CheckpointError for another precision."""
    missing = openvino_ir.missing(work)
    if missing:
        raise RuntimeError(f"it succeeded but did not write {', '.join(missing)}")
    weights = openvino_ir.weight_bytes(work / openvino_ir.MODEL)
    if not set(PRECISIONS[precision]) & set(weights):
        raise CheckpointError(
            f"expected weights in {precision}, but the exporter wrote {openvino_ir.most(weights)}"
        )
    return {
        "schema_version": 1,
        "builder": "openvino",
        "runtime": openvino_ir.runtime(),
        "precision": {
            "asked": precision,
            "found": openvino_ir.most(weights),
            "weight_bytes": weights,
        },
        "model": {
            "name": str(config.get("_name_or_path") or config["model_type"]),
            "architecture": config["model_type"],
            "parameters": parameters,
            "sha256": digest(checkpoint),
        },
        "tools": {name: metadata.version(name) for name in TOOLS},
    }


def digest(checkpoint: Path) -> str:
    """Return the SHA-256 of the digests of the weight files, one per line."""
    lines = hashlib.sha256()
    for path in sorted(checkpoint.glob("*.safetensors")):
        with path.open("rb") as file:
            lines.update(f"{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return lines.hexdigest()


if __name__ == "__main__":
    code = main()
    # OpenVINO's threads may still run: flush the output and exit without waiting for them.
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(code)
