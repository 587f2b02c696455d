"""Heat, power, the channel and the end of metadata, as numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forge.device.power.plan import GpuPower, PowerReport
from forge.device.shared.concurrency import ConcurrencyLimit
from forge.device.telemetry.condition_samples import (
    channel_samples,
    expiry_samples,
    heat_samples,
    power_samples,
)
from forge.device.telemetry.metrics import Metrics, Sample
from forge.device.telemetry.status import ChannelCheck
from forge.device.thermal.monitor import ThermalMonitor
from forge.device.thermal.sensors import Sensor, Temperatures
from forge.profiles import ThermalSection
from forge.throttling import Throttling
from tests.support.release_world import World
from tests.support.scrape import scrape


def shown(*samples: Sample) -> dict[str, float]:
    metrics = Metrics()
    metrics.collect_from(lambda: samples)
    found = scrape(metrics.render().decode())
    names = {one.family for one in samples}
    return {
        name.removeprefix("forge_device_"): value
        for name, value in found.items()
        if name.partition("{")[0] in names
    }


def heated(celsius: float) -> ThermalMonitor:
    seen = Temperatures(
        decisive=(Sensor(name="gpu0", celsius=celsius),),
        others=(Sensor(name="acpitz", celsius=40), Sensor(name="acpitz", celsius=41)),
    )
    monitor = ThermalMonitor(ConcurrencyLimit(), read_sensors=lambda _target: seen)
    monitor.govern(ThermalSection(throttle_c=83, critical_c=90, batch_floor=1), 8)
    monitor.check()
    return monitor


def test_every_sensor_is_shown_and_the_decisive_ones_are_marked() -> None:
    numbers = shown(*heat_samples(heated(45).report()))
    assert numbers['temperature_celsius{decisive="true",sensor="gpu0"}'] == 45
    assert numbers['temperature_celsius{decisive="false",sensor="acpitz"}'] == 40
    assert numbers['temperature_celsius{decisive="false",sensor="acpitz-2"}'] == 41
    assert numbers["throttle_celsius"] == 83


def test_a_limit_that_heat_lowered_is_below_its_maximum() -> None:
    hot = heated(95)
    assert shown(*heat_samples(hot.report()))["requests_limit_max"] == 8
    assert hot.limit.current < 8


def test_without_temperatures_the_limit_is_its_own_maximum() -> None:
    monitor = ThermalMonitor(ConcurrencyLimit(), read_sensors=lambda _target: Temperatures())
    monitor.govern(None, 4)
    monitor.check()
    numbers = shown(*heat_samples(monitor.report()))
    assert numbers["requests_limit_max"] == 4
    assert numbers["lost_temperature_readings_total"] == 1
    assert "throttle_celsius" not in numbers


def test_power_limits_of_gpus_that_report_one() -> None:
    gpus = tuple(
        GpuPower(
            index=index,
            name="P40",
            limit_w=limit,
            min_limit_w=None,
            max_limit_w=None,
            max_clock_mhz=None,
        )
        for index, limit in enumerate((180.0, None))
    )
    power = PowerReport(mode=None, default_mode=None, modes=(), gpus=gpus)
    assert shown(*power_samples(power)) == {'gpu_power_limit_watts{gpu="0"}': 180}


def test_a_check_of_the_channel_that_failed() -> None:
    assert channel_samples(None) == ()
    failed = ChannelCheck(at="2026-11-28T00:00:00Z", error="the store cannot be reached")
    assert shown(*channel_samples(failed)) == {
        "channel_check_timestamp_seconds": 1795824000,
        "channel_check_failed": 1,
    }
    well = ChannelCheck(at="2026-11-28T00:00:00Z")
    assert shown(*channel_samples(well))["channel_check_failed"] == 0


def test_the_end_of_the_metadata_that_a_device_trusts(tmp_path: Path) -> None:
    """Real metadata, as the device's own TUF client keeps it; root ends long after timestamp."""
    world = World(tmp_path / "world", memory=True)
    world.release("1.0.0")
    client = world.client("tuf")
    client.refresh()
    found = shown(*expiry_samples(world.folder / "tuf"))
    roles = {name.removeprefix("metadata_expiry_timestamp_seconds") for name in found}
    assert roles >= {f'{{role="{role}"}}' for role in ("root", "timestamp", "snapshot", "targets")}
    root = found['metadata_expiry_timestamp_seconds{role="root"}']
    assert root > found['metadata_expiry_timestamp_seconds{role="timestamp"}'] > 1.7e9


def test_damaged_metadata_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "metadata"
    folder.mkdir()
    (folder / "root.json").write_text("{")
    (folder / "timestamp.json").write_text(json.dumps({"signed": {"expires": 7}}))
    (folder / "snapshot.json").write_text('{"signed": {"expires": "2026-11-28T00:00:00Z"}}')
    assert shown(*expiry_samples(tmp_path)) == {
        'metadata_expiry_timestamp_seconds{role="snapshot"}': 1795824000
    }
    assert expiry_samples(tmp_path / "absent") == ()


def test_the_power_mode_in_force() -> None:
    power = PowerReport(mode="MODE_30W", default_mode=None, modes=(), gpus=())
    assert shown(*power_samples(power)) == {'power_mode{mode="MODE_30W"}': 1}


@pytest.mark.parametrize(
    ("throttling", "expected"),
    [
        (Throttling(), None),
        (Throttling(0.0), 0),
        (Throttling(0.2, ("devfreq-17000000.gpu",)), 1),
        (Throttling(0.0, power_reasons=("HW power brake slowdown",)), 1),
    ],
)
def test_whether_heat_or_power_lowers_the_clocks(
    throttling: Throttling, expected: float | None
) -> None:
    seen = Temperatures(throttling=throttling)
    monitor = ThermalMonitor(ConcurrencyLimit(), read_sensors=lambda _target: seen)
    monitor.check()
    assert shown(*heat_samples(monitor.report())).get("throttled") == expected
