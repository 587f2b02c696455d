"""Which profile a captured board gets, why, why not the others, and what does not fit."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from forge.device.hardware.capture import Capture, hardware_of
from forge.device.hardware.facts import OLD_GPU_QUERY, Answer
from forge.device.hardware.inventory import Hardware
from forge.device.hardware.profile_check import check_hardware
from forge.errors import UsageError
from forge.profiles import Profile
from tests.support.captured import BOARDS

QUERY = "--query-gpu=name,memory.total,driver_version,compute_cap,uuid,mig.mode.current"
Machine = Callable[[str], Hardware]
Shipped = dict[str, Profile]


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("thor-jetpack-7.2", "jetson-agx-thor"),
        ("orin-jetpack-7.2", "jetson-agx-orin"),
        ("rtx-pro-4000-sff", "rtx-pro-4000"),
        ("tesla-p40", "tesla-p40"),
        ("no-gpu", "development"),
    ],
)
def test_a_board_that_fits_gets_its_profile(
    machine: Machine, shipped: Shipped, name: str, profile: str
) -> None:
    found = check_hardware(machine(name), shipped)
    assert (found.profile, found.refusals, found.differences) == (profile, (), ())
    assert found.reasons


@pytest.mark.parametrize("name", BOARDS)
def test_each_profile_has_a_verdict_with_a_reason(
    machine: Machine, shipped: Shipped, name: str
) -> None:
    found = check_hardware(machine(name), shipped)
    assert [one.profile for one in found.verdicts] == sorted(shipped)
    assert all(one.reasons for one in found.verdicts)
    matching = [one.profile for one in found.verdicts if one.holds == "yes"]
    assert found.profile in {*matching, None, "development"}


def test_why_not_the_others(machine: Machine, shipped: Shipped) -> None:
    found = check_hardware(machine("thor-t4000"), shipped)
    why = {one.profile: one.reasons for one in found.verdicts}
    assert (found.profile, found.reasons) == (None, ("No profile matches this machine",))
    assert why["jetson-agx-thor"] == ("memory_mib is 62500, not at least 98304",)
    assert why["rtx-pro-4000"] == ("platform is linux/arm64, not linux/amd64",)
    assert (
        "chosen by name only" in check_hardware(machine("geforce"), shipped).verdicts[4].reasons[0]
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("rtx-and-p40", "several match: rtx-pro-4000, tesla-p40"),
        ("broken-driver", "not known now whether it matches: rtx-pro-4000, tesla-p40"),
        ("geforce", "No profile matches this machine"),
    ],
)
def test_a_machine_without_a_profile_says_which_of_three_things_it_is(
    machine: Machine, shipped: Shipped, name: str, reason: str
) -> None:
    assert check_hardware(machine(name), shipped).reasons == (reason,)


def test_a_gpu_that_is_named_decides_between_two(machine: Machine, shipped: Shipped) -> None:
    found = [check_hardware(machine("rtx-and-p40"), shipped, gpu=gpu).profile for gpu in "01"]
    assert sorted(filter(None, found)) == ["rtx-pro-4000", "tesla-p40"]


def test_what_the_board_lacks_is_said_although_it_is_the_right_profile(
    machine: Machine, shipped: Shipped
) -> None:
    found = check_hardware(machine("orin-jetpack-6"), shipped)
    assert found.profile == "jetson-agx-orin"
    [refusal] = found.refusals
    assert refusal.startswith("it needs JetPack 7.2, this is JetPack 6.2 (L4T 36.4.3)")


def test_a_profile_that_is_named_is_checked_on_any_board(
    machine: Machine, shipped: Shipped
) -> None:
    found = check_hardware(machine("geforce"), shipped, "tesla-p40")
    [refusal] = found.refusals
    assert (found.profile, refusal.partition(";")[0]) == (
        "tesla-p40", "its engine needs compute capability 6.1, this machine has 12.0",
    )  # fmt: skip
    memory, name = check_hardware(machine("geforce"), shipped, "rtx-pro-4000").differences
    assert memory == "hardware.memory_mib is 24467, the machine has 32607 MiB"
    assert name.startswith("hardware.gpu_names lacks 'NVIDIA GeForce RTX 5090'")
    assert check_hardware(machine("thor-t4000"), shipped, "jetson-agx-thor").differences == (
        "hardware.memory_mib is 125772, the machine has 62500 MiB",
    )
    with pytest.raises(UsageError, match="no profile 'rtx'"):
        check_hardware(machine("geforce"), shipped, "rtx")


def test_a_gpu_that_no_node_label_names_is_said(machine: Machine, shipped: Shipped) -> None:
    rtx = shipped["rtx-pro-4000"]
    hardware = rtx.hardware.model_copy(update={"gpu_names": ("Another",)})
    changed = rtx.model_copy(update={"hardware": hardware})
    [difference] = check_hardware(machine("rtx-pro-4000"), {"rtx": changed}).differences
    assert "lacks 'NVIDIA RTX PRO 4000 Blackwell'" in difference


PRO = "NVIDIA RTX PRO"
BOARDS_WITHOUT = {
    "a T4000": ("NVIDIA Thor, [N/A], 595.78, 11.0", "aarch64", 62_500, "tegra264"),
    "an Orin NX": ("Orin (nvgpu), [N/A], 595.78, 8.7", "aarch64", 15_600, "tegra234"),
    "an Orin Nano": ("Orin (nvgpu), [N/A], 595.78, 8.7", "aarch64", 7_600, "tegra234"),
    "an IGX Thor": ("NVIDIA Thor, [N/A], 580.00, 11.0", "aarch64", 125_772, "tegra264"),
    "a DGX Spark": ("NVIDIA GB10, [N/A], 580.95.05, 12.1", "aarch64", 122_504, ""),
    "an RTX PRO 2000": (f"{PRO} 2000 Blackwell, 16303, 590.44.01, 12.0", "x86_64", 64_000, ""),
    "a laptop": (
        f"{PRO} 4000 Blackwell Generation Laptop GPU, 16303, 590.44.01, 12.0", "x86_64", 64_000, "",
    ),
    "an RTX PRO 4500": (f"{PRO} 4500 Blackwell, 32623, 590.44.01, 12.0", "x86_64", 64_000, ""),
    "an RTX PRO 6000": (
        f"{PRO} 6000 Blackwell Workstation Edition, 97887, 595.78, 12.0", "x86_64", 64_000, "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("board", BOARDS_WITHOUT)
def test_a_board_of_the_list_without_a_profile_gets_none_and_no_fallback(
    shipped: Shipped, board: str
) -> None:
    """docs/reference/profile.md, "Boards without a profile"; the numbers of some are assumed."""
    row, machine, mib, chip = BOARDS_WITHOUT[board]
    files = {"proc/meminfo": f"MemTotal: {mib * 1024} kB\n".encode()}
    if chip:
        files["proc/device-tree/compatible"] = f"nvidia,module\0nvidia,{chip}\0".encode()
        files["proc/device-tree/model"] = b"NVIDIA another Developer Kit\0"
    answers = {
        ("uname", "-m"): Answer(machine),
        ("uname", "-r"): Answer("6.8"),
        OLD_GPU_QUERY: Answer(row),
        (*OLD_GPU_QUERY[:1], QUERY, *OLD_GPU_QUERY[2:]): Answer(row),
        ("nvidia-smi",): Answer(""),
    }
    found = check_hardware(hardware_of(Capture(files, answers=answers)), shipped)
    assert (found.profile, found.reasons) == (None, ("No profile matches this machine",))
