"""Execute a Hugging Face checkpoint with torch and compare it. Environment `transformers`.

The command line and the output are those of receipt.py. For TensorRT-LLM, which loads such a
checkpoint on the device and cannot be executed on a CPU: what ModelOpt quantised is computed with
the stored integers and scales, and inputs are rounded as on the device (modelopt_layers.py).
"""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import modelopt_format
import numpy as np
import receipt
import room
from modelopt_format import FormatError

os.environ |= {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}  # before torch is imported

# By the bits of most weights, which are held as stored and in float32, two of 4 bits in a byte;
# measured: docs/reference/builders.md.
ROOM = {
    "16 bits": room.Room(memory_mib=700, memory=3.0),
    "8 bits": room.Room(memory_mib=700, memory=5.0),
    "4 bits": room.Room(memory_mib=700, memory=9.0),
}
BITS = {"nvfp4": "4 bits", "int4": "4 bits", "fp8": "8 bits", "int8": "8 bits"}


class Scorer:
    """A checkpoint in the types that it is stored in."""

    def __init__(self, checkpoint: Path) -> None:
        import torch

        self.torch = torch
        try:
            self.model, self.precision = load(checkpoint)
        except FormatError as error:
            raise receipt.EngineError(str(error)) from None
        plain = self.precision in modelopt_format.FLOATS.values()
        what = "checkpoint" if plain else f"{self.precision} checkpoint, inputs rounded alike"
        self.executed = f"{what}, transformers {metadata.version('transformers')}, CPU"

    def score(self, rows: list[list[int]]) -> list[np.ndarray]:
        """Return logits for each row; shorter ones are filled up on the right."""
        tokens, mask = map(self.torch.from_numpy, receipt.padded(rows))
        with self.torch.inference_mode():
            logits = self.model(tokens, attention_mask=mask).logits.float().numpy()
        return [logits[index, : len(row)] for index, row in enumerate(rows)]

    def decode(self, prompt: list[int], tokens: list[int]) -> np.ndarray:
        """Return logits of each token, one call each."""
        found, cache = [], None
        with self.torch.inference_mode():
            for part in (prompt, *([token] for token in tokens[:-1])):
                state = self.model(self.torch.tensor([part]), past_key_values=cache, use_cache=True)
                cache = state.past_key_values
                found.append(state.logits[0, -1].float().numpy())
        return np.stack(found)


def need_of(checkpoint: Path) -> room.Room:
    """Return what executing a checkpoint takes. Raises receipt.EngineError."""
    try:
        return ROOM[BITS.get(modelopt_format.precision_of(checkpoint), "16 bits")]
    except FormatError as error:
        raise receipt.EngineError(str(error)) from None


def load(checkpoint: Path) -> tuple[Any, str]:
    """Return the model in float32 and the precision of its layers.

    Raises FormatError: the tensors are not those of config.json, or a quantisation that is not
    computed here.
    """
    import modelopt_layers
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if kind := modelopt_format.quantisation(checkpoint).get("kv_cache_quant_algo"):
        raise FormatError(f"a KV cache in {kind} is not computed here")
    precision = modelopt_format.precision_of(checkpoint)
    weights, roundings = read(checkpoint)
    try:
        config = AutoConfig.from_pretrained(
            checkpoint, local_files_only=True, trust_remote_code=False
        )
        stored = config.dtype or torch.float32
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        kind = AutoModelForCausalLM._model_mapping[type(config)]  # noqa: SLF001 - nothing else has it
        model, report = kind.from_pretrained(
            None,
            config=config,
            state_dict=weights,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (ValueError, KeyError, OSError, RuntimeError, ImportError) as error:
        raise FormatError(f"transformers could not load the checkpoint: {error}") from None
    wrong = sorted({*report["missing_keys"], *report["unexpected_keys"]})
    if wrong or report["mismatched_keys"]:
        names = ", ".join(wrong[:5]) or str(report["mismatched_keys"])[:200]
        raise FormatError(f"the checkpoint's tensors are not those of its config.json: {names}")
    modelopt_layers.install(model, roundings, stored)
    return model.eval(), precision


def read(checkpoint: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return all weights in float32 by name, and by layer what it does to its input.

    Raises FormatError: a tensor that belongs to nothing.
    """
    import modelopt_layers
    from safetensors.torch import load_file

    stored = {
        name: tensor
        for path in sorted(checkpoint.glob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }
    kinds = modelopt_format.layers(modelopt_format.headers(checkpoint))
    weights, roundings = {}, {}
    for layer, (kind, _) in kinds.items():
        parts = {
            part: stored.pop(f"{layer}.{part}")
            for part in modelopt_layers.SCALES
            if f"{layer}.{part}" in stored
        }
        weights[f"{layer}.weight"] = modelopt_layers.weight_of(parts, kind)
        rounding = modelopt_layers.rounding_of(parts, kind)
        if rounding is not None:
            roundings[layer] = rounding
    if odd := [name for name in stored if name.endswith(modelopt_layers.SCALES[1:])]:
        raise FormatError(f"tensor {odd[0]} belongs to no quantised layer")
    return weights | {name: tensor.float() for name, tensor in stored.items()}, roundings


if __name__ == "__main__":
    code = receipt.main(Scorer, need_of)
    sys.stderr.flush()
    os._exit(code)  # torch's threads may still run
