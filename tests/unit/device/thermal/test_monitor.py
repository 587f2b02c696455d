"""The governor's thread: real threads, real files; only the clock of the long waits is short."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Never

import pytest

from forge.device.hardware.compute_target import ComputeTarget
from forge.device.shared.concurrency import ConcurrencyLimit
from forge.device.thermal import governor, monitor
from forge.device.thermal.monitor import ThermalMonitor
from forge.device.thermal.sensors import Sensor, Temperatures, read
from forge.energy.power_reading import PowerReading
from forge.profiles import ThermalSection
from forge.throttling import Throttling
from tests.support.machines import CARD, JETSON, eagain

Look = Callable[[ComputeTarget], Temperatures]
THERMAL = ThermalSection(throttle_c=83, critical_c=90, batch_floor=1)


class Board:
    """Thermal zones below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.zone = root / "sys/class/thermal/thermal_zone0"
        self.zone.mkdir(parents=True)
        (self.zone / "type").write_text("tj-thermal\n")

    def set(self, celsius: float) -> None:
        new = self.zone / "new"
        new.write_text(f"{celsius * 1000:.0f}\n")
        new.replace(self.zone / "temp")

    def lose(self) -> None:
        (self.zone / "temp").unlink()

    def look(self, target: ComputeTarget) -> Temperatures:
        return read(target, self.root)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    made = Board(tmp_path)
    made.set(45)
    return made


@pytest.fixture
def guard(board: Board) -> ThermalMonitor:
    return ThermalMonitor(ConcurrencyLimit(), read_sensors=board.look, period_s=0.02)


