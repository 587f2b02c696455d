"""The rules of a profile held against a machine: yes, no, or not known now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from forge.device.hardware.facts import Facts
from forge.device.hardware.gpus import Gpu
from forge.device.hardware.inventory import Hardware, parse
from forge.device.hardware.match_rules import best, judge
from forge.profiles import MatchSection

Machine = Callable[[str], Hardware]
RTX = "NVIDIA RTX PRO 4000 Blackwell, 24467, 590.44.01, 12.0, GPU-rtx\n"
P40 = "Tesla P40, 24576, 580.126.09, 6.1, GPU-p40\n"


def match(**wanted: Any) -> MatchSection:
    return MatchSection.model_validate(wanted)


def with_gpus(rows: str, **said: Any) -> Hardware:
    return parse(Facts("x86_64", "6.8", smi_gpus=rows, meminfo="MemTotal: 65536000 kB", **said))


def test_rules_about_the_gpu_must_hold_for_one_gpu(machine: Machine) -> None:
    hardware = machine("rtx-and-p40")
    found = judge(match(gpu_name="Tesla*", compute_capability="12.0"), hardware)
    assert found.holds == "no"
    found = judge(match(gpu_name="Tesla*", compute_capability="6.1"), hardware)
    assert found.holds == "yes"
    assert found.reasons == ("gpu_name is Tesla P40", "compute_capability is 6.1")
    assert found.gpu is not None
    assert found.gpu.name == "Tesla P40"


def test_an_empty_match_recognises_nothing(machine: Machine) -> None:
    found = judge(match(), machine("rtx-pro-4000"))
    assert (found.holds, found.by_name) == ("no", True)


@pytest.mark.parametrize("cell", ["[GPU requires reset]", "[Unknown Error]", "ERR!"])
def test_memory_that_is_not_known_neither_holds_nor_contradicts(cell: str) -> None:
    rules = match(gpu_name="NVIDIA RTX PRO 4000*", memory_mib_min=23000)
    found = judge(rules, with_gpus(f"NVIDIA RTX PRO 4000 Blackwell, {cell}, 590.44.01, 12.0"))
    assert (found.holds, found.reasons) == ("unknown", ("memory_mib is not known now",))


def test_what_is_known_not_to_hold_decides_before_what_is_not_known() -> None:
    rules = match(gpu_name="Tesla P40", memory_mib_min=23000)
    found = judge(rules, with_gpus("NVIDIA RTX PRO 4000 Blackwell, ERR!, 590.44.01, 12.0"))
    assert found.holds == "no"
    assert found.reasons == ("gpu_name is NVIDIA RTX PRO 4000 Blackwell, not Tesla P40",)


def test_a_driver_that_does_not_answer_contradicts_nothing() -> None:
    silent = parse(Facts("x86_64", "6.8", smi_state="failed"))
    found = judge(match(gpu_name="Tesla P40", memory_mib_min=1), silent)
    assert found.holds == "unknown"
    gone = parse(Facts("x86_64", "6.8"))
    assert judge(match(gpu_name="Tesla P40"), gone).holds == "no"


def test_a_lost_gpu_may_be_the_one_that_is_meant() -> None:
    assert judge(match(gpu_name="Tesla P40"), with_gpus(RTX)).holds == "no"
    assert judge(match(gpu_name="Tesla P40"), with_gpus(RTX, smi_complete=False)).holds == "unknown"
    assert judge(match(gpu_name="NVIDIA RTX*"), with_gpus(RTX, smi_complete=False)).holds == "yes"


def test_of_several_that_match_it_is_the_one_with_most_memory_then_the_first_by_bus() -> None:
    rows = "Tesla P40, 22919, 580.1, 6.1, GPU-a\n" + P40 + P40.replace("GPU-p40", "GPU-z")
    found = judge(match(gpu_name="Tesla P40"), with_gpus(rows))
    assert found.gpu is not None
    assert found.gpu.uuid == "GPU-p40"
    hardware = with_gpus(rows)
    chosen = best(list(hardware.gpus), hardware)
    assert chosen is not None
    assert chosen.uuid == "GPU-p40"
    assert best([], hardware) is None


def test_a_gpu_that_a_person_names_is_the_only_one_that_counts() -> None:
    hardware = with_gpus(RTX + P40)
    rules = match(gpu_name="Tesla P40")
    for name in ("GPU-rtx", "0"):
        assert judge(rules, hardware, name).holds == "no"
    for name in ("GPU-p40", "GPU-p", "1"):
        assert judge(rules, hardware, name).holds == "yes"


PARTS = [
    "NVIDIA RTX PRO 6000 Blackwell DC-24Q, 24576, 590.1, 12.0, GPU-1",
    "GRID P40-24Q, 24576, 580.1, 6.1, GPU-1",
]


@pytest.mark.parametrize("row", PARTS)
def test_a_part_of_a_gpu_is_matched_only_by_a_name_that_names_it(row: str) -> None:
    hardware = with_gpus(row)
    name = hardware.gpus[0].name or ""
    whole = name[: name.rindex("-")]
    assert judge(match(gpu_name=f"{whole}*"), hardware).holds == "no"
    assert judge(match(gpu_name="*"), hardware).holds == "no"
    assert judge(match(gpu_name=name), hardware).holds == "yes"
    assert judge(match(gpu_name="*-24Q"), hardware).holds == "yes"
    capability = hardware.gpus[0].compute_capability
    assert judge(match(compute_capability=capability), hardware).holds == "no"


def test_a_tree_that_a_container_hides_is_made_up_for_by_the_chip() -> None:
    rules = match(device_tree_model="NVIDIA Jetson AGX Thor*",
                  device_tree_compatible="nvidia,tegra264", memory_mib_min=98304)  # fmt: skip
    thor = "NVIDIA Thor, [N/A], 595.78, 11.0"
    large = parse(Facts("aarch64", "6.8", meminfo="MemTotal: 128790528 kB", smi_gpus=thor))
    found = judge(rules, large)
    assert found.holds == "yes"
    assert "device_tree_model is not known now" in found.reasons
    small = parse(Facts("aarch64", "6.8", meminfo="MemTotal: 64000000 kB", smi_gpus=thor))
    assert judge(rules, small).holds == "no"
    other = parse(Facts("aarch64", "6.8", meminfo="MemTotal: 128790528 kB",
                        smi_gpus="Orin (nvgpu), [N/A], 595.78, 8.7"))  # fmt: skip
    assert judge(rules, other).holds == "no"


def test_a_rule_about_a_tree_does_not_hold_where_there_is_none() -> None:
    assert judge(match(device_tree_model="*"), with_gpus(RTX)).holds == "no"
    assert judge(match(tnspec="*"), with_gpus(RTX)).holds == "no"


def test_limits_of_memory_are_both_included() -> None:
    hardware = with_gpus(RTX)
    assert judge(match(memory_mib_min=24467, memory_mib_max=24467), hardware).holds == "yes"
    found = judge(match(memory_mib_min=24468), hardware)
    assert found.reasons == ("memory_mib is 24467, not at least 24468",)
    assert judge(match(memory_mib_max=24466), hardware).holds == "no"


def test_a_gpu_says_its_name() -> None:
    assert str(Gpu(name=None, memory_mib=1, compute_capability=None)) == "a GPU of unknown name"
