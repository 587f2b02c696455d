from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from forge.device.hardware.facts import Facts, SmiState
from forge.device.hardware.inventory import Hardware, parse

Machine = Callable[[str], Hardware]


@pytest.mark.parametrize(
    ("name", "kind", "gpu", "compute", "memory"),
    [
        ("thor-jetpack-7.0", "integrated", "NVIDIA Thor", "11.0", 125806),
        ("thor-jetpack-7.1", "integrated", "NVIDIA Thor", "11.0", 125806),
        ("thor-jetpack-7.2", "integrated", "NVIDIA Thor", "11.0", 125806),
        ("thor-t4000", "integrated", "NVIDIA Thor", "11.0", 62500),
        ("orin-jetpack-6", "integrated", "Orin (nvgpu)", "8.7", 62817),
        ("orin-jetpack-7.2", "integrated", "Orin (nvgpu)", "8.7", 62817),
        ("rtx-pro-4000", "discrete", "NVIDIA RTX PRO 4000 Blackwell", "12.0", 24467),
        ("tesla-p40", "discrete", "Tesla P40", "6.1", 24576),
        ("geforce", "discrete", "NVIDIA GeForce RTX 5090", "12.0", 32607),
    ],
)
def test_parse_names_gpu_and_usable_memory(
    machine: Machine, name: str, kind: str, gpu: str, compute: str, memory: int
) -> None:
    hardware = machine(name)
    [found] = hardware.gpus
    assert (found.kind, found.name, found.compute_capability) == (kind, gpu, compute)
    assert hardware.memory_of(found) == memory
    assert (hardware.nvidia, hardware.complete, hardware.notes) == ("present", True, ())


@pytest.mark.parametrize(
    ("name", "l4t", "jetpack", "driver", "cuda"),
    [
        ("thor-jetpack-7.0", "38.2.1", "7.0", "580.00", "13.0"),
        ("thor-jetpack-7.1", "38.4.0", "7.1", "580.00", "13.0"),
        ("thor-jetpack-7.2", "39.2.0", "7.2", "595.78", "13.2"),
        ("orin-jetpack-6", "36.4.3", "6.2", None, "12.6"),
        ("orin-jetpack-7.2", "39.2.0", "7.2", "595.78", "13.2"),
        ("rtx-pro-4000", None, None, "590.44.01", "13.1"),
        ("no-gpu", None, None, None, None),
    ],
)
def test_parse_names_releases(
    machine: Machine,
    name: str,
    l4t: str | None,
    jetpack: str | None,
    driver: str | None,
    cuda: str | None,
) -> None:
    hardware = machine(name)
    assert (hardware.l4t, hardware.jetpack) == (l4t, jetpack)
    assert (hardware.driver, hardware.cuda) == (driver, cuda)


@pytest.mark.parametrize(
    ("text", "jetpack"),
    [
        ("# R39 (release), REVISION: 2.1, GCID: 1, BOARD: generic", "7.2.1"),
        ("# R38 (release), REVISION: 2.0, GCID: 1", "7.0"),
        ("# R38 (release), REVISION: 5.0, GCID: 1", "IGX 2.0"),
        ("# R39 (release), REVISION: 0.0, GCID: 1", "7.2 early access"),
        ("# R36 (release), REVISION: 5.0, GCID: 1", "6.2.2"),
        ("# R36 (release), REVISION: 9.9, GCID: 1", "6"),
        ("# R35 (release), REVISION: 4.1, GCID: 1", None),
        ("# R38 (release), REVISION: 9.0, GCID: 1", None),
        ("no such thing", None),
    ],
)
def test_parse_maps_l4t_to_jetpack_and_guesses_nothing(text: str, jetpack: str | None) -> None:
    assert parse(Facts("aarch64", "6.8", tegra_release=text)).jetpack == jetpack


def test_parse_reads_the_system_tensorrt_on_a_jetson_only(machine: Machine) -> None:
    assert machine("thor-jetpack-7.1").runtime == {"tensorrt": "10.13.3"}
    facts = Facts("x86_64", "6.8", tensorrt_libraries=("libnvinfer.so.10.9.0",))
    assert parse(facts).runtime == {}


def test_parse_reads_power_modes_by_name(machine: Machine) -> None:
    assert machine("thor-jetpack-7.2").power_modes == ("MAXN", "120W")
    assert machine("orin-jetpack-6").power_modes == ("MAXN", "MODE_15W", "MODE_30W", "MODE_50W")
    assert machine("no-gpu").power_modes == ()


def test_parse_tells_a_jetson_by_its_device_tree_when_nvidia_smi_is_missing() -> None:
    facts = Facts("aarch64", "6.8", device_tree_compatible="nvidia,p3834-0008\0nvidia,tegra264\0")
    hardware = parse(facts)
    assert hardware.tegra
    assert [gpu.compute_capability for gpu in hardware.gpus] == ["11.0"]


def test_parse_makes_no_jetson_of_an_arm64_machine(machine: Machine) -> None:
    hardware = machine("arm64-server")
    assert (hardware.platform, hardware.nvidia, hardware.gpus) == ("linux/arm64", "absent", ())
    assert not hardware.tegra


def test_parse_asks_old_drivers_without_compute_capability(machine: Machine) -> None:
    hardware = machine("two-p40-old-driver")
    assert [gpu.memory_mib for gpu in hardware.gpus] == [22919, 22919]
    assert [gpu.compute_capability for gpu in hardware.gpus] == [None, None]
    assert hardware.notes == ()


