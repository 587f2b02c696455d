"""Trip points of the kernel and the limits that nvidia-smi states."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.device.hardware.compute_target import ComputeTarget
from forge.device.hardware.facts import Answer, Run
from forge.device.hardware.gpus import Gpu
from forge.device.thermal.hardware_limits import (
    NONE,
    HardwareLimits,
    parse_gpu,
    read_gpu,
    read_zone,
)
from tests.support.machines import CARD, FakeMachine, eagain

# As nvidia-smi prints them: with temperatures (until Ampere) and with distances (since Ada).
OLD = """
==============NVSMI LOG==============

Timestamp                                 : Sun Nov 29 12:00:00 2026
Driver Version                            : 580.126.09
CUDA Version                              : 13.0

Attached GPUs                             : 1
GPU 00000000:01:00.0
    Temperature
        GPU Current Temp                  : 61 C
        GPU T.Limit Temp                  : N/A
        GPU Shutdown Temp                 : 95 C
        GPU Slowdown Temp                 : 92 C
        GPU Max Operating Temp            : 89 C
        GPU Target Temperature            : 83 C
        Memory Current Temp               : N/A
        Memory Max Operating Temp         : N/A
"""
NEW = """
GPU 00000000:01:00.0
    Temperature
        GPU Current Temp                  : 45 C
        GPU T.Limit Temp                  : 42 C
        GPU Shutdown T.Limit Temp         : -7 C
        GPU Slowdown T.Limit Temp         : -2 C
        GPU Max Operating T.Limit Temp    : 0 C
        GPU Target Temperature            : 83 C
        Memory Current Temp               : N/A
        Memory Max Operating T.Limit Temp : N/A
"""


@pytest.fixture
def box(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path)


def zone_with(box: FakeMachine, *trips: tuple[str, float]) -> Path:
    zone = box.zone(0, "tj-thermal", "52000")
    for number, (kind, celsius) in enumerate(trips):
        box.trip(zone, number, kind, celsius)
    return zone


@pytest.mark.parametrize(
    ("trips", "throttle_c", "critical_c"),
    [
        ((("passive", 99), ("critical", 104.5)), 99, 104.5),
        # An Orin has a passive one for its surface alert, which lowers no clock.
        ((("passive", 99), ("critical", 104.5), ("passive", 70)), 99, 104.5),
        ((("active", 51), ("active", 61), ("critical", 114.5)), None, 114.5),
        ((("passive", 95), ("hot", 105), ("critical", 110)), 95, 105),
        ((("passive", 0), ("passive", 0)), None, None),  # x86_pkg_temp: not set
        ((("passive", -32.768),), None, None),
        ((("passive", 150), ("critical", 200)), None, None),
        ((("passive", 110), ("critical", 104.5)), None, 104.5),  # it would never be reached
        ((), None, None),
    ],
)
def test_the_trip_points_of_a_zone(
    box: FakeMachine,
    trips: tuple[tuple[str, float], ...],
    throttle_c: float | None,
    critical_c: float | None,
) -> None:
    assert read_zone(zone_with(box, *trips)) == HardwareLimits(throttle_c, critical_c)


def test_a_trip_point_that_cannot_be_read_is_skipped(box: FakeMachine) -> None:
    zone = zone_with(box, ("passive", 90), ("passive", 99), ("critical", 104.5))
    with eagain(zone / "trip_point_1_temp"):
        assert read_zone(zone) == HardwareLimits(90, 104.5)
    (zone / "trip_point_2_temp").write_text("never\n")
    assert read_zone(zone).critical_c is None


def test_numbers_of_trip_points_may_have_gaps(box: FakeMachine) -> None:
    zone = box.zone(0, "tj-thermal", "52000")
    box.trip(zone, 3, "passive", 99)
    assert read_zone(zone) == HardwareLimits(99, None)


def test_a_gpu_that_states_temperatures() -> None:
    assert parse_gpu(OLD) == HardwareLimits(83, 92)


def test_a_gpu_that_states_distances_from_its_limit() -> None:
    assert parse_gpu(NEW) == HardwareLimits(83, 89)  # 45 + 42 - -2
    hotter = NEW.replace(": 45 C", ": 80 C").replace(": 42 C", ": 7 C")
    assert parse_gpu(hotter) == HardwareLimits(83, 89)


def test_the_lower_one_of_target_and_maximum_operating_temperature_counts() -> None:
    lower = OLD.replace("Max Operating Temp            : 89", "Max Operating Temp            : 75")
    assert parse_gpu(lower).throttle_c == 75
    assert (
        parse_gpu(NEW.replace("Target Temperature            : 83 C", "x : N/A")).throttle_c == 87
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No devices were found\n",
        OLD + NEW,  # which of the two is not said
        OLD.replace(" C\n", " F\n"),
        OLD.replace("83 C", "N/A").replace("92 C", "[Unknown Error]").replace("89 C", "ERR!"),
        OLD.replace("83", "8").replace("92", "9").replace("89", "9"),
    ],
)
def test_what_is_not_said_is_not_known(text: str) -> None:
    assert parse_gpu(text) == NONE


def test_a_target_above_the_slowdown_is_no_target() -> None:
    text = OLD.replace("92 C", "80 C")
    assert parse_gpu(text) == HardwareLimits(None, 80)


@pytest.mark.parametrize(
    ("gpu", "chosen"),
    [
        (None, ()),
        (Gpu(name="x", memory_mib=1, compute_capability=None, uuid="GPU-a"), ("-i", "GPU-a")),
        (
            Gpu(name="x", memory_mib=1, compute_capability=None, uuid="MIG-a", board="GPU-b"),
            ("-i", "GPU-b"),
        ),
    ],
)
def test_the_gpu_that_serves_is_asked(gpu: Gpu | None, chosen: tuple[str, ...]) -> None:
    asked = []

    def run(argv: object, _timeout_s: float) -> Answer:
        asked.append(argv)
        return Answer(OLD)

    assert read_gpu(ComputeTarget("card", gpu), run, 1.0) == HardwareLimits(83, 92)
    assert asked == [("nvidia-smi", *chosen, "-q", "-d", "TEMPERATURE")]


def test_a_program_that_is_missing_states_nothing() -> None:
    missing: Run = lambda _argv, _timeout_s: Answer(problem="not installed")  # noqa: E731
    assert read_gpu(CARD, missing, 1.0) == NONE


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    parse_gpu(text)
    parse_gpu(NEW.replace("42", text))
