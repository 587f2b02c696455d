"""Whether heat lowers the clocks: cooling devices, counters, clocks_event_reasons."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.throttling import (
    SLOWDOWN_UNSAID,
    UNKNOWN,
    Throttling,
    of_reasons,
    read_cooling,
    since,
)
from tests.support.machines import FakeMachine, eagain


@pytest.fixture
def box(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path)


def test_a_machine_without_cooling_devices_says_nothing(box: FakeMachine) -> None:
    assert read_cooling(box.root) == UNKNOWN
    box.cooling(0, "pwm-fan", "3", "4")
    assert read_cooling(box.root).share is None


def test_the_device_that_is_cooled_most_decides(box: FakeMachine) -> None:
    box.cooling(0, "cpufreq-cpu0", "12", "48")
    box.cooling(1, "devfreq-17000000.gpu", "5", "10")
    box.cooling(2, "cpufreq-cpu4", "0", "48")
    found = read_cooling(box.root)
    assert found.share == 0.5
    assert found.reasons == ("cpufreq-cpu0", "devfreq-17000000.gpu")


@pytest.mark.parametrize(
    "name",
    ["cpufreq-cpu0", "thermal-cpufreq-0", "devfreq-gpu-gpc-0", "thermal-devfreq-1", "Processor"],
)
def test_the_kernels_names_of_cooled_clocks(box: FakeMachine, name: str) -> None:
    box.cooling(0, name, "1", "4")
    assert read_cooling(box.root).share == 0.25


@pytest.mark.parametrize(
    "name", ["pwm-fan", "hot-surface-alert", "hot-surface-throttle-alert", "x"]
)
def test_what_lowers_no_clock_is_left_out(box: FakeMachine, name: str) -> None:
    box.cooling(0, "cpufreq-cpu0", "0", "48")
    box.cooling(1, name, "1", "1")
    assert read_cooling(box.root) == Throttling(0.0)


def test_an_alert_says_that_it_throttles_and_not_by_how_much(box: FakeMachine) -> None:
    box.cooling(0, "gpu-throttle-alert", "0", "2")
    assert read_cooling(box.root).share == 0.0
    box.cooling(0, "gpu-throttle-alert", "1", "2")
    found = read_cooling(box.root)
    assert (found.share, found.reasons) == (SLOWDOWN_UNSAID, ("gpu-throttle-alert",))


@pytest.mark.parametrize(
    ("state", "most"), [("", "4"), ("x", "4"), ("1", "0"), ("1", ""), ("-1", "4")]
)
def test_a_device_that_says_nothing_useful_is_skipped(
    box: FakeMachine, state: str, most: str
) -> None:
    box.cooling(0, "cpufreq-cpu0", state, most)
    box.cooling(1, "cpufreq-cpu4", "2", "4")
    assert read_cooling(box.root) == Throttling(0.5, ("cpufreq-cpu4",))


def test_a_device_that_the_kernel_says_to_ask_again_is_skipped(box: FakeMachine) -> None:
    gated = box.cooling(0, "devfreq-17000000.gpu", "1", "4")
    box.cooling(1, "cpufreq-cpu0", "1", "4")
    with eagain(gated / "cur_state"):
        assert read_cooling(box.root) == Throttling(0.25, ("cpufreq-cpu0",))


def test_counters_of_a_jetson_and_of_x86_are_read(box: FakeMachine) -> None:
    box.file("sys/class/hwmon/hwmon3/oc3_event_cnt", "813\n")
    box.file("sys/class/hwmon/hwmon3/oc2_event_cnt", "none\n")
    count = "devices/system/cpu/cpu0/thermal_throttle/package_throttle_count"
    box.file(f"sys/{count}", "7\n")
    found = read_cooling(box.root)
    assert found.counters == {"class/hwmon/hwmon3/oc3_event_cnt": 813, count: 7}
    assert found.share is None


def test_a_counter_that_rose_since_the_last_look_throttles() -> None:
    before, same, more = (Throttling(counters={"oc1": count}) for count in (4, 4, 5))
    assert since(before, same).share == 0.0
    risen = since(before, more)
    assert (risen.share, risen.reasons) == (SLOWDOWN_UNSAID, ("oc1",))


def test_the_first_look_and_a_new_counter_are_no_event() -> None:
    first = Throttling(0.1, ("cpufreq-cpu0",), {"oc1": 900})
    assert since(UNKNOWN, first).share == 0.1
    assert since(UNKNOWN, UNKNOWN).share is None


def test_a_counter_does_not_hide_a_device_that_is_cooled_more() -> None:
    found = since(Throttling(counters={"oc1": 1}), Throttling(0.9, ("a",), {"oc1": 2}))
    assert (found.share, found.reasons) == (0.9, ("a", "oc1"))


@pytest.mark.parametrize(
    ("cell", "share", "reasons"),
    [
        ("0x0000000000000000", 0.0, ()),
        ("0x0000000000000001", 0.0, ()),  # idle
        ("0x0000000000000004", 0.0, ()),  # the power cap that was asked for
        ("0x0000000000000008", 0.0, ()),  # HW slowdown: with one of the next two, or a power brake
        ("0x0000000000000080", 0.0, ()),
        ("0x0000000000000020", 0.4, ("SW thermal slowdown",)),
        ("0x0000000000000048", 1.0, ("HW thermal slowdown",)),
        ("0x0000000000000064", 1.0, ("SW thermal slowdown", "HW thermal slowdown")),
    ],
)
def test_the_bits_of_a_gpu(cell: str, share: float, reasons: tuple[str, ...]) -> None:
    found = of_reasons(cell, 1600, 2000)
    assert found.share == pytest.approx(share)
    assert found.reasons == reasons


@pytest.mark.parametrize(
    ("clock", "unthrottled", "share"),
    [
        (1900, 2000, 0.1), (1000, 2000, 1.0), (600, 2000, 1.0), (2100, 2000, 0.0),
        (None, 2000, SLOWDOWN_UNSAID), (1600, None, SLOWDOWN_UNSAID),
    ],
)  # fmt: skip
def test_half_of_the_clock_is_the_whole_range(
    clock: float | None, unthrottled: float | None, share: float
) -> None:
    assert of_reasons("0x20", clock, unthrottled).share == pytest.approx(share)


@given(st.text())
def test_any_other_text_is_not_known(text: str) -> None:
    if not text.startswith("0x"):
        assert of_reasons(text, 1.0, 1.0) == UNKNOWN


@pytest.mark.parametrize("cell", ["[N/A]", "Not Active", "[Unknown Error]", "", "0x", "0xg", "32"])
def test_what_nvidia_smi_says_instead(cell: str) -> None:
    assert of_reasons(cell, 1.0, 1.0) == UNKNOWN


@pytest.mark.parametrize(
    ("cell", "by_heat", "by_power"),
    [
        ("0x0000000000000004", (), ()),  # the cap that a profile sets
        ("0x0000000000000008", (), ("HW slowdown",)),
        ("0x0000000000000048", ("HW thermal slowdown",), ()),
        ("0x0000000000000088", (), ("HW power brake slowdown",)),
        ("0x00000000000000a0", ("SW thermal slowdown",), ("HW power brake slowdown",)),
    ],
)
def test_what_power_lowers_is_told_from_what_heat_lowers(
    cell: str, by_heat: tuple[str, ...], by_power: tuple[str, ...]
) -> None:
    found = of_reasons(cell, None, None)
    assert (found.reasons, found.power_reasons) == (by_heat, by_power)
    assert found.in_force is bool(by_heat or by_power)
    assert UNKNOWN.in_force is None
