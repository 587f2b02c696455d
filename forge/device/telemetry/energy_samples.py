"""Metrics of power and energy: of what serves, of each rail, of the time with requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from forge.device.power.energy_account import EnergyReport
from forge.device.telemetry.metrics import Sample

__all__ = ["energy_samples"]


def energy_samples(energy: EnergyReport) -> tuple[Sample, ...]:
    """Return power now and energy since the start; what is not known now is left out."""
    return tuple(_samples(energy))


def _samples(energy: EnergyReport) -> Iterator[Sample]:
    power = energy.power
    if power.watts is not None and power.source is not None:
        yield Sample("forge_device_power_watts", (("source", power.source),), power.watts)
    named: dict[str, int] = {}  # two rails may have one name
    for rail in power.rails:
        number = named[rail.name] = named.get(rail.name, 0) + 1
        name = rail.name if number == 1 else f"{rail.name}-{number}"
        if rail.watts is not None:
            yield Sample("forge_device_rail_power_watts", (("rail", name),), rail.watts)
    yield from _by_source("forge_device_energy_joules_total", energy.joules)
    yield from _by_source("forge_device_serving_energy_joules_total", energy.serving_joules)
    yield Sample("forge_device_unmeasured_requests_total", (), energy.unmeasured)


def _by_source(family: str, joules: Mapping[str, float]) -> Iterator[Sample]:
    for source, energy in joules.items():
        yield Sample(family, (("source", source),), energy)
