"""Sensors: real files below a folder, real processes for nvidia-smi."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.device.hardware.facts import Answer, Run
from forge.device.thermal import sensors
from forge.device.thermal.sensors import Sensor, parse_gpus, parse_zone, read, zones
from tests.support.captured import unpack


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
    found = read("jetson", root)
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
    parse_gpus(text)
    parse_gpus(f"0, {text}")


def test_a_machine_without_zones_has_no_temperature(tmp_path: Path) -> None:
    assert read("cpu", tmp_path).hottest_c is None
    (tmp_path / "sys/class").mkdir(parents=True)
    (tmp_path / "sys/class/thermal").write_text("no folder")
    assert read("jetson", tmp_path).hottest_c is None


def test_a_zone_without_a_type_has_its_folders_name(tmp_path: Path) -> None:
    (zone(tmp_path, 3, "x", "40000") / "type").unlink()
    assert names(zones(tmp_path)[0]) == ["thermal_zone3"]


def test_this_machines_zones_are_read() -> None:
    for sensor in read("cpu").decisive:
        assert -55 <= sensor.celsius <= 150


def says(output: str = "", problem: str = "") -> Run:
    return lambda _argv, _timeout_s: Answer(output, problem)


def test_a_discrete_gpu_is_judged_by_its_own_sensor(tmp_path: Path) -> None:
    zone(tmp_path, 0, "x86_pkg_temp", "97000\n")
    found = read("discrete", tmp_path, says("0, 61\n1, 64\n"))
    assert names(found.decisive) == ["gpu0", "gpu1"]
    assert (found.hottest_c, names(found.others), found.problem) == (64.0, ["x86_pkg_temp"], "")


def test_a_jetsons_nvidia_smi_is_not_asked(tmp_path: Path) -> None:
    def refuse(argv: Sequence[str], _timeout_s: float) -> Answer:
        raise AssertionError(argv)

    zone(tmp_path, 0, "tj-thermal", "52000\n")
    assert read("jetson", tmp_path, refuse).hottest_c == 52.0
    assert read("cpu", tmp_path, refuse).hottest_c == 52.0


@pytest.mark.parametrize(
    ("output", "problem", "said"),
    [
        ("0, [N/A]\n", "", "no GPU reports its temperature"),
        ("", "", "no GPU reports its temperature"),
        ("0, 400\n", "", "no GPU reports its temperature"),
        ("", "not installed", "not installed"),
        ("0, 61\n", "exit code 15: the GPU is lost", "the GPU is lost"),
    ],
)
def test_a_gpu_that_says_nothing_is_a_problem(
    tmp_path: Path, output: str, problem: str, said: str
) -> None:
    found = read("discrete", tmp_path, says(output, problem))
    assert found.hottest_c is None
    assert said in found.problem


def test_a_hanging_nvidia_smi_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(sensors, "_SMI_S", 0.2)
    begun = time.monotonic()
    assert read("discrete", tmp_path).problem == "nvidia-smi: no answer within 0.2 s"
    assert time.monotonic() - begun < 10
