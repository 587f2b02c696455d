"""Weights of an engine beside its checkpoint's: honest quantisation passes, each damage does not.

The quantisers of the test are written from their definitions, the engine's files by hand; the
models are small and of random weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino_weights
import pytest
import safetensors_file

from tests.support.ir_files import IrFile

LAYERS, WIDTH, HEADS, GROUP = 3, 64, 4, 32
Tensors = dict[str, np.ndarray]


def model(seed: int) -> Tensors:
    """Random weights in float16; all norms are equal, as in a model that was not trained."""
    generator = np.random.default_rng(seed)
    found = {"model.embed_tokens.weight": generator.normal(0, 0.05, (96, WIDTH))}
    for number in range(LAYERS):
        prefix = f"model.layers.{number}"
        found[f"{prefix}.input_layernorm.weight"] = np.ones(WIDTH)
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            values = generator.normal(0, 0.05, (WIDTH, WIDTH))
            found[f"{prefix}.self_attn.{name}.weight"] = values
    return {name: values.astype(np.float16).astype(np.float32) for name, values in found.items()}


def asymmetric(values: np.ndarray, levels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes, scales and zero points of groups, as NNCF rounds them."""
    parts = values.reshape(len(values), -1, GROUP)
    least, most = parts.min(-1, keepdims=True), parts.max(-1, keepdims=True)
    scales = np.maximum(most - least, 1e-6) / levels
    zeros = np.round(-least / scales)
    # The scale is made so that the range fits the zero point, so no value is cut.
    scales = np.maximum(-least / np.maximum(zeros, 1), most / np.maximum(levels - zeros, 1))
    scales = np.maximum(scales, 1e-6)
    codes = np.clip(np.round(parts / scales) + zeros, 0, levels)
    return codes.astype(np.uint8), scales.astype(np.float16), zeros.astype(np.uint8)


def write(folder: Path, tensors: Tensors, engine: Tensors, precision: str) -> tuple[Path, Path]:
    """A checkpoint of `tensors` and an engine of `engine`."""
    checkpoint, made = folder / "checkpoint", folder / "engine"
    checkpoint.mkdir()
    made.mkdir()
    entries: dict[str, Any] = {}
    data = b""
    for name, values in tensors.items():
        stored = values.astype(np.float16).tobytes()
        place = [len(data), len(data) + len(stored)]
        entries[name] = {"dtype": "F16", "shape": list(values.shape), "data_offsets": place}
        data += stored
    header = json.dumps(entries).encode()
    path = checkpoint / safetensors_file.SINGLE
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    file = IrFile()
    for name, values in engine.items():
        add(file, f"self.{name.removesuffix('.weight')}._openvino_orig_weight", values, precision)
    file.plain("rotary", np.arange(1, 17, dtype=np.float32).reshape(1, 16, 1))
    file.write(made)
    write_facts(made, precision, "llama")
    return made, checkpoint


def write_facts(engine: Path, precision: str, architecture: str) -> None:
    facts = {"precision": {"asked": precision}, "model": {"architecture": architecture}}
    (engine / "engine.json").write_text(json.dumps(facts))


def add(file: IrFile, name: str, values: np.ndarray, precision: str) -> None:
    if values.ndim == 1:
        file.plain("Constant_7", values.astype(np.float32).reshape(1, 1, -1))
    elif precision == "fp16":
        file.plain(name, values.astype(np.float16))
    elif precision == "bf16":
        file.bfloat16(name, values)
    elif precision == "int8":
        file.grouped(name, *asymmetric(values, 255))
    else:
        codes, scales, zeros = asymmetric(values, 15)
        file.grouped(name, codes, scales, zeros, packed="u4")


PRECISIONS = ["fp16", "bf16", "int8", "int4"]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("seed", range(4))
def test_honest_engine_is_within_what_its_quantiser_rounds(
    tmp_path: Path, precision: str, seed: int
) -> None:
    tensors = model(seed)
    found = openvino_weights.compare(*write(tmp_path, tensors, tensors, precision))
    assert found["problems"] == []
    assert found["tensors"] == found["compared"] == len(tensors)
    assert 0 <= found["worst"]["of_allowed"] <= 1


NAME = "model.layers.1.self_attn.v_proj.weight"
NORM = "model.layers.1.input_layernorm.weight"