def test_parse_notes_a_driver_that_fails(machine: Machine) -> None:
    hardware = machine("broken-driver")
    assert (hardware.nvidia, hardware.gpus) == ("unknown", ())
    assert "couldn't communicate with the NVIDIA driver" in hardware.notes[0]


@pytest.mark.parametrize("garbage", ["", "\0", "a,b", "a,b,c,d,e", '"', ",,,", "\x1b[31m" * 99])
def test_parse_survives_garbage(garbage: str) -> None:
    texts: dict[str, Any] = dict.fromkeys(
        ("smi_header", "smi_gpus", "device_tree_model", "device_tree_compatible", "tegra_release",
         "boot_control", "nvpmodel", "meminfo", "os_release"),
        garbage,
    )  # fmt: skip
    assert parse(Facts("riscv64", "?", **texts)).platform == "linux/riscv64"


def test_collect_takes_a_missing_nvidia_smi_as_no_gpu(machine: Machine) -> None:
    hardware = machine("no-gpu")
    assert (hardware.nvidia, hardware.notes) == ("absent", ())


@pytest.mark.parametrize(
    "said",
    [
        {"nvidia_signs": ("/dev/nvidia0",)},
        {"nvidia_signs": ("/sys/bus/pci/devices/0000:01:00.0",), "smi_state": "no-devices"},
        {"smi_state": "failed"},
        {"tegra_release": "# R39 (release), REVISION: 2.0"},
    ],
)
def test_a_gpu_that_does_not_answer_is_not_absent(said: dict[str, Any]) -> None:
    assert parse(Facts("x86_64", "6.8", **said)).nvidia == "unknown"


@pytest.mark.parametrize("state", ["missing", "no-devices"])
def test_a_gpu_is_absent_only_where_nothing_says_that_one_is_there(state: SmiState) -> None:
    assert parse(Facts("x86_64", "6.8", smi_state=state)).nvidia == "absent"


def test_a_jetson_in_a_container_is_known_by_the_name_of_its_gpu() -> None:
    facts = Facts("aarch64", "6.8", smi_gpus="NVIDIA Thor, [N/A], 595.78, 11.0",
                  tegra_release="# R39 (release), REVISION: 2.0",
                  tensorrt_libraries=("libnvinfer.so.10.16.1",))  # fmt: skip
    hardware = parse(facts)
    assert (hardware.tegra, hardware.tree_known) == (True, False)
    assert hardware.compatible == ("nvidia,tegra264",)
    assert (hardware.jetpack, hardware.runtime) == ("7.2", {"tensorrt": "10.16.1"})


def test_a_gpu_in_the_chip_of_another_maker_is_no_jetson() -> None:
    hardware = parse(Facts("aarch64", "6.14", smi_gpus="NVIDIA GB10, [N/A], 580.95.05, 12.1"))
    assert (hardware.tegra, hardware.tree_known, hardware.nvidia) == (False, True, "present")
    assert hardware.gpus[0].kind == "integrated"


TEGRA_IN_A_CONTAINER = [
    ("the name of the GPU", {"smi_gpus": "NVIDIA Thor, [N/A], 595.78, 11.0"}, "nvidia,tegra264"),
    ("the number of the chip", {"soc": ("Tegra\n", "38\n")}, "nvidia,tegra264"),
    ("the number of the chip", {"soc": ("Tegra\n", "35\n")}, "nvidia,tegra234"),
    ("the clock of the GPU", {"devfreq": ("gpu-gpc-0", "gpu-nvd-0")}, "nvidia,tegra264"),
    ("the clock of the GPU", {"devfreq": ("17000000.gpu",)}, "nvidia,tegra234"),
]  # fmt: skip


@pytest.mark.parametrize(("sign", "facts", "chip"), TEGRA_IN_A_CONTAINER)
def test_parse_knows_a_jetson_by_each_sign_that_a_container_leaves(
    sign: str, facts: dict[str, Any], chip: str
) -> None:
    hardware = parse(Facts("aarch64", "6.8", **facts))
    assert (hardware.tegra, hardware.compatible, hardware.tree_known) == (True, (chip,), False), (
        sign
    )
    compute = {"nvidia,tegra264": "11.0", "nvidia,tegra234": "8.7"}[chip]
    assert [gpu.compute_capability for gpu in hardware.gpus] == [compute]


@pytest.mark.parametrize(
    "facts",
    [
        {"soc": ("Snapdragon\n", "38\n")}, {"soc": ("Tegra\n", "99\n")}, {"soc": (None, "38")},
        {"devfreq": ("gpu", "13000000.mali")}, {"smi_gpus": "NVIDIA GB10, [N/A], 580.95.05, 12.1"},
    ],
)  # fmt: skip
def test_parse_makes_no_jetson_of_other_chips(facts: dict[str, Any]) -> None:
    assert not parse(Facts("aarch64", "6.8", **facts)).tegra


def test_parse_takes_the_device_tree_before_any_other_sign() -> None:
    tree = "nvidia,p3701-0005\0nvidia,tegra234\0"
    facts = Facts("aarch64", "6.8", device_tree_compatible=tree, soc=("Tegra", "38"))
    assert parse(facts).compatible == ("nvidia,p3701-0005", "nvidia,tegra234")
