"""Damage a quantised checkpoint in several ways, and measure each.

    python modelopt_damage.py ENGINE REFERENCE SETTINGS FOLDER

Writes FOLDER/NAME/receipt.json for each damage, or FOLDER/NAME/refused where it was not executed.
Runs as modelopt_work.py does.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import receipt
import torch
import torch_receipt
from safetensors.torch import load_file, save_file

LAYER = "model.layers.0.self_attn.v_proj"
Tensors = dict[str, Any]


def scaled(part: str, factor: float) -> Callable[[Tensors], None]:
    def damage(tensors: Tensors) -> None:
        old = tensors[f"{LAYER}.{part}"]
        tensors[f"{LAYER}.{part}"] = (old.float() * factor).to(old.dtype)

    return damage


def zeroed(tensors: Tensors) -> None:
    tensors[f"{LAYER}.weight"] = torch.zeros_like(tensors[f"{LAYER}.weight"])


def rows_exchanged(tensors: Tensors) -> None:
    """The fault of a converter that permutes heads wrongly: same values at other places."""
    name = f"{LAYER}.weight"
    tensors[name] = tensors[name].flip(0)


def lost(tensors: Tensors) -> None:
    del tensors[f"{LAYER}.weight_scale"]


def not_finite(tensors: Tensors) -> None:
    name = f"{LAYER}.weight_scale"
    tensors[name] = torch.full_like(tensors[name].float(), float("nan"))


DAMAGES: dict[str, Callable[[Tensors], None]] = {
    "weight scale doubled": scaled("weight_scale", 2),
    "weight scale a tenth": scaled("weight_scale", 0.1),
    "weights zeroed": zeroed,
    "weights at other places": rows_exchanged,
    "weight scale lost": lost,
    "weight scale not a number": not_finite,
}
OF_INPUTS = {"inputs cut": scaled("input_scale", 0.02)}


def main(engine: Path, reference: Path, settings: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    stored = load_file(engine / "model.safetensors")
    damages = DAMAGES | (OF_INPUTS if f"{LAYER}.input_scale" in stored else {})
    for name, damage in damages.items():
        copy = folder / name / "engine"
        shutil.copytree(engine, copy)
        tensors = dict(stored)
        damage(tensors)
        save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
        argv = ["--engine", str(copy), "--reference", str(reference), "--settings", str(settings)]
        given = [*argv, "--output", str(folder / name)]
        if receipt.main(torch_receipt.Scorer, torch_receipt.need_of, given):
            (folder / name / "refused").touch()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