def wait_for(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_hot_zone_lowers_the_limit_and_the_report_says_why(
    board: Board, guard: ThermalMonitor
) -> None:
    with guard.running():
        guard.govern(THERMAL, 8, JETSON)
        wait_for(lambda: guard.report().celsius == 45.0)
        assert guard.limit.current == 8
        board.set(95)
        wait_for(lambda: guard.limit.current == 1)
    report = guard.report()
    assert report.reason == "95.0 °C is critical (90 °C)"
    assert (report.limit, report.most, report.floor) == (1, 8, 1)
    assert (report.throttle_c, report.critical_c) == (83.0, 90.0)
    assert report.sensors == (Sensor(name="tj-thermal", celsius=95.0),)
    assert report.lowered >= 1
    assert report.decisions[-1].limit == 1


def test_without_temperatures_of_a_bundle_its_batch_is_the_limit(
    board: Board, guard: ThermalMonitor
) -> None:
    guard.govern(THERMAL, 4, JETSON)
    board.set(95)
    guard.check()
    assert guard.limit.current == 1
    guard.govern(None, 4)
    guard.check()
    assert guard.limit.get() == (4, "the bundle sets no temperatures")
    report = guard.report()
    assert (report.most, report.throttle_c, report.celsius) == (None, None, 95.0)


def test_the_next_bundle_does_not_start_full_on_a_hot_board(
    board: Board, guard: ThermalMonitor
) -> None:
    guard.govern(THERMAL, 8, JETSON)
    board.set(95)
    guard.check()
    guard.govern(THERMAL, 4, JETSON)
    assert guard.limit.current == 1


def test_a_sensor_that_disappears_is_counted_and_held_to_half(
    board: Board, guard: ThermalMonitor
) -> None:
    guard.govern(THERMAL, 8, JETSON)
    guard.check()
    board.lose()
    for _ in range(3):
        guard.check()
    report = guard.report()
    assert (report.limit, report.lost_readings, report.silent) == (4, 3, ("tj-thermal",))
    assert report.reason == "the temperature can no longer be read"
    board.set(45)
    guard.check()
    assert guard.report().limit == 4  # it rises slowly


def test_a_machine_without_sensors_is_not_held_back(tmp_path: Path) -> None:
    guard = ThermalMonitor(ConcurrencyLimit(), read_sensors=lambda target: read(target, tmp_path))
    guard.govern(THERMAL, 2)
    for _ in range(10):
        guard.check()
    assert guard.limit.get() == (2, "this machine has no temperature sensor")


def test_a_bundle_is_looked_after_at_once_and_not_after_the_pause(board: Board) -> None:
    guard = ThermalMonitor(ConcurrencyLimit(), read_sensors=board.look, period_s=600)
    board.set(95)
    with guard.running():
        guard.govern(THERMAL, 8, JETSON)
        wait_for(lambda: guard.limit.current == 1)


def test_the_thread_ends_with_its_body_however_long_its_pause(board: Board) -> None:
    guard = ThermalMonitor(ConcurrencyLimit(), read_sensors=board.look, period_s=600)
    begun = time.monotonic()
    with guard.running():
        wait_for(lambda: guard.report().celsius is not None)
    assert time.monotonic() - begun < 10
    assert "heat" not in {thread.name for thread in threading.enumerate()}


def test_an_nvidia_smi_that_hangs_is_asked_ever_more_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(monitor, "_MAX_PAUSE_S", 0.4)
    asked: list[float] = []

    def look(_target: ComputeTarget) -> Temperatures:
        asked.append(time.monotonic())
        return Temperatures(problem="nvidia-smi: no answer within 5 s")

    guard = ThermalMonitor(ConcurrencyLimit(), read_sensors=look, period_s=0.05)
    guard.govern(THERMAL, 8, JETSON)
    with guard.running():
        wait_for(lambda: len(asked) >= 5)
    gaps = [late - early for early, late in pairwise(asked)]
    assert gaps[0] >= 0.1
    assert gaps[2] >= 0.4
    assert guard.limit.current == 4


def test_a_mistake_in_one_look_ends_nothing_and_the_next_look_counts(
    board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    looks = [0]

    def look(target: ComputeTarget) -> Temperatures:
        looks[0] += 1
        if looks[0] < 6:
            raise TypeError("None has no decode")
        return board.look(target)

    guard = ThermalMonitor(ConcurrencyLimit(), read_sensors=look, period_s=0.01)
    guard.govern(THERMAL, 8, JETSON)
    board.set(95)
    with guard.running():
        wait_for(lambda: guard.limit.current == 1)
    assert guard.report().lost_readings == 5
    assert "None has no decode" in caplog.text


def test_a_mistake_in_every_look_holds_the_load_to_half(caplog: pytest.LogCaptureFixture) -> None:
    def look(_target: ComputeTarget) -> Temperatures:
        raise RuntimeError("a mistake")

    guard = ThermalMonitor(ConcurrencyLimit(), read_sensors=look, period_s=0.01)
    guard.govern(THERMAL, 8, JETSON)
    with guard.running():
        wait_for(lambda: guard.limit.current == 4)
    assert "a mistake" in guard.report().problem
    assert "please report it" in caplog.text


def test_a_mistake_of_the_governor_holds_the_load_to_half_and_ends_nothing(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = governor.step

    def wrong(*_arguments: object) -> Never:
        raise ZeroDivisionError

    guard = ThermalMonitor(ConcurrencyLimit(), read_sensors=board.look, period_s=0.01)
    guard.govern(THERMAL, 8, JETSON)
    monkeypatch.setattr(governor, "step", wrong)
    with guard.running():
        wait_for(lambda: guard.limit.current == 4)
        assert "bug in Forge" in guard.limit.reason
        monkeypatch.setattr(governor, "step", right)
        board.set(95)
        wait_for(lambda: guard.limit.current == 1)


def test_a_power_gated_zone_is_skipped_by_the_thread_that_watches(board: Board) -> None:
    cv = board.zone.with_name("thermal_zone1")
    cv.mkdir()
    (cv / "type").write_text("cv0-thermal\n")
    guard = ThermalMonitor(ConcurrencyLimit(), read_sensors=board.look, period_s=0.01)
    with eagain(cv / "temp"), guard.running():
        guard.govern(THERMAL, 8, JETSON)
        wait_for(lambda: guard.report().silent == ("cv0-thermal",))
        board.set(95)
        wait_for(lambda: guard.limit.current == 1)
    assert guard.report().lost_readings == 0


def test_a_gpu_that_does_not_answer_is_asked_again_at_once() -> None:
    """Only a process that hangs is a reason to ask seldom: row 5 of the machines."""
    seen = [Temperatures(problem="nvidia-smi: exit code 18: mismatch")] * 20

    def look(_target: ComputeTarget) -> Temperatures:
        return seen.pop() if seen else Temperatures(decisive=(Sensor(name="gpu0", celsius=95),))

    guard = ThermalMonitor(ConcurrencyLimit(), read_sensors=look, period_s=0.01)
    guard.govern(THERMAL, 8, JETSON)
    with guard.running():
        wait_for(lambda: guard.limit.current == 1, 5)


def seen(*sensors: tuple[float, float | None, float | None], share: float | None = None) -> Look:
    """What a reader gives: celsius, and the hardware's own throttling and critical temperature."""
    made = tuple(
        Sensor(name=f"zone{number}", celsius=celsius, throttle_c=throttle, critical_c=critical)
        for number, (celsius, throttle, critical) in enumerate(sensors)
    )
    return lambda _target: Temperatures(decisive=made, throttling=Throttling(share, ("gpu",)))


OFFSETS = ThermalSection(
    throttle_c=83, critical_c=90, batch_floor=1, throttle_offset_c=-1, critical_offset_c=-2
)


@pytest.mark.parametrize(
    ("thermal", "throttle", "critical", "limits"),
    [
        (OFFSETS, 99.0, 104.5, (98.0, 102.5)),
        (OFFSETS, None, None, (83.0, 90.0)),
        (OFFSETS, None, 114.5, (83.0, 112.5)),
        (OFFSETS, 99.0, None, (98.0, 105.0)),  # as far apart as the profile's numbers
        (OFFSETS, 83.0, 83.5, (80.5, 81.5)),  # a throttling temperature is below the critical one
        (THERMAL, 99.0, 104.5, (83.0, 90.0)),  # a profile from before the offsets
        (THERMAL.model_copy(update={"critical_c": 70.0}), None, None, (69.0, 70.0)),
    ],
)
def test_the_hardwares_own_limits_count_with_the_profiles_offsets(
    thermal: ThermalSection,
    throttle: float | None,
    critical: float | None,
    limits: tuple[float, float],
) -> None:
    guard = ThermalMonitor(ConcurrencyLimit(), read_sensors=seen((50.0, throttle, critical)))
    guard.govern(thermal, 8, JETSON)
    guard.check()
    report = guard.report()
    assert (report.throttle_c, report.critical_c) == limits
    stated = throttle is not None and thermal is OFFSETS
    assert report.limits_of == ("hardware" if stated else "profile")


def test_the_sensor_nearest_to_its_own_limit_decides_and_the_hottest_is_shown() -> None:
    both = seen((95.0, 110.0, 120.0), (88.0, 85.0, 89.0))
    guard = ThermalMonitor(ConcurrencyLimit(), read_sensors=both)
    guard.govern(OFFSETS, 8, JETSON)
    guard.check()
    report = guard.report()
    assert (report.limit, report.reason) == (1, "88.0 °C is critical (87 °C)")
    assert (report.celsius, report.throttle_c) == (95.0, 84.0)


@pytest.mark.parametrize(("share", "throttled"), [(None, None), (0.0, False), (0.25, True)])
def test_the_report_says_whether_the_hardware_throttles(
    share: float | None,
    *,
    throttled: bool | None,
) -> None:
    look = seen((84.0, 83.0, 92.0), share=share)
    guard = ThermalMonitor(ConcurrencyLimit(), read_sensors=look)
    guard.govern(OFFSETS, 8, JETSON)
    guard.check()
    report = guard.report()
    assert (report.throttled, report.throttled_share) == (throttled, share)
    assert report.throttle_reasons == ("gpu",)


def test_before_the_first_look_the_profiles_numbers_are_reported() -> None:
    guard = ThermalMonitor(ConcurrencyLimit(), read_sensors=seen())
    guard.govern(OFFSETS, 8, JETSON)
    report = guard.report()
    assert (report.throttle_c, report.critical_c, report.limits_of) == (83.0, 90.0, "profile")


def test_what_another_chip_said_is_not_the_next_bundles_temperature() -> None:
    guard = ThermalMonitor(ConcurrencyLimit(), read_sensors=seen((95.0, None, None)))
    guard.govern(THERMAL, 8, JETSON)
    guard.check()
    guard.govern(THERMAL, 4, CARD)
    assert guard.limit.current == 4


def test_the_power_of_the_same_look_is_passed_on_also_where_it_is_not_known() -> None:
    looks = iter((Temperatures(power=PowerReading(12.5, "hwmon", "VIN")), None))
    got: list[PowerReading] = []

    def look(_target: ComputeTarget) -> Temperatures:
        found = next(looks)
        if found is None:
            raise RuntimeError
        return found

    guard = ThermalMonitor(ConcurrencyLimit(), read_sensors=look, on_power=got.append)
    guard.check()
    guard.check()
    assert [one.watts for one in got] == [12.5, None]
