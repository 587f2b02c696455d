"""What a bundle computes on, and what follows for sensors, power and its server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from forge.device.hardware.compute_target import CPU, ComputeTarget, idle_target, target_of
from forge.device.hardware.facts import Facts
from forge.device.hardware.inventory import Hardware, parse
from forge.profiles import MatchSection, Profile

Machine = Callable[[str], Hardware]
RTX = "NVIDIA RTX PRO 4000 Blackwell, 24467, 590.44.01, 12.0, GPU-rtx\n"
G5090 = "NVIDIA GeForce RTX 5090, 32607, 590.44.01, 12.0, GPU-5090\n"
P40 = "Tesla P40, 24576, 580.126.09, 6.1, GPU-p40\n"
THOR = "NVIDIA Thor, [N/A], 595.78, 11.0, GPU-thor\n"
ADA = "NVIDIA RTX 6000 Ada Generation, 49140, 595.78, 8.9, GPU-ada\n"
NO_RULES = MatchSection.model_validate({})


def machine_of(rows: str, machine: str = "x86_64", **said: Any) -> Hardware:
    return parse(Facts(machine, "6.8", smi_gpus=rows, meminfo="MemTotal: 65536000 kB", **said))


def of(profile: Profile, hardware: Hardware, gpu: str | None = None) -> ComputeTarget:
    section = profile.hardware
    return target_of(section.match, section.compute_capability, hardware, gpu)


@pytest.mark.parametrize("rows", [RTX + G5090, G5090 + RTX])
def test_of_two_unlike_gpus_it_is_the_one_that_the_profile_matches(
    shipped: dict[str, Profile], rows: str
) -> None:
    target = of(shipped["rtx-pro-4000"], machine_of(rows))
    assert target.gpu is not None
    assert (target.on, target.gpu.name) == ("card", "NVIDIA RTX PRO 4000 Blackwell")
    assert target.environment == {"CUDA_VISIBLE_DEVICES": "GPU-rtx"}


def test_a_profile_without_rules_takes_the_capability_then_the_memory() -> None:
    hardware = machine_of(P40 + RTX + G5090)
    target = target_of(NO_RULES, "12.0", hardware)
    assert target.gpu is not None
    assert target.gpu.uuid == "GPU-5090"
    chosen = target_of(NO_RULES, "12.0", hardware, "GPU-rtx")
    assert chosen.environment == {"CUDA_VISIBLE_DEVICES": "GPU-rtx"}


def test_a_bundle_for_the_cpu_is_on_the_cpu_whatever_the_machine_has() -> None:
    target = target_of(
        MatchSection.model_validate({"gpu_name": "*Tesla P40"}), None, machine_of(P40)
    )
    assert target == CPU
    assert (target.zones_decide, target.asks_smi, target.environment) == (True, False, {})


def test_a_jetsons_own_gpu_shares_its_zones_and_needs_no_name(
    machine: Machine, shipped: dict[str, Profile]
) -> None:
    target = of(shipped["jetson-agx-thor"], machine("thor-jetpack-7.2"))
    assert (target.on, target.tegra, target.zones_decide, target.asks_smi) == (
        "soc", True, True, False,
    )  # fmt: skip
    assert target.environment == {}


@pytest.mark.parametrize("rows", [THOR + ADA, ADA + THOR])
def test_a_thor_with_a_card_keeps_its_bundles_apart(shipped: dict[str, Profile], rows: str) -> None:
    tree: dict[str, Any] = {
        "device_tree_compatible": "nvidia,p3834-0008\0nvidia,tegra264\0",
        "device_tree_model": "NVIDIA Jetson AGX Thor Developer Kit\0",
    }
    hardware = parse(
        Facts("aarch64", "6.8", smi_gpus=rows, meminfo="MemTotal: 128790528 kB", **tree)
    )
    own = of(shipped["jetson-agx-thor"], hardware)
    assert own.gpu is not None
    assert (own.on, own.tegra, own.gpu.uuid) == ("soc", True, "GPU-thor")
    assert hardware.memory_of(own.gpu) == hardware.memory_mib
    assert own.environment == {"CUDA_VISIBLE_DEVICES": "GPU-thor"}  # another GPU is there
    card = target_of(MatchSection.model_validate({"gpu_name": "*6000 Ada*"}), "8.9", hardware)
    assert card.gpu is not None
    assert (card.on, card.zones_decide, card.asks_smi) == ("card", False, True)
    assert hardware.memory_of(card.gpu) == 49140
    assert card.environment == {"CUDA_VISIBLE_DEVICES": "GPU-ada"}


def test_a_gpu_in_a_chip_that_is_no_jetson_is_in_nvidia_smi_and_has_the_machines_memory() -> None:
    hardware = machine_of("NVIDIA GB10, [N/A], 580.95.05, 12.1, GPU-gb10", "aarch64")
    target = target_of(NO_RULES, "12.1", hardware)
    assert (target.on, target.tegra, target.zones_decide, target.asks_smi) == (
        "soc", False, True, True,
    )  # fmt: skip
    assert hardware.memory_of(target.gpu) == hardware.memory_mib


def test_a_slice_is_given_to_the_server_by_its_own_uuid() -> None:
    rows = "NVIDIA RTX PRO 6000, 97887, 590.1, 12.0, GPU-aa, Enabled\n"
    listed = "GPU 0: NVIDIA RTX PRO 6000 (UUID: GPU-aa)\n  MIG 1g.24gb Device  0: (UUID: MIG-1)\n"
    target = target_of(NO_RULES, "12.0", machine_of(rows, smi_list=listed))
    assert target.environment == {"CUDA_VISIBLE_DEVICES": "MIG-1"}
    assert target.is_of("GPU-aa", 5)
    assert not target.is_of("GPU-bb", 0)


def test_a_gpu_that_is_not_known_now_is_still_no_cpu() -> None:
    silent = parse(Facts("x86_64", "6.8", smi_state="failed"))
    target = target_of(NO_RULES, "12.0", silent)
    assert (target.on, target.gpu, target.environment) == ("card", None, {})
    assert target.is_of("GPU-any", 3)


def test_no_other_gpu_takes_the_place_of_one_that_is_lost(shipped: dict[str, Profile]) -> None:
    lost = machine_of(G5090).model_copy(update={"complete": False})
    assert of(shipped["rtx-pro-4000"], lost).gpu is None
    by_hand = of(shipped["rtx-pro-4000"], machine_of(G5090))  # fit decides: a person named it
    assert by_hand.gpu is not None


def test_rows_without_a_uuid_are_told_by_their_number() -> None:
    target = target_of(NO_RULES, "6.1", machine_of("Tesla P40, 24576, 418.1, 6.1\n"))
    assert target.is_of(None, 0)
    assert not target.is_of(None, 1)


def test_while_nothing_serves_the_machines_own_gpu_is_reported() -> None:
    assert idle_target(machine_of(RTX)).on == "card"
    assert idle_target(machine_of("")) == CPU
    tree = {"device_tree_compatible": "nvidia,tegra264\0"}
    assert idle_target(machine_of(THOR, "aarch64", **tree)).tegra
