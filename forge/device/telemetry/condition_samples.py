"""Metrics of the machine's condition: heat, power, the last check of the channel, metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from forge.device.power.plan import PowerReport
from forge.device.telemetry.metrics import Sample
from forge.device.telemetry.status import ChannelCheck
from forge.device.thermal.monitor import ThermalReport

__all__ = ["channel_samples", "expiry_samples", "heat_samples", "power_samples"]

_MOST_ROLES: Final = 16
_MOST_BYTES: Final = 8 * 1024 * 1024


def heat_samples(heat: ThermalReport) -> tuple[Sample, ...]:
    """Return every temperature and what the governor does with them."""
    sensors = [(one, "true") for one in heat.sensors]
    sensors += [(one, "false") for one in heat.other_sensors]
    named: dict[str, int] = {}  # two zones may have one name
    found = []
    for sensor, decisive in sensors:
        number = named[sensor.name] = named.get(sensor.name, 0) + 1
        name = sensor.name if number == 1 else f"{sensor.name}-{number}"
        labels = (("sensor", name), ("decisive", decisive))
        found.append(Sample("forge_device_temperature_celsius", labels, sensor.celsius))
    if heat.throttle_c is not None:
        found.append(Sample("forge_device_throttle_celsius", (), heat.throttle_c))
    most = heat.limit if heat.most is None else heat.most
    found.append(Sample("forge_device_requests_limit_max", (), most))
    if heat.throttled is not None or heat.power_reasons:
        throttled = bool(heat.throttled or heat.power_reasons)
        found.append(Sample("forge_device_throttled", (), float(throttled)))
    lost = Sample("forge_device_lost_temperature_readings_total", (), heat.lost_readings)
    return (*found, lost)


def power_samples(power: PowerReport) -> tuple[Sample, ...]:
    """Return the board's mode and the power limit of the GPU that serves."""
    modes = [Sample("forge_device_power_mode", (("mode", power.mode),), 1)] if power.mode else []
    limits = (
        Sample("forge_device_gpu_power_limit_watts", (("gpu", gpu.selector),), gpu.limit_w)
        for gpu in power.gpus
        if gpu.limit_w is not None
    )
    return (*modes, *limits)


def channel_samples(check: ChannelCheck | None) -> tuple[Sample, ...]:
    """Return when the channel was last read and whether that failed; nothing before the first."""
    if check is None:
        return ()
    at = datetime.fromisoformat(check.at).timestamp()
    return (
        Sample("forge_device_channel_check_timestamp_seconds", (), at),
        Sample("forge_device_channel_check_failed", (), float(check.error is not None)),
    )


def expiry_samples(tuf: Path) -> tuple[Sample, ...]:
    """Return when each of TUF's roles expires, by the metadata that the device trusts.

    Args:
        tuf: the folder of forge.trust.TrustedStore.
    """
    return tuple(_expiries(tuf / "metadata"))


def _expiries(metadata: Path) -> Iterator[Sample]:
    for path in sorted(metadata.glob("*.json"))[:_MOST_ROLES]:
        try:
            with path.open("rb") as file:
                expires = json.loads(file.read(_MOST_BYTES))["signed"]["expires"]
            at = datetime.fromisoformat(expires).timestamp()
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged: the trust client reports that
        family = "forge_device_metadata_expiry_timestamp_seconds"
        yield Sample(family, (("role", path.stem),), at)
