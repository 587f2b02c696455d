r"""Quantise a Hugging Face checkpoint with ModelOpt on a CPU. Tool environment `transformers`.

    python modelopt_quantise.py --checkpoint DIR --output DIR --precision fp8 --calibration FILE

    OUTPUT/config.json           the checkpoint's own, and `quantization_config`
    OUTPUT/hf_quant_config.json  what was quantised, for the LLM API of TensorRT-LLM
    OUTPUT/model*.safetensors    weights and scales
    OUTPUT/tokenizer.json  …     hard links

Precisions: fp8 (weights and inputs of layers, one scale for each tensor), nvfp4 (both in 4 bits,
blocks of 16), int4 (weights only, AWQ, blocks of 128), int8 (weights only, one scale for each row).
The scales of inputs come from FILE: one `{"article": …}` a line. Uses no network and no GPU.

config.json keeps the checkpoint's own fields, because ModelOpt writes those of transformers 5, from
which transformers 4 in NVIDIA's image would read another base of the rotary embedding.

Exit code 3: the checkpoint cannot be quantised in this way, or was not. 5: ModelOpt failed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import modelopt_format
import room
from checkpoint_check import UnsupportedModelError, check_model
from modelopt_format import FormatError

os.environ |= {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}  # before torch is imported

CONFIGURATION_ERROR = 3
STEP_FAILED = 5
CONFIG = "config.json"
WEIGHTS = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".gguf", ".pt")
CONFIGURATIONS = {
    "fp8": "FP8_DEFAULT_CFG",
    "nvfp4": "NVFP4_DEFAULT_CFG",
    "int4": "INT4_AWQ_CFG",
    "int8": "INT8_WEIGHT_ONLY_CFG",
}
MAX_TOKENS = 1024  # of one calibration text
# Peak memory, measured with fp8 and SmolLM2 (257 MiB in fp16): 1,538 MiB where it is computed in
# float32, 1,397 MiB in its own type; torch, transformers and ModelOpt are some 600 of them.
ROOM = {
    "float32": room.Room(memory_mib=700, memory=4.0, disk=1.2),
    "16 bits": room.Room(memory_mib=700, memory=3.2, disk=1.2),
}
# Layers that the runtime computes as one, so that they must have the same scales.
FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


class ModelOptError(Exception):
    """ModelOpt did not do it."""


def main(argv: list[str] | None = None) -> int:
    """Quantise and return the exit code."""
    parser = argparse.ArgumentParser(description="Quantise a checkpoint with ModelOpt.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--precision", choices=sorted(CONFIGURATIONS), required=True)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--architectures", help="supported model_type, by commas; default: any")
    arguments = parser.parse_args(argv)
    try:
        check_architecture(arguments.checkpoint, arguments.architectures)
        config = check_source(arguments.checkpoint, arguments.precision)
        check_room(arguments.checkpoint, arguments.output)
        texts = read_texts(arguments.calibration)
        quantise(arguments.checkpoint, texts, arguments.precision, arguments.output)
        complete(arguments.checkpoint, config, arguments.output)
        share = modelopt_format.check(arguments.output, arguments.precision)
        check_fused(arguments.output)
    except room.NoRoomError as error:
        return int(room.refuse(error))
    except FormatError as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    except (ModelOptError, OSError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return STEP_FAILED
    sys.stderr.write(f"{arguments.precision}: {share:.0%} of the layers' values\n")
    return 0


def check_architecture(checkpoint: Path, architectures: str | None) -> None:
    """Raise FormatError for a model that is not on the list."""
    if architectures is None:
        return
    try:
        check_model(checkpoint, architectures.split(","))
    except UnsupportedModelError as error:
        raise FormatError(str(error)) from None


def check_source(checkpoint: Path, precision: str) -> dict[str, Any]:
    """Return config.json. Raises FormatError for what headers show: no minute is spent first."""
    config = modelopt_format.read_json(checkpoint / CONFIG)
    if "quantization_config" in config or (checkpoint / "hf_quant_config.json").is_file():
        method = (config.get("quantization_config") or {}).get("quant_method", "unknown method")
        raise FormatError(
            f"the checkpoint is quantised already ({method})\n  → use the original in 16 bits"
        )
    modelopt_format.check_widths(config, precision)
    tensors = modelopt_format.headers(checkpoint)
    if not tensors:
        raise FormatError("the checkpoint has no *.safetensors")
    odd = [name for name, one in tensors.items() if one.dtype not in modelopt_format.FLOATS]
    if odd:
        raise FormatError(f"tensor {odd[0]} is {tensors[odd[0]].dtype}, expected a float type")
    return config


def check_room(checkpoint: Path, output: Path) -> None:
    """Raise NoRoomError if the machine has too little memory or disk."""
    weights = room.weights_mib(checkpoint)
    need = ROOM["float32" if fits(checkpoint) else "16 bits"]
    room.require(need, f"quantising {weights} MiB of weights", output, weights)


def read_texts(path: Path) -> list[str]:
    """Return the calibration texts. Raises FormatError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        texts = [str(json.loads(line)["article"]) for line in lines if line.strip()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path.name} is not a valid calibration file: {error}") from None
    if not texts:
        raise FormatError(f"{path.name} has no texts")
    return texts


