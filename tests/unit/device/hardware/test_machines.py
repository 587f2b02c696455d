"""Machines that were judged wrongly, each by what its own programs say, with the right answer.

The rows are those of issue 13; a row that is not right yet is marked so, with the reason.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml

from forge.bundle import Fit
from forge.device.daemon import _runtime
from forge.device.hardware.compute_target import ComputeTarget, target_of
from forge.device.hardware.fit import check
from forge.device.hardware.inventory import Hardware
from forge.device.hardware.profile_match import Detection, ProfileRequest, match
from forge.device.power.control import PowerControl
from forge.device.shared.concurrency import ConcurrencyLimit
from forge.device.thermal.monitor import ThermalMonitor
from forge.device.thermal.sensors import read
from forge.errors import FitError
from forge.profiles import MatchSection, Profile, ThermalSection
from tests.support.machines import JETSON, FakeMachine, eagain, watch_of

Rules = dict[str, tuple[str, MatchSection]]

RTX = "NVIDIA RTX PRO 4000 Blackwell, 24467, 590.44.01, 12.0"
G5090 = "NVIDIA GeForce RTX 5090, 32607, 590.48.01, 12.0"
INFOROM = "WARNING: infoROM is corrupted at gpu 0000:01:00.0"
LOST = (
    "Unable to determine the device handle for GPU1: 0000:03:00.0: GPU is lost.  Reboot the system"
)
MISMATCH = (
    "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 590.48\n"
)
PERSISTENCE = "Warning: persistence mode is disabled, see nvidia-persistenced, or pass -pm 1, now\n"
NO_RULES = MatchSection.model_validate({})
CUDA_BUNDLE = {
    "platform": "linux/amd64", "match": NO_RULES, "compute_capability": "12.0",
    "memory_mib": 20_000, "free_disk_mib": 0, "driver_min": None, "jetpack": (), "runtime": {},
    "power_mode": None,
}  # fmt: skip


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    """A workstation with 64 GB."""
    made = FakeMachine(tmp_path)
    monkeypatch.setenv("PATH", made.path)
    made.memory(64_000)
    return made


def target(profile: Profile, hardware: Hardware) -> ComputeTarget:
    return target_of(profile.hardware.match, profile.hardware.compute_capability, hardware)


def chosen(found: Detection) -> str | None:
    return found.gpu.uuid if found.gpu else None


def test_row_1_a_warning_beside_a_good_row_is_a_note(box: FakeMachine, rules: Rules) -> None:
    box.smi(f"{RTX}\n{INFOROM}\n", code=14)
    found = match(box.hardware(), rules)
    assert found.profile == "rtx-pro-4000"
    [note] = found.warnings
    assert note == f"nvidia-smi: exit code 14: {INFOROM} (a warning, the rows are good)"


@pytest.mark.parametrize("code", [15, 255])
def test_row_2_one_lost_gpu_does_not_take_the_good_one(
    box: FakeMachine, rules: Rules, code: int
) -> None:
    box.smi(f"{RTX}, GPU-good\n{LOST}\n", code=code)
    found = match(box.hardware(), rules)
    assert (found.profile, chosen(found)) == ("rtx-pro-4000", "GPU-good")
    assert LOST in found.warnings[0]


def test_row_3_a_driver_that_was_updated_leaves_what_serves_and_says_what_to_do(
    box: FakeMachine, rules: Rules
) -> None:
    box.smi(MISMATCH, code=18)
    hardware = box.hardware()
    assert hardware.nvidia == "unknown"
    [note] = hardware.notes
    assert "Driver/library version mismatch" in note
    assert "reboot" in note
    assert match(hardware, rules, ProfileRequest(serving="rtx-pro-4000")).profile == "rtx-pro-4000"
    with pytest.raises(FitError, match="not known now"):
        match(hardware, rules)


@pytest.mark.parametrize("cell", ["[GPU requires reset]", "[Unknown Error]", "ERR!"])
def test_row_4_memory_that_is_not_known_is_not_that_of_the_host(
    box: FakeMachine, rules: Rules, cell: str
) -> None:
    box.smi(RTX.replace("24467", cell))
    with pytest.raises(FitError, match="rtx-pro-4000: memory_mib is not known now"):
        match(box.hardware(), rules)
    assert (
        match(box.hardware(), rules, ProfileRequest(serving="rtx-pro-4000")).profile
        == "rtx-pro-4000"
    )


def test_row_5_a_temperature_beside_a_warning_is_a_temperature(
    box: FakeMachine, shipped: dict[str, Profile]
) -> None:
    box.smi(f"{RTX}\n{INFOROM}\n", code=14, temp=f"0, 88\n{INFOROM}\n")
    serves = target(shipped["rtx-pro-4000"], box.hardware())
    assert read(serves, box.root).hottest_c == 88


@pytest.mark.parametrize("first", [True, False])
def test_row_6_of_two_unlike_gpus_the_one_that_matches_is_used_for_everything(
    box: FakeMachine, rules: Rules, shipped: dict[str, Profile], *, first: bool
) -> None:
    gpus = [f"{RTX}, GPU-rtx", f"{G5090}, GPU-5090"]
    heat = ["GPU-rtx, 61", "GPU-5090, 88"]
    limits = {"GPU-rtx": "145.00, 70.00, 145.00, 2617", "GPU-5090": "575.00, 400.00, 600.00, 3090"}
    order = [0, 1] if first else [1, 0]
    names = [gpus[one].rpartition(", ")[2] for one in order]
    box.smi(
        "".join(f"{gpus[one]}\n" for one in order),
        temp="".join(
            f"{index}, {heat[one].rpartition(', ')[2]}, {names[index]}\n"
            for index, one in enumerate(order)
        ),
        power="".join(f"{index}, x, {limits[name]}, {name}\n" for index, name in enumerate(names)),
    )
    hardware = box.hardware()
    found = match(hardware, rules)
    assert (found.profile, chosen(found)) == ("rtx-pro-4000", "GPU-rtx")
    serves = target(shipped["rtx-pro-4000"], hardware)
    assert hardware.memory_of(serves.gpu) == 24_467
    assert serves.environment == {"CUDA_VISIBLE_DEVICES": "GPU-rtx"}
    assert read(serves, box.root).hottest_c == 61
    [power] = PowerControl(root=box.root).report(None, serves).gpus
    assert (power.uuid, power.limit_w) == ("GPU-rtx", 145.0)
    needs = CUDA_BUNDLE | {"memory_mib": 30_000, "match": rules["rtx-pro-4000"][1]}
    [refusal] = check(Fit.model_validate(needs), hardware, None, 0)
    assert "24467 MiB" in str(refusal)


def test_row_7_capability_and_memory_must_be_of_one_gpu(box: FakeMachine) -> None:
    box.smi("NVIDIA RTX PRO 2000 Blackwell, 16303, 590.44.01, 12.0, GPU-a\n"
            "Tesla P40, 24576, 590.44.01, 6.1, GPU-b\n")  # fmt: skip
    [refusal] = check(Fit.model_validate(CUDA_BUNDLE), box.hardware(), None, 0)
    assert "it needs 20000 MiB of memory, NVIDIA RTX PRO 2000 Blackwell (GPU-a) has 16303" in str(
        refusal
    )


def test_row_8_a_bundle_that_is_served_on_the_cpu_is_judged_by_the_cpu(box: FakeMachine) -> None:
    box.smi("Tesla P40, 24576, 580.126.09, 6.1\n", temp="0, 30\n")
    box.zone(0, "x86_pkg_temp", "99000")
    on_cpu = target_of(
        MatchSection.model_validate({"gpu_name": "*Tesla P40"}), None, box.hardware()
    )
    assert read(on_cpu, box.root).hottest_c == 99
    on_gpu = target_of(
        MatchSection.model_validate({"gpu_name": "*Tesla P40"}), "6.1", box.hardware()
    )
    assert read(on_gpu, box.root).hottest_c == 30


def test_row_9_power_gated_zones_are_skipped(box: FakeMachine) -> None:
    gated = [box.zone(number, f"cv{number}-thermal", "0") / "temp" for number in range(3)]
    box.zone(3, "tj-thermal", "52000")
    with eagain(gated[0]), eagain(gated[1]), eagain(gated[2]):
        found = read(JETSON, box.root)
    assert found.silent == ("cv0-thermal", "cv1-thermal", "cv2-thermal")
    assert found.hottest_c == 52


def orin(box: FakeMachine, celsius: float) -> ThermalMonitor:
    """A monitor on an Orin whose kernel states trip points, the one of its surface alert too."""
    zone = box.zone(0, "tj-thermal", f"{celsius * 1000:.0f}")
    for number, trip in enumerate((("passive", 99), ("critical", 104.5), ("passive", 70))):
        box.trip(zone, number, *trip)
    clock = itertools.count(0.0, 2.0).__next__
    return ThermalMonitor(
        ConcurrencyLimit(), read_sensors=lambda one: read(one, box.root), clock=clock
    )


@pytest.mark.parametrize(("celsius", "limit"), [(80, 8), (98.9, 8), (99, 5), (102.5, 1)])
def test_row_10_load_is_not_lowered_far_below_the_boards_own_trip_point(
    box: FakeMachine, shipped: dict[str, Profile], celsius: float, limit: int
) -> None:
    guard = orin(box, celsius)
    guard.govern(shipped["jetson-agx-orin"].thermal, 8, JETSON)
    for _ in range(20):
        guard.check()
    assert guard.limit.current == limit
    report = guard.report()
    assert (report.throttle_c, report.critical_c, report.limits_of) == (99, 102.5, "hardware")


def test_row_10_a_bundle_from_before_the_offsets_keeps_its_numbers(
    box: FakeMachine, shipped: dict[str, Profile]
) -> None:
    guard = orin(box, 91)
    said = shipped["jetson-agx-orin"].thermal.model_dump()
    numbers = {name: said[name] for name in ("throttle_c", "critical_c", "batch_floor")}
    guard.govern(ThermalSection.model_validate(numbers), 8, JETSON)
    guard.check()
    assert guard.limit.get() == (1, "91.0 °C is critical (90 °C)")
    assert guard.report().limits_of == "profile"


def thor_in_a_container(box: FakeMachine) -> Hardware:
    box.machine = "aarch64"
    box.memory(125_772)
    box.file("etc/nv_tegra_release", "# R39 (release), REVISION: 2.0, GCID: 1, BOARD: generic\n")
    conf = "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=120W >\n"
    box.file("etc/nvpmodel.conf", conf)
    box.smi("NVIDIA Thor, [N/A], 595.78, 11.0\n")
    return box.hardware()


def test_row_11_a_thor_in_a_container_is_a_thor(
    box: FakeMachine, rules: Rules, shipped: dict[str, Profile]
) -> None:
    hardware = thor_in_a_container(box)
    assert match(hardware, rules).profile == "jetson-agx-thor"
    assert hardware.power_modes == ("MAXN", "120W")
    serves = target(shipped["jetson-agx-thor"], hardware)
    assert (serves.on, serves.tegra) == ("soc", True)
    assert PowerControl(root=box.root).report(None, serves).modes == ("MAXN", "120W")


def test_row_12_the_tensorrt_of_the_image_is_part_of_an_engines_key(box: FakeMachine) -> None:
    keys = []
    for version in ("10.13.3", "10.16.1"):
        for old in (box.root / "usr/lib/aarch64-linux-gnu").glob("*"):
            old.unlink()
        box.file(f"usr/lib/aarch64-linux-gnu/libnvinfer.so.{version}")
        keys.append(_runtime(watch_of(thor_in_a_container(box))))
    assert keys == [{"l4t": "39.2.0", "tensorrt": one} for one in ("10.13.3", "10.16.1")]


def test_row_13_a_driver_that_comes_25_s_late_is_seen(box: FakeMachine, rules: Rules) -> None:
    box.pci_gpu()
    with pytest.raises(FitError, match="not known now"):
        match(box.hardware(), rules)
    box.smi(f"{RTX}\n")
    assert match(box.hardware(), rules).profile == "rtx-pro-4000"


@pytest.mark.parametrize("where", ["stderr", "stdout"])
def test_row_14_a_warning_with_commas_is_no_gpu(box: FakeMachine, rules: Rules, where: str) -> None:
    if where == "stderr":
        box.smi(f"{RTX}\n", errors=PERSISTENCE)
    else:
        box.smi(f"{PERSISTENCE}{RTX}\n")
    hardware = box.hardware()
    assert [gpu.name for gpu in hardware.gpus] == ["NVIDIA RTX PRO 4000 Blackwell"]
    assert hardware.driver == "590.44.01"
    assert match(hardware, rules).profile == "rtx-pro-4000"


def test_row_15_two_devices_never_share_a_node() -> None:
    """Each pod keeps all others away; what is rendered is in tests/e2e/test_kubernetes.py."""
    base = Path(__file__).parents[4] / "deploy/kubernetes/base/deployment.yaml"
    template = yaml.safe_load(base.read_text())["spec"]["template"]
    rule = template["spec"]["affinity"]["podAntiAffinity"]
    [term] = rule["requiredDuringSchedulingIgnoredDuringExecution"]
    assert (term["topologyKey"], term["namespaceSelector"]) == ("kubernetes.io/hostname", {})
    # kustomize adds the labels of one device to matchLabels, and would let another one in.
    assert list(term["labelSelector"]) == ["matchExpressions"]
    [wanted] = term["labelSelector"]["matchExpressions"]
    assert template["metadata"]["labels"][wanted["key"]] in wanted["values"]


# More of the same kinds: FACTS.md, section 10.


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ("NVIDIA RTX PRO 4000 Blackwell Generation Laptop GPU, 16303, 590.44.01, 12.0", "laptop"),
        ("NVIDIA RTX PRO 4000 Blackwell-24Q, 24467, 590.44.01, 12.0", "vGPU"),
        ("GRID P40-24Q, 24576, 580.126.09, 6.1", "vGPU of a P40"),
        (G5090, "GeForce"),
    ],
)
def test_a_gpu_that_no_profile_was_made_for_gets_none_and_no_fallback(
    box: FakeMachine, rules: Rules, row: str, name: str
) -> None:
    box.smi(f"{row}\n")
    with pytest.raises(FitError, match="No profile of this channel matches"):
        match(box.hardware(), rules)
    assert name


def test_slices_of_a_gpu_are_not_that_gpu(box: FakeMachine, rules: Rules) -> None:
    name = "NVIDIA RTX PRO 4000 Blackwell"
    listed = f"GPU 0: {name} (UUID: GPU-a)\n  MIG 1g.24gb Device  0: (UUID: MIG-1)\n"
    row = f"{name}, [Insufficient Permissions], 590.44.01, 12.0, GPU-a, Enabled\n"
    box.smi(row, list=listed)
    [gpu] = box.hardware().gpus
    assert (gpu.kind, gpu.uuid) == ("mig", "MIG-1")
    with pytest.raises(FitError, match="No profile of this channel matches"):
        match(box.hardware(), rules)


def test_a_dgx_spark_is_an_integrated_gpu_without_a_jetson(box: FakeMachine, rules: Rules) -> None:
    box.machine = "aarch64"
    box.memory(122_504)
    box.smi("NVIDIA GB10, [N/A], 580.95.05, 12.1, GPU-gb10\n", temp="0, 60, GPU-gb10\n")
    hardware = box.hardware()
    serves = target_of(NO_RULES, "12.1", hardware)
    assert (serves.on, serves.tegra, hardware.memory_of(serves.gpu)) == ("soc", False, 122_504)
    assert read(serves, box.root).hottest_c == 60
    with pytest.raises(FitError, match="No profile of this channel matches"):
        match(hardware, rules)


def test_an_igx_thor_with_a_card_has_both(box: FakeMachine) -> None:
    box.machine = "aarch64"
    box.memory(125_772)
    box.file("proc/device-tree/compatible", r"nvidia,p3834-0008\0nvidia,tegra264\0")
    box.file("proc/device-tree/model", r"NVIDIA IGX Thor Developer Kit\0")
    card = "NVIDIA RTX PRO 6000 Blackwell Workstation Edition, 97887, 595.78, 12.0, GPU-card"
    box.smi(f"NVIDIA Thor, [N/A], 595.78, 11.0, GPU-thor\n{card}\n")
    profiles = {
        "igx": ("linux/arm64", MatchSection.model_validate(
            {"device_tree_compatible": "nvidia,p3834-0008", "memory_mib_min": 98_304})),
        "card": ("linux/arm64", MatchSection.model_validate(
            {"gpu_name": "NVIDIA RTX PRO 6000 Blackwell*", "compute_capability": "12.0"})),
    }  # fmt: skip
    hardware = box.hardware()
    assert chosen(match(hardware, {"igx": profiles["igx"]})) == "GPU-thor"
    assert chosen(match(hardware, {"card": profiles["card"]})) == "GPU-card"
    with pytest.raises(FitError, match="several profiles: card, igx"):
        match(hardware, profiles)
    assert match(hardware, profiles, ProfileRequest(gpu="GPU-card")).profile == "card"
