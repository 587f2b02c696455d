"""Which GPU the benchmark runs on."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from forge.smoke.gpu_choice import ChosenGpu, GpuWanted, choose, is_choice_row, parse

P40 = ("0", "GPU-aa", "Tesla P40", "590.44.01", "23040", "6.1", "[N/A]")
PRO = ("1", "GPU-bb", "NVIDIA RTX PRO 4000 Blackwell", "590.44.01", "24467", "12.0", "Disabled")
RTX = ("2", "GPU-cc", "NVIDIA GeForce RTX 5090", "590.44.01", "32607", "12.0", "[N/A]")
SLICED = ("0", "GPU-dd", "NVIDIA H200", "590.44.01", "143771", "9.0", "Enabled")
ORIN = ("0", "[N/A]", "Orin (nvgpu)", "540.4.0", "[N/A]", "8.7", "[N/A]")
WANTED = GpuWanted("12.0", "NVIDIA RTX PRO 4000 Blackwell*")


def chosen(
    *rows: tuple[str, ...],
    wanted: GpuWanted = WANTED,
    environment: Mapping[str, str] | None = None,
    tegra: bool = False,
) -> ChosenGpu:
    return choose(wanted, parse(rows), environment or {}, tegra=tegra)


def uuid(found: ChosenGpu) -> str | None:
    return found.gpu.uuid if found.gpu else None


def test_the_profile_s_name_and_capability_choose_before_size() -> None:
    found = chosen(P40, PRO, RTX)
    assert (uuid(found), found.on) == ("GPU-bb", "card")
    assert found.environment == {"CUDA_VISIBLE_DEVICES": "GPU-bb"}
    assert found.is_of("7", "GPU-bb")
    assert not found.is_of("1", "GPU-cc")


def test_without_a_name_that_matches_the_most_memory_then_the_bus_decides() -> None:
    assert uuid(chosen(P40, PRO, RTX, wanted=GpuWanted("12.0", "Other"))) == "GPU-cc"
    twin = ("3", "GPU-ee", *RTX[2:])
    assert uuid(chosen(twin, RTX, wanted=GpuWanted("12.0"))) == "GPU-ee"


def test_a_cpu_profile_needs_none_of_the_gpus() -> None:
    assert chosen(P40, wanted=GpuWanted(None)) == ChosenGpu("cpu")


def test_a_gpu_that_is_not_here_is_not_replaced() -> None:
    found = chosen(P40)
    assert (found.on, found.gpu) == ("unknown", None)
    assert found.problem == "no GPU here has compute capability 12.0"
    assert chosen().problem == "nvidia-smi lists no GPU"


def test_an_old_driver_does_not_know_the_capability() -> None:
    assert uuid(chosen(P40[:5], wanted=GpuWanted("6.1", "Tesla P40"))) == "GPU-aa"


@pytest.mark.parametrize(
    ("environment", "expected", "problem"),
    [
        ({"CUDA_VISIBLE_DEVICES": "GPU-cc"}, "GPU-cc", ""),
        ({"CUDA_VISIBLE_DEVICES": "GPU-c,GPU-bb"}, "GPU-cc", ""),
        ({"CUDA_VISIBLE_DEVICES": "1"}, None, "counts by speed"),
        ({"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, "GPU-bb", ""),
        ({"CUDA_VISIBLE_DEVICES": "9", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, None, "names none"),
        ({"CUDA_VISIBLE_DEVICES": ""}, None, "names none"),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, None, "names none"),
        ({"CUDA_VISIBLE_DEVICES": "GPU-"}, None, "names none"),  # of three GPUs
    ],
)
def test_what_the_environment_names_counts_and_is_inherited(
    environment: dict[str, str], expected: str | None, problem: str
) -> None:
    found = chosen(P40, PRO, RTX, environment=environment)
    assert uuid(found) == expected
    assert problem in found.problem
    assert bool(found.problem) == bool(problem)
    assert found.environment is None


def test_a_number_names_the_only_gpu() -> None:
    assert uuid(chosen(PRO, environment={"CUDA_VISIBLE_DEVICES": "0"})) is None
    only = ("0", *PRO[1:])
    assert uuid(chosen(only, environment={"CUDA_VISIBLE_DEVICES": "0"})) == "GPU-bb"


def test_slices_are_slices() -> None:
    found = chosen(SLICED, wanted=GpuWanted("9.0"))
    assert (found.is_slice, found.environment) == (True, None)
    found = chosen(SLICED, environment={"CUDA_VISIBLE_DEVICES": "MIG-1"})
    assert (uuid(found), found.is_slice) == ("GPU-dd", True)
    two = chosen(
        SLICED, ("1", "GPU-ee", *SLICED[2:]), environment={"CUDA_VISIBLE_DEVICES": "MIG-1"}
    )
    assert (two.gpu, two.is_slice) == (None, True)
    assert "names none" in two.problem


def test_a_gpu_in_the_chip_needs_no_choice() -> None:
    found = chosen(ORIN, wanted=GpuWanted("8.7"), tegra=True)
    assert (found.on, found.environment) == ("soc", None)
    assert found.is_of("0", "[N/A]")
    assert chosen(wanted=GpuWanted("8.7"), tegra=True).on == "soc"  # no nvidia-smi


def test_a_profile_whose_hardware_is_not_given() -> None:
    unknown = GpuWanted(is_known=False)
    assert uuid(chosen(PRO, wanted=unknown)) == "GPU-bb"
    assert chosen(wanted=unknown).on == "cpu"


def test_a_sentence_is_no_row() -> None:
    assert not is_choice_row(("Warning: infoROM is corrupted at gpu 0000:01:00.0",))
    assert not is_choice_row(("x", "a", "b", "c", "d"))
    assert is_choice_row(PRO)