def noise(tensors: Tensors) -> None:
    """Random values of the same size in 1 of 2048 of the weights of one matrix."""
    generator = np.random.default_rng(1)
    chosen = generator.choice(WIDTH * WIDTH, WIDTH * WIDTH // 2048, replace=False)
    tensors[NAME].reshape(-1)[chosen] = generator.normal(0, 0.05, len(chosen))


def norm(tensors: Tensors) -> None:
    tensors[NORM] *= 1.01


def heads(tensors: Tensors) -> None:
    size = WIDTH // HEADS
    tensors[NAME][: 2 * size] = np.roll(tensors[NAME][: 2 * size], size, 0)


def row(tensors: Tensors) -> None:
    tensors[NAME][7] = 0


def single(tensors: Tensors) -> None:
    tensors[NAME][7, 3] += 0.1


def layers(tensors: Tensors) -> None:
    other = NAME.replace(".1.", ".2.")
    tensors[NAME], tensors[other] = tensors[other], tensors[NAME]


def infinite(tensors: Tensors) -> None:
    tensors[NORM][3] = np.inf


DAMAGES = [noise, norm, heads, row, single, layers, infinite]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda one: one.__name__)
def test_damage_is_found_and_named(
    tmp_path: Path, precision: str, damage: Callable[[Tensors], None]
) -> None:
    tensors = model(5)
    engine = {name: values.copy() for name, values in tensors.items()}
    damage(engine)
    found = openvino_weights.compare(*write(tmp_path, tensors, engine, precision))
    assert found["problem_count"] > 0
    wrong = "layernorm" if damage in (norm, infinite) else NAME
    assert any(wrong in text for text in found["problems"])
    assert not [text for text in found["problems"] if "layers.0." in text and damage is not norm]


def test_a_damaged_scale_allows_nothing_more(tmp_path: Path) -> None:
    tensors = model(6)
    made, checkpoint = write(tmp_path, tensors, tensors, "int8")
    codes, scales, zeros = asymmetric(tensors[NAME], 255)
    scales[3, 1] *= 50
    file = IrFile()
    for name, values in tensors.items():
        plain = f"self.{name.removesuffix('.weight')}._openvino_orig_weight"
        if name == NAME:
            file.grouped(plain, codes, scales, zeros)
        else:
            add(file, plain, values, "int8")
    file.write(made)
    found = openvino_weights.compare(made, checkpoint)
    assert found["worst"]["tensor"] == NAME
    assert found["problem_count"] == 1


def test_tensor_that_the_engine_lacks_and_one_that_it_invents_are_named(tmp_path: Path) -> None:
    tensors = model(7)
    engine = {name: values for name, values in tensors.items() if name != NAME}
    engine["model.extra.weight"] = np.random.default_rng(1).normal(0, 1, (8, GROUP))
    found = openvino_weights.compare(*write(tmp_path, tensors, engine, "int8"))
    assert f"{NAME} is not in the engine" in found["problems"]
    assert any("none of the checkpoint's tensors" in text for text in found["problems"])


def test_matrices_without_names_are_told_apart_by_their_values_and_their_layers_order(
    tmp_path: Path,
) -> None:
    tensors = model(8)
    made, checkpoint = write(tmp_path, tensors, tensors, "int8")
    for order, problems in ((list(tensors), 0), (list(tensors)[::-1], 1)):
        file = IrFile()
        for name in order:
            add(file, "Constant_5", tensors[name], "int8")
        file.write(made)
        found = openvino_weights.compare(made, checkpoint)
        assert found["compared"] == len(tensors)
        assert (found["problem_count"] > 0) == bool(problems)


def test_transposed_matrix_is_compared_as_it_was(tmp_path: Path) -> None:
    name = "h.0.attn.c_attn.weight"
    values = np.random.default_rng(3).normal(0, 0.05, (WIDTH, 2 * WIDTH)).astype(np.float16)
    tensors = {name: values.astype(np.float32)}
    engine = {name: np.ascontiguousarray(tensors[name].T)}
    found = openvino_weights.compare(*write(tmp_path, tensors, engine, "fp16"))
    assert (found["problem_count"], found["worst"]["of_allowed"]) == (0, 0)


