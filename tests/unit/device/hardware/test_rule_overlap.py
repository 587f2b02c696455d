"""Two profiles that one machine can match: decided over their rules."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from forge.device.hardware.match_rules import judge
from forge.device.hardware.rule_overlap import machine_of_both, overlapping, phrase
from forge.profiles import MatchSection, Profile
from tests.support.captured import BOARDS, machine_of

RTX = {"gpu_name": "NVIDIA RTX PRO 4000 Blackwell*", "compute_capability": "12.0"}


def match(**rules: Any) -> MatchSection:
    return MatchSection.model_validate(rules)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (RTX, RTX),
        (RTX, {"gpu_name": "*SFF*"}),
        (RTX, {"compute_capability": "12.0"}),
        (RTX, {"memory_mib_min": 24_000}),
        (RTX, {"gpu_name": "*Tesla P40"}),  # as tesla-p40.yaml had it
        (RTX, {"device_tree_compatible": "nvidia,tegra264"}),  # a Thor with that card
        ({"memory_mib_max": 100}, {"memory_mib_min": 100}),
        # A list: a board has its module and its chip.
        ({"device_tree_compatible": "nvidia,p3834-0008"},
         {"device_tree_compatible": "nvidia,tegra264"}),
        ({"device_tree_model": "*Orin*"}, {"device_tree_model": "NVIDIA Jetson*"}),
        ({"tnspec": "*-t4000-*"}, {"device_tree_model": "NVIDIA*"}),
    ],
)  # fmt: skip
def test_rules_that_one_machine_can_meet(one: dict[str, Any], other: dict[str, Any]) -> None:
    found = machine_of_both(match(**one), match(**other))
    assert found is not None
    assert judge(match(**one), found).holds == judge(match(**other), found).holds == "yes"
    assert machine_of_both(match(**other), match(**one)) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (RTX, RTX | {"gpu_name": "NVIDIA RTX PRO 6000*"}),
        (RTX, {"compute_capability": "12.1"}),
        (RTX, {"gpu_name": "nvidia rtx pro 4000 blackwell"}),
        (RTX | {"memory_mib_min": 23_000}, RTX | {"memory_mib_max": 22_999}),
        ({"device_tree_compatible": "nvidia,tegra264"},
         {"device_tree_compatible": "nvidia,tegra234"}),
        ({"tnspec": "*-t4000"}, {"tnspec": "*-devkit"}),
        ({"device_tree_model": "*Orin"}, {"device_tree_model": "*Thor"}),
        (RTX, {}),  # chosen by name only
        ({}, {}),
        # A part of a GPU, which a rule about the whole one does not match.
        ({"gpu_name": "NVIDIA RTX PRO 6000*"}, {"gpu_name": "NVIDIA RTX PRO 6000 DC-24Q"}),
        ({"gpu_name": "NVIDIA H100*"}, {"gpu_name": "NVIDIA H100 MIG 1g.10gb"}),
        ({"compute_capability": "6.1"}, {"gpu_name": "GRID P40-24Q"}),
    ],
)  # fmt: skip
def test_rules_that_contradict_each_other(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert machine_of_both(match(**one), match(**other)) is None
    assert machine_of_both(match(**other), match(**one)) is None


def test_no_two_shipped_profiles_match_one_machine(shipped: dict[str, Profile]) -> None:
    assert list(overlapping(shipped)) == []


def test_a_copy_of_a_profile_is_found_under_both_names(shipped: dict[str, Profile]) -> None:
    copies = {"mine": shipped["jetson-agx-thor"], "yours": shipped["jetson-agx-thor"]}
    [(first, second, machine)] = overlapping(copies)
    section = copies["mine"].hardware.match
    assert (first, second) == ("mine", "yours")
    assert phrase(machine, section) == (
        "compute capability 11.0, model 'NVIDIA Jetson AGX Thor', compatible nvidia,tegra264,"
        " 98304 MiB"
    )


def test_profiles_of_two_platforms_never_meet(shipped: dict[str, Profile]) -> None:
    other = shipped["tesla-p40"].model_copy(update={"platform": "linux/arm64"})
    assert list(overlapping({"a": shipped["tesla-p40"], "b": other})) == []


def test_what_two_rules_match_among_captured_boards_is_found(shipped: dict[str, Profile]) -> None:
    """No board matches two sections of which it was said that no machine does."""
    sections = [one.hardware.match for one in shipped.values()]
    sections += [match(**RTX), match(gpu_name="*Tesla P40"), match(memory_mib_min=60_000),
                 match(device_tree_compatible="nvidia,tegra264"), match(tnspec="*t4000*"),
                 match(compute_capability="12.0"), match(gpu_name="NVIDIA*")]  # fmt: skip
    both = 0
    for name in BOARDS:
        machine = machine_of(name)
        for gpu in machine.gpus:
            one_gpu = machine.model_copy(update={"gpus": (gpu,)})
            for first, second in combinations(sections, 2):
                if judge(first, one_gpu).holds == judge(second, one_gpu).holds == "yes":
                    both += 1
                    assert machine_of_both(first, second) is not None, (name, first, second)
    assert both > 20
