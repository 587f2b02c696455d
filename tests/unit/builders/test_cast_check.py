"""Weights that another type cannot hold are named."""

from pathlib import Path

import numpy as np
import pytest
from cast_check import CastError, check_tensors, check_values, from_bfloat16, to_bfloat16
from safetensors_file import Planned, read_folder, write

USUAL = np.random.default_rng(0).normal(0, 0.02, 4096).astype(np.float32)


@pytest.mark.parametrize("target", ["F16", "BF16"])
def test_usual_weights_survive_though_some_are_below_the_least_normal_number(target: str) -> None:
    values = USUAL.copy()
    values[:8] = 1e-9
    check_values("w", [values], target)


@pytest.mark.parametrize(
    ("values", "target", "message"),
    [
        ([1e5], "F16", "w has the value 100000, which fp16 has not"),
        ([-1e5, 0.1], "F16", "w has the value 100000, which fp16 has not"),
        ([65519.0], "F16", ""),
        ([65520.0], "F16", "which fp16 has not"),
        ([1e5], "BF16", ""),
        ([3.4e38], "BF16", "which bf16 has not"),
        ([float("nan"), 1.0], "F16", "w has NaN"),
        ([float("nan"), 1.0], None, "w has NaN"),
        ([float("-inf")], None, "w has infinite values"),
        ([1e5], None, ""),
        ([1e-7] * 64, "F16", "w has values that are too small for fp16"),
        ([1e-9] * 64, "F16", "w has values that are too small for fp16"),
        ([1e-9] * 64, "BF16", ""),
        ([0.0] * 64, "F16", ""),
    ],
)
def test_what_does_not_survive_is_named(
    values: list[float], target: str | None, message: str
) -> None:
    chunks = [np.array(values, np.float32)]
    if not message:
        check_values("w", chunks, target)
        return
    with pytest.raises(CastError) as caught:
        check_values("w", chunks, target)
    assert message in str(caught.value)


def test_small_values_in_one_part_do_not_hide_behind_another_part() -> None:
    check_values("w", [np.full(64, 1e-9, np.float32), USUAL], "F16")
    with pytest.raises(CastError):
        check_values("w", [USUAL, np.array([1e9], np.float32)], "F16")


def test_bfloat16_is_rounded_to_the_nearest_ties_to_even() -> None:
    values = np.array([1.0, 1.00390625, 1.01171875, -2.5, 0.0], np.float32)
    assert from_bfloat16(to_bfloat16(values)).tolist() == [1.0, 1.0, 1.015625, -2.5, 0.0]


def test_tensors_of_a_file_are_read_by_their_type(tmp_path: Path) -> None:
    big = np.array([[1e5, 1.0]], np.float32)
    planned = [Planned("small", "F16", (2,)), Planned("big", "BF16", (1, 2)),
               Planned("ids", "I64", (1,))]  # fmt: skip
    data = [np.ones(2, np.float16).tobytes(), to_bfloat16(big).tobytes(), bytes(8)]
    write(tmp_path, planned, data)
    tensors = read_folder(tmp_path).values()
    check_tensors(tensors, None)
    check_tensors(tensors, "BF16")
    with pytest.raises(CastError, match="big has the value 99840"):
        check_tensors(tensors, "F16")