def normed(folder: Path, exchanged: int | None, layers: int, *, equal: bool = False) -> list[str]:
    """Problems of an engine whose layers have two norms without names, each before a matrix."""
    generator = np.random.default_rng(11)
    tensors: Tensors = {}
    file = IrFile()
    for number in range(layers):
        norms = [np.ones(WIDTH) if equal else generator.uniform(0.5, 1.5, WIDTH) for _ in range(2)]
        norms = [one.astype(np.float16).astype(np.float32) for one in norms]
        prefix = f"model.layers.{number}"
        written = norms[::-1] if number == exchanged else norms
        for at, name in enumerate(("mlp", "self_attn")):
            tensors[f"{prefix}.{name}_norm.weight"] = norms[at]
            matrix = generator.normal(0, 1, (WIDTH, 8)).astype(np.float16).astype(np.float32)
            tensors[f"{prefix}.{name}.weight"] = matrix
            scaled = file.node("Multiply", 0, file.constant("Constant_7", written[at]))
            plain = file.constant(f"self.{prefix}.{name}._openvino_orig_weight", matrix)
            file.node("MatMul", scaled, plain)
            # What computes the mask of all layers from the shape in the first one.
            if number == 0:
                file.node("Gather", file.node("ShapeOf", scaled))
    made, checkpoint = write(folder, tensors, {}, "fp16")
    file.write(made)
    found = openvino_weights.compare(made, checkpoint)
    assert found["compared"] == len(tensors)
    return list(found["problems"])


@pytest.mark.parametrize("exchanged", [0, 2, 3])
def test_norms_of_one_layer_that_were_exchanged_are_named(tmp_path: Path, exchanged: int) -> None:
    prefix = f"model.layers.{exchanged}"
    assert normed(tmp_path, exchanged, 4) == [
        f"{prefix}.mlp_norm.weight and {prefix}.self_attn_norm.weight are in each other's place"
    ]


@pytest.mark.parametrize("equal", [False, True])
def test_norms_in_their_places_are_no_problem(tmp_path: Path, equal: bool) -> None:  # noqa: FBT001
    assert normed(tmp_path, None, 4, equal=equal) == []


@pytest.mark.parametrize("prefix", ["self.", "self.model.", "model.", ""])
@pytest.mark.parametrize("kind", ["weight", "bias"])
def test_named_tensor_is_that_of_its_name_also_if_its_values_are_of_another(
    tmp_path: Path, prefix: str, kind: str
) -> None:
    """An exporter puts modules around the model; weights and biases are named alike."""
    generator = np.random.default_rng(3)
    names = [f"h.{number}.dense.{kind}" for number in range(2)]
    tensors = {name: generator.normal(0, 1, (WIDTH, 2)).astype(np.float16) for name in names}
    file = IrFile()
    for name, values in zip(names, reversed(tensors.values()), strict=True):  # exchanged
        file.plain(f"{prefix}{name.removesuffix(kind)}_openvino_orig_{kind}", values)
    made, checkpoint = write(tmp_path, tensors, {}, "fp16")
    write_facts(made, "fp16", "no family that was measured")
    file.write(made)
    found = openvino_weights.compare(made, checkpoint)
    assert found["compared"] == found["problem_count"] == 2
    assert all(name in text for name, text in zip(names, found["problems"], strict=True))


@pytest.mark.parametrize(("architecture", "precision"), [("gemma", "int8"), ("gpt2", "int4")])
@pytest.mark.parametrize(("damaged", "problems"), [(False, 0), (True, 1)])
def test_of_a_family_or_precision_that_was_not_measured_only_named_tensors_are_held(
    tmp_path: Path,
    architecture: str,
    precision: str,
    damaged: bool,  # noqa: FBT001
    problems: int,
) -> None:
    tensors = model(9)
    engine = {name: values.copy() for name, values in tensors.items()}
    engine[NORM] += 1  # as an exporter of Gemma may write it, under no name
    if damaged:
        row(engine)
    made, checkpoint = write(tmp_path, tensors, engine, precision)
    write_facts(made, precision, architecture)
    found = openvino_weights.compare(made, checkpoint)
    assert found["problem_count"] == problems
    assert found["compared"] == len(tensors) - LAYERS


def test_folder_that_is_no_engine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(openvino_weights.WeightsError, match=r"engine\.json"):
        openvino_weights.compare(tmp_path, tmp_path)