def quantise(checkpoint: Path, texts: list[str], precision: str, output: Path) -> None:
    """Write the quantised weights. Raises FormatError, ModelOptError."""
    begin = time.monotonic()
    stored, model, forward = load(checkpoint, texts)
    from modelopt.torch import quantization
    from modelopt.torch.export import export_hf_checkpoint

    try:
        quantization.quantize(model, getattr(quantization, CONFIGURATIONS[precision]), forward)
        if precision == "fp8":
            share_scales(model)
        settle(model, stored)
        export_hf_checkpoint(model, dtype=stored, export_dir=output)
    except (RuntimeError, ValueError, AssertionError, NotImplementedError, IndexError) as error:
        raise ModelOptError(f"ModelOpt could not quantise the checkpoint: {error}") from None
    sys.stderr.write(f"quantised in {time.monotonic() - begin:.0f} s\n")


def load(checkpoint: Path, texts: list[str]) -> tuple[Any, Any, Callable[[Any], None]]:
    """Return the type that weights are stored in, the model, and what calibrates it.

    Raises FormatError: the tensors are not those of config.json, or one is not finite.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            checkpoint, dtype="auto", output_loading_info=True, **options
        )
        tokenizer = AutoTokenizer.from_pretrained(checkpoint, **options)
    except (ValueError, KeyError, OSError, RuntimeError, ImportError) as error:
        raise FormatError(f"transformers could not load the checkpoint: {error}") from None
    wrong = sorted({*report["missing_keys"], *report["unexpected_keys"]})
    if wrong or report["mismatched_keys"]:
        names = ", ".join(wrong[:5]) or str(report["mismatched_keys"])[:200]
        raise FormatError(f"the checkpoint's tensors are not those of its config.json: {names}")
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise FormatError(f"tensor {name} has values that are not finite")
    stored = model.dtype
    if fits(checkpoint):  # 16-bit matrices are slow on most CPUs
        model = model.float()
    samples = [tokenizer(text)["input_ids"][:MAX_TOKENS] for text in texts]

    def forward(quantised: Any) -> None:
        with torch.inference_mode():
            for tokens in samples:
                quantised(torch.tensor([tokens]))

    return stored, model.eval(), forward


def settle(model: Any, stored: Any) -> None:
    """Put what is not quantised back into the checkpoint's type.

    Not the scales, which are float32 buffers; those of AWQ must be in the type of the values that
    they multiply.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(stored)
    for name, buffer in model.named_buffers():
        if name.endswith("_pre_quant_scale"):
            buffer.data = buffer.data.to(stored)


def share_scales(model: Any) -> None:
    """Give layers that the runtime computes as one the largest of their scales.

    The runtime would do so when it loads them, and round their weights a second time.
    """
    for module in model.modules():
        for group in FUSED:
            layers = [getattr(module, name, None) for name in group]
            if any(layer is None for layer in layers):
                continue
            for kind in ("weight_quantizer", "input_quantizer"):
                quantizers = [getattr(layer, kind) for layer in layers]
                largest = max(float(one.amax) for one in quantizers)
                for one in quantizers:
                    one.amax = largest


def fits(checkpoint: Path) -> bool:
    """Return whether the memory is enough for float32; true if unknown."""
    available = room.available_memory_mib()
    need = ROOM["float32"]
    needed = need.memory_mib + need.memory * room.weights_mib(checkpoint)
    return available is None or available >= needed


def complete(checkpoint: Path, config: dict[str, Any], output: Path) -> None:
    """Write config.json, and link every file but the weights."""
    made = modelopt_format.read_json(output / CONFIG)
    if "quantization_config" not in made:
        raise FormatError("ModelOpt wrote no quantization_config")
    config = config | {"quantization_config": made["quantization_config"]}
    (output / CONFIG).unlink()
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (output / CONFIG).write_text(text, encoding="utf-8")
    for path in sorted(checkpoint.rglob("*")):
        name = str(path.relative_to(checkpoint))
        if path.is_file() and name != CONFIG and not name.endswith(WEIGHTS):
            (output / name).unlink(missing_ok=True)
            link(path, output / name)
    for path in output.glob("*.safetensors"):
        path.chmod(0o644)  # safetensors writes mode 0600


def link(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it if links are not possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def check_fused(output: Path) -> None:
    """Raise FormatError if layers that the runtime computes as one have different scales.

    It would take the largest of them for all, without a word.
    """
    import torch

    scales = dict(read_scales(output))
    for name, value in scales.items():
        for group in FUSED:
            match = re.fullmatch(rf"(.*\.){group[0]}(\..*)", name)
            others = [f"{match[1]}{one}{match[2]}" for one in group[1:]] if match else []
            for other in others:
                if other in scales and not torch.equal(scales[other], value):
                    raise FormatError(f"{name} and {other} differ, but must be equal")


def read_scales(output: Path) -> Iterator[tuple[str, Any]]:
    """Yield the scales that belong to a whole tensor, by name."""
    from safetensors import safe_open

    for path in sorted(output.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                if name.endswith(("_scale", "_scale_2")) and not file.get_slice(name).get_shape():
                    yield name, file.get_tensor(name)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # torch's threads may still run
