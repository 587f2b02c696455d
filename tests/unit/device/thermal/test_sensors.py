"""Sensors: real files below a folder, real processes for nvidia-smi."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.device.hardware.compute_target import CPU, ComputeTarget
from forge.device.hardware.facts import Answer, Run
from forge.device.hardware.gpus import Gpu
from forge.device.thermal import sensors
from forge.device.thermal.sensors import Sensor, SensorReader, parse_zone, read, zones
from forge.system_files import read_bytes
from tests.support.captured import unpack
from tests.support.machines import CARD, JETSON, FakeMachine, eagain

SHIM = Path(__file__).parents[3] / "support" / "gated_read.c"


def zone(root: Path, number: int, name: str, temp: str | None) -> Path:
    folder = root / "sys/class/thermal" / f"thermal_zone{number}"
    folder.mkdir(parents=True)
    (folder / "type").write_text(f"{name}\n")
    if temp is None:
        (folder / "temp").mkdir()  # opens, and fails to be read, as a power-gated GPU's does
    else:
        (folder / "temp").write_text(temp)
    return folder


def names(sensors: Sequence[Sensor]) -> list[str]:
    return [sensor.name for sensor in sensors]


def test_zones_of_a_thor_are_read_without_the_one_that_sleeps(tmp_path: Path) -> None:
    root = unpack("thor-jetpack-7.1", tmp_path)
    found = read(JETSON, root)
    assert found.silent == ("gpu-thermal",)
    assert found.decisive == (
        Sensor(name="cpu-thermal", celsius=37.343),
        Sensor(name="soc012-thermal", celsius=37.468),
        Sensor(name="soc345-thermal", celsius=37.406),
        Sensor(name="tj-thermal", celsius=38.875),
    )
    assert found.hottest_c == 38.875


def test_a_zone_that_fails_is_skipped_and_named(tmp_path: Path) -> None:
    zone(tmp_path, 0, "gpu-thermal", None)
    zone(tmp_path, 1, "tj-thermal", "52000\n")
    found, silent = zones(tmp_path)
    assert (names(found), silent) == (["tj-thermal"], ("gpu-thermal",))


def test_zones_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        zone(tmp_path, number, f"z{number}", "40000\n")
    assert names(zones(tmp_path)[0]) == ["z1", "z2", "z10"]


@pytest.mark.parametrize(
    ("text", "celsius"),
    [
        ("38875\n", 38.875), ("0\n", 0.0), ("-12000\n", -12.0), ("150000", 150.0),
        ("-256000\n", None), ("-274000\n", None), ("150001\n", None), ("999999999\n", None),
        ("", None), ("\n", None), ("N/A\n", None), ("38.8\n", None), ("1e5", None),
        ("١٢٣", None), (None, None), ("9" * 300, None),
    ],
)  # fmt: skip
def test_what_no_chip_can_have_is_no_temperature(text: str | None, celsius: float | None) -> None:
    assert parse_zone(text) == celsius


@given(st.text())
def test_no_text_breaks_the_parsers(text: str) -> None:
    parse_zone(text)
    for said in (text, f"0, {text}", f"{text}, {text}, {text}"):
        read(CARD, Path("/nowhere"), says(said))


def test_a_machine_without_zones_has_no_temperature(tmp_path: Path) -> None:
    assert read(CPU, tmp_path).hottest_c is None
    (tmp_path / "sys/class").mkdir(parents=True)
    (tmp_path / "sys/class/thermal").write_text("no folder")
    assert read(JETSON, tmp_path).hottest_c is None


def test_a_zone_without_a_type_has_its_folders_name(tmp_path: Path) -> None:
    (zone(tmp_path, 3, "x", "40000") / "type").unlink()
    assert names(zones(tmp_path)[0]) == ["thermal_zone3"]


def test_this_machines_zones_are_read() -> None:
    for sensor in read(CPU).decisive:
        assert -55 <= sensor.celsius <= 150


def says(output: str = "", problem: str = "") -> Run:
    return lambda _argv, _timeout_s: Answer(output, problem)


def test_a_discrete_gpu_is_judged_by_its_own_sensor(tmp_path: Path) -> None:
    zone(tmp_path, 0, "x86_pkg_temp", "97000\n")
    found = read(CARD, tmp_path, says("0, 61\n1, 64\n"))
    assert names(found.decisive) == ["gpu0", "gpu1"]
    assert (found.hottest_c, names(found.others), found.problem) == (64.0, ["x86_pkg_temp"], "")


def test_a_jetsons_nvidia_smi_is_not_asked(tmp_path: Path) -> None:
    def refuse(argv: Sequence[str], _timeout_s: float) -> Answer:
        raise AssertionError(argv)

    zone(tmp_path, 0, "tj-thermal", "52000\n")
    assert read(JETSON, tmp_path, refuse).hottest_c == 52.0
    assert read(CPU, tmp_path, refuse).hottest_c == 52.0


@pytest.mark.parametrize(
    ("output", "problem", "said"),
    [
        ("0, [N/A]\n", "", "no GPU reports its temperature"),
        ("", "", "no GPU reports its temperature"),
        ("0, 400\n", "", "no GPU reports its temperature"),
        ("0, ERR!\n", "", "no GPU reports its temperature"),
        ("", "not installed", "not installed"),
    ],
)
def test_a_gpu_that_says_nothing_is_a_problem(
    tmp_path: Path, output: str, problem: str, said: str
) -> None:
    found = read(CARD, tmp_path, says(output, problem))
    assert found.hottest_c is None
    assert said in found.problem


def test_a_hanging_nvidia_smi_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(sensors, "_SMI_S", 0.2)
    begun = time.monotonic()
    assert read(CARD, tmp_path).problem == "nvidia-smi: no answer within 0.2 s"
    assert time.monotonic() - begun < 10


def gpu(uuid: str, index: int) -> ComputeTarget:
    found = Gpu(
        name="x", memory_mib=1, compute_capability="1.0", uuid=uuid, index=index, board=uuid
    )
    return ComputeTarget("card", found, alone=False)


def test_only_the_gpu_that_serves_decides_by_uuid_and_not_by_order(tmp_path: Path) -> None:
    both = says("0, 88, GPU-aa\n1, 41, GPU-bb\n")
    assert read(gpu("GPU-bb", 0), tmp_path, both).hottest_c == 41
    assert read(gpu("GPU-aa", 1), tmp_path, both).hottest_c == 88


def test_a_slice_has_the_heat_of_its_board(tmp_path: Path) -> None:
    part = Gpu(name="MIG", memory_mib=1, compute_capability="12.0", kind="mig", uuid="MIG-1",
               index=1, board="GPU-bb")  # fmt: skip
    found = read(ComputeTarget("card", part), tmp_path, says("0, 88, GPU-aa\n1, 41, GPU-bb\n"))
    assert found.hottest_c == 41


def test_an_integrated_gpu_of_another_maker_of_boards_is_heard_beside_the_zones(
    tmp_path: Path,
) -> None:
    zone(tmp_path, 0, "acpitz", "52000\n")  # GB10: no Jetson, its GPU is in nvidia-smi only
    found = read(ComputeTarget("soc"), tmp_path, says("0, 71\n"))
    assert (names(found.decisive), found.hottest_c) == (["acpitz", "gpu0"], 71)
    lost = read(ComputeTarget("soc"), tmp_path, says("", "not installed"))
    assert (lost.hottest_c, lost.problem) == (52.0, "")


def test_a_zone_that_the_kernel_says_to_ask_again_is_skipped(tmp_path: Path) -> None:
    zone(tmp_path, 0, "tj-thermal", "52000\n")
    gated = zone(tmp_path, 1, "cv0-thermal", "0")
    with eagain(gated / "temp"), pytest.raises(BlockingIOError):
        read_bytes(gated / "temp")
    with eagain(gated / "temp"):
        found = read(JETSON, tmp_path)
    assert (found.silent, found.hottest_c) == (("cv0-thermal",), 52.0)


@pytest.mark.parametrize("name", ["EAGAIN", "EIO", "ENODATA"])
def test_any_errno_of_any_zone_is_a_skipped_zone(tmp_path: Path, name: str) -> None:
    """By a library that lets the kernel's read() fail, as it does on boards."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    shim = tmp_path / "shim.so"
    number = f"-DNUMBER={getattr(errno, name)}"
    argv: list[str | Path] = [compiler, "-shared", "-fPIC", number, "-o", shim, SHIM, "-ldl"]
    subprocess.run(argv, check=True)
    zone(tmp_path, 0, "tj-thermal", "52000\n")
    (zone(tmp_path, 1, "cv0-thermal", "0") / "gated").touch()
    code = (
        "import sys; from pathlib import Path;"
        "from forge.device.hardware.compute_target import CPU;"
        "from forge.device.thermal.sensors import read;"
        "print(read(CPU, Path(sys.argv[1])).silent, read(CPU, Path(sys.argv[1])).hottest_c)"
    )
    environment = {**os.environ, "LD_PRELOAD": str(shim)}
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout.strip(), done.returncode) == ("('cv0-thermal',) 52.0", 0), done.stderr


