"""Power and energy as numbers of /metrics."""

from __future__ import annotations

from forge.device.power.energy_account import EnergyAccount, EnergyReport
from forge.device.telemetry.energy_samples import energy_samples
from forge.device.telemetry.metrics import Metrics
from forge.energy.power_reading import PowerReading, RailPower
from tests.support.scrape import scrape


def shown(report: EnergyReport) -> dict[str, float]:
    metrics = Metrics()
    metrics.collect_from(lambda: energy_samples(report))
    names = ("power", "rail", "energy", "serving", "unmeasured")
    found = scrape(metrics.render().decode())
    named = {name.removeprefix("forge_device_"): value for name, value in found.items()}
    return {name: value for name, value in named.items() if name.startswith(names)}


def test_power_rails_and_energy_of_a_board() -> None:
    rails = (RailPower("VDD_GPU", 2.0), RailPower("VDD_GPU", 3.0), RailPower("VIN", 19.78),
             RailPower("VIN_SYS_5V0", None))  # fmt: skip
    power = PowerReading(19.78, "hwmon", "VIN", rails=rails)
    report = EnergyReport(power, {"hwmon": 640.5}, {"hwmon": 600.25}, 2)
    assert shown(report) == {
        'power_watts{source="hwmon"}': 19.78,
        'rail_power_watts{rail="VDD_GPU"}': 2.0,
        'rail_power_watts{rail="VDD_GPU-2"}': 3.0,
        'rail_power_watts{rail="VIN"}': 19.78,
        'energy_joules_total{source="hwmon"}': 640.5,
        'serving_energy_joules_total{source="hwmon"}': 600.25,
        "unmeasured_requests_total": 2,
    }


def test_power_that_is_not_known_is_left_out_and_the_counters_stay() -> None:
    lost = PowerReading(None, "hwmon", "VIN", problem="VIN could not be read")
    found = shown(EnergyReport(lost, {"hwmon": 640.5}, {}))
    assert found == {'energy_joules_total{source="hwmon"}': 640.5, "unmeasured_requests_total": 0}


def test_the_energy_of_requests_is_a_histogram() -> None:
    metrics, times = Metrics(), iter((0.0, 0.0, 2.0, 2.0))
    account = EnergyAccount(
        lambda joules: metrics.observe("forge_device_request_energy_joules", joules),
        lambda: next(times),
    )
    account.sample(PowerReading(30.0, "hwmon", "VIN"))
    account.end(account.begin())
    account.sample(PowerReading(30.0, "hwmon", "VIN"))
    numbers = scrape(metrics.render().decode())
    assert numbers["forge_device_request_energy_joules_sum"] == 60
    assert numbers['forge_device_request_energy_joules_bucket{le="50.0"}'] == 0
    assert numbers['forge_device_request_energy_joules_bucket{le="100.0"}'] == 1
