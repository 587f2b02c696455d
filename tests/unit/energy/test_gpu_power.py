"""What a cell of power.draw means."""

from __future__ import annotations

import pytest

from forge.energy.gpu_power import gpu_power, parse_watts
from forge.energy.power_reading import RailPower


def test_a_gpu_that_says_its_power() -> None:
    found = gpu_power("27.81", "NVIDIA RTX PRO 4000 Blackwell")
    assert (found.watts, found.source, found.problem) == (27.81, "nvidia-smi", "")
    assert (found.scope, found.is_mean) == ("NVIDIA RTX PRO 4000 Blackwell", False)
    assert found.rails == (RailPower("gpu", 27.81),)


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("[N/A]", "Orin (nvgpu) does not report its power"),
        ("[Not Supported]", "Orin (nvgpu) does not report its power"),
        ("N/A", "Orin (nvgpu) does not report its power"),
        ("[Unknown Error]", "the power of Orin (nvgpu) now: [Unknown Error]"),
        ("[GPU requires reset]", "the power of Orin (nvgpu) now: [GPU requires reset]"),
        ("ERR!", "the power of Orin (nvgpu) now: ERR!"),
        ("", "the power of Orin (nvgpu) now: no text"),
        ("27.81 W", "the power of Orin (nvgpu) now: 27.81 W"),
        (None, "nvidia-smi says nothing about the power of Orin (nvgpu)"),
    ],
)
def test_a_cell_without_watts_is_not_known_and_is_not_zero(cell: str | None, why: str) -> None:
    found = gpu_power(cell, "Orin (nvgpu)")
    assert found.watts is None
    assert found.problem.endswith(why)


def test_a_slice_has_no_power_of_its_own() -> None:
    found = gpu_power("310.20", "NVIDIA H200 MIG 1g.18gb", is_slice=True)
    assert found.watts is None
    assert "includes the other slices" in found.problem
    assert found.rails == (RailPower("gpu", 310.2),)  # of the whole GPU, shown only


@pytest.mark.parametrize(
    ("cell", "watts"),
    [("0.00", 0.0), (" 699.98 ", 699.98), ("70", 70.0), ("5000.01", None), ("-1", None),
     ("1e3", None), ("nan", None), ("٣", None), ("1234567", None)],
)  # fmt: skip
def test_watts_of_a_cell(cell: str, watts: float | None) -> None:
    assert parse_watts(cell) == watts