@pytest.mark.parametrize(("code", "errors"), [(14, ""), (15, ""), (255, ""), (0, "a warning\n")])
def test_rows_count_whatever_the_exit_code_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, errors: str
) -> None:
    machine = FakeMachine(tmp_path)
    monkeypatch.setenv("PATH", machine.path)
    warning = "WARNING: infoROM is corrupted at gpu 0000:01:00.0\n"
    machine.smi("", code=code, errors=errors, temp=f"0, 88\n{warning}")
    found = read(CARD, machine.root)
    assert (found.hottest_c, found.problem) == (88.0, "")


def test_why_there_is_no_row_is_the_first_line_that_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = FakeMachine(tmp_path)
    monkeypatch.setenv("PATH", machine.path)
    said = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 1\n"
    machine.smi("", code=18, temp=said)
    problem = read(CARD, machine.root).problem
    assert "exit code 18: Failed to initialize NVML: Driver/library version mismatch" in problem


def test_a_zone_comes_with_its_own_trip_points(tmp_path: Path) -> None:
    box = FakeMachine(tmp_path)
    zone = box.zone(0, "tj-thermal", "80000")
    box.trip(zone, 0, "passive", 99)
    box.trip(zone, 1, "critical", 104.5)
    box.zone(1, "wifi", "40000")
    assert read(JETSON, box.root).decisive == (
        Sensor(name="tj-thermal", celsius=80.0, throttle_c=99.0, critical_c=104.5),
        Sensor(name="wifi", celsius=40.0),
    )


