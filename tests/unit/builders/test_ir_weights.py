"""The weights that are read from IR, against the values that were written."""

from __future__ import annotations

from pathlib import Path

import ir_weights
import numpy as np
import pytest

from tests.support.ir_files import IrFile


def read(file: IrFile, folder: Path) -> list[ir_weights.Weight]:
    file.write(folder)
    return list(ir_weights.Ir(folder / "openvino_model.xml").weights())


def test_weight_is_what_the_runtime_multiplies_with(tmp_path: Path) -> None:
    codes = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    scales = np.array([0.5, 1, 2, 3, 4, 8], np.float16).reshape(2, 3, 1)
    zeros = np.array([0, 1, 2, 3, 4, 5], np.uint8).reshape(2, 3, 1)
    file = IrFile()
    file.grouped("w", codes, scales, zeros)
    (weight,) = read(file, tmp_path)
    exact = [
        [
            (int(codes[row, at // 4, at % 4]) - int(zeros[row, at // 4, 0]))
            * float(scales[row, at // 4, 0])
            for at in range(12)
        ]
        for row in range(2)
    ]
    assert weight.load().tolist() == exact
    assert (weight.kind, weight.stored, weight.groups) == ("u8", (2, 3, 4), (2, 3, 1))
    assert not weight.centred


@pytest.mark.parametrize(
    ("packed", "values"), [("u4", range(16)), ("i4", [*range(8), *range(-8, 0)])]
)
def test_two_values_of_4_bits_are_in_a_byte_the_lower_first(
    tmp_path: Path, packed: str, values: range | list[int]
) -> None:
    file = IrFile()
    codes = np.array(list(values), np.int8).reshape(1, 1, 16)
    file.grouped("w", codes, np.ones((1, 1, 1), np.float16), packed=packed)
    (weight,) = read(file, tmp_path)
    assert weight.load().tolist() == [list(values)]
    assert weight.centred


def test_floating_numbers_of_all_widths_are_read(tmp_path: Path) -> None:
    values = np.array([[0.5, -1.5, 3, 448]], np.float32)
    file = IrFile()
    file.plain("a", values)
    file.plain("b", values.astype(np.float16))
    file.bfloat16("c", values)
    found = read(file, tmp_path)
    assert [one.kind for one in found] == ["f32", "f16", "bf16"]
    assert all(one.load().tolist() == values.tolist() for one in found)


def test_shapes_numbers_and_single_values_are_no_weights(tmp_path: Path) -> None:
    file = IrFile()
    file.node("Gather", 0, file.constant("axis", np.array([1, 2], np.int64)))
    file.node("Add", 0, file.constant("epsilon", np.array([1e-5], np.float32)))
    assert read(file, tmp_path) == []


def test_operation_that_is_not_known_is_not_taken_for_a_weight(tmp_path: Path) -> None:
    file = IrFile()
    inner = file.constant("w", np.ones((2, 2), np.float32))
    file.node("MatMul", 0, file.node("Sin", inner))
    (weight,) = read(file, tmp_path)  # what Sin reads
    assert weight.load().tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("damage", ["xml", "bin", "no bin"])
def test_damaged_ir_is_refused(tmp_path: Path, damage: str) -> None:
    file = IrFile()
    file.plain("a", np.ones((4, 4), np.float32))
    file.write(tmp_path)
    path = tmp_path / ("openvino_model.xml" if damage == "xml" else "openvino_model.bin")
    data = path.read_bytes()
    path.unlink()
    if damage != "no bin":
        path.write_bytes(data[:-8])
    with pytest.raises(ir_weights.IrError):
        [one.load() for one in ir_weights.Ir(tmp_path / "openvino_model.xml").weights()]