def gpu_says(box: FakeMachine, row: str, limits: str = "") -> None:
    box.smi("", temp=f"{row}\n", limits=limits)


def test_a_gpu_comes_with_its_limits_and_what_throttles_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = FakeMachine(tmp_path)
    monkeypatch.setenv("PATH", box.path)
    limits = "GPU Current Temp : 80 C\nGPU Slowdown Temp : 92 C\nGPU Target Temperature : 83 C\n"
    gpu_says(box, "0, 80, GPU-aa, 0x0000000000000004, 1900, 2100", limits)
    reader = SensorReader(box.root)
    found = reader(CARD)
    assert found.decisive == (Sensor(name="gpu0", celsius=80, throttle_c=83, critical_c=92),)
    assert (found.throttling.share, found.throttling.reasons) == (0.0, ())
    # Its clock before, 1900 MHz under a power cap, counts and not its highest one.
    gpu_says(box, "0, 83, GPU-aa, 0x0000000000000020, 1805, 2100", limits)
    found = reader(CARD)
    assert found.throttling.share == pytest.approx(0.1)
    assert found.throttling.reasons == ("SW thermal slowdown",)
    [asked] = [one for one in (tmp_path / "smi/asked").read_text().splitlines() if "-d" in one]
    assert asked == "-q -d TEMPERATURE"  # once, not at each look


@pytest.mark.parametrize("known", ["clocks_throttle_reasons", "nothing"])
def test_a_driver_that_does_not_know_a_field_is_asked_for_less_and_then_only_that(
    tmp_path: Path, known: str
) -> None:
    asked: list[str] = []

    def run(argv: Sequence[str], _timeout_s: float) -> Answer:
        query = argv[1]
        asked.append(query)
        if "reasons" in query and known not in query:
            return Answer('Field "x" is not a valid field to query.\n', "exit code 2: x", code=2)
        if "reasons" in query:
            return Answer("0, 61, GPU-aa, 0x0000000000000040, 900, 1500\n")
        return Answer("0, 61, GPU-aa\n")

    reader = SensorReader(tmp_path, run)
    first, looks = reader(CARD), len([one for one in asked if "query-gpu" in one])
    assert first.hottest_c == 61
    assert first.throttling.share == (None if known == "nothing" else 1.0)
    assert looks == (3 if known == "nothing" else 2)
    asked.clear()
    assert reader(CARD).hottest_c == 61
    assert len([one for one in asked if "query-gpu" in one]) == 1


def test_limits_of_a_gpu_that_says_none_are_asked_again(tmp_path: Path) -> None:
    said = [""]

    def run(argv: Sequence[str], _timeout_s: float) -> Answer:
        return Answer("0, 61\n" if "query-gpu" in argv[1] else said[0])

    reader = SensorReader(tmp_path, run)
    assert reader(CARD).decisive[0].critical_c is None
    said[0] = "GPU Slowdown Temp : 92 C\n"
    assert {reader(CARD).decisive[0].critical_c for _ in range(29)} == {None}
    assert reader(CARD).decisive[0].critical_c == 92


def test_with_several_gpus_and_none_named_no_limit_and_no_throttling_is_known(
    tmp_path: Path,
) -> None:
    row = "GPU-aa, 0x0000000000000040, 900, 1500"
    found = read(CARD, tmp_path, says(f"0, 61, {row}\n1, 62, {row}\n"))
    assert (found.throttling.share, found.decisive[0].throttle_c) == (None, None)


def test_the_kernels_cooling_devices_count_for_what_is_served_by_the_chip_itself(
    tmp_path: Path,
) -> None:
    box = FakeMachine(tmp_path)
    box.zone(0, "tj-thermal", "99000")
    box.cooling(0, "devfreq-17000000.gpu", "2", "10")
    assert read(JETSON, box.root).throttling.share == 0.2
    assert read(CARD, box.root, says("0, 61\n")).throttling.share is None
    reader = SensorReader(box.root)
    box.file("sys/class/hwmon/hwmon0/oc1_event_cnt", "1\n")
    assert reader(JETSON).throttling.reasons == ("devfreq-17000000.gpu",)
    box.file("sys/class/hwmon/hwmon0/oc1_event_cnt", "2\n")
    assert reader(JETSON).throttling.share == 0.3


TWO = (
    "0, 61, GPU-aa, 0x0000000000000000, 900, 1500, 210.10\n"
    "1, 55, GPU-bb, 0x0000000000000000, 900, 1500, {power}\n"
)


def chosen(uuid: str, kind: str = "discrete") -> ComputeTarget:
    gpu = Gpu.model_validate(
        {"name": "Tesla P40", "memory_mib": 1, "compute_capability": "6.1", "kind": kind,
         "uuid": f"MIG-{uuid}" if kind == "mig" else uuid, "board": uuid}
    )  # fmt: skip
    return ComputeTarget("card", gpu, alone=False)


@pytest.mark.parametrize(
    ("power", "watts"), [("98.50", 98.5), ("[N/A]", None), ("ERR!", None), ("0.00", 0.0)]
)
def test_the_power_is_that_of_the_gpu_that_serves(
    tmp_path: Path, power: str, watts: float | None
) -> None:
    found = read(chosen("GPU-bb"), tmp_path, says(TWO.format(power=power)))
    assert found.power.watts == watts
    assert found.power.source == "nvidia-smi"
    assert bool(found.power.problem) == (watts is None)
    assert found.hottest_c == 55


def test_the_power_of_two_gpus_of_which_none_is_chosen_is_not_known(tmp_path: Path) -> None:
    found = read(CARD, tmp_path, says(TWO.format(power="98.50"))).power
    assert (found.watts, found.problem) == (None, "it is not known which of 2 GPUs serves")


def test_a_slice_has_no_power(tmp_path: Path) -> None:
    found = read(chosen("GPU-bb", "mig"), tmp_path, says(TWO.format(power="98.50"))).power
    assert found.watts is None
    assert "includes the other slices" in found.problem


def test_a_driver_that_says_no_power_still_says_the_temperature(tmp_path: Path) -> None:
    found = read(CARD, tmp_path, says("0, 61, GPU-aa\n"))
    assert (found.hottest_c, found.power.watts) == (61, None)


@pytest.mark.parametrize(
    ("capture", "watts", "scope"),
    [
        ("thor-jetpack-7.2", 19.78, "VIN"),
        ("orin-jetpack-7.2", 22.43, "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"),
    ],
)
def test_the_power_of_a_captured_jetson(
    tmp_path: Path, capture: str, watts: float, scope: str
) -> None:
    found = read(JETSON, unpack(capture, tmp_path)).power
    assert found.watts == pytest.approx(watts, rel=0.005)
    assert (found.source, found.scope) == ("hwmon", scope)
