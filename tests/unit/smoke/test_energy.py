"""Energy and throttling: parsing, integration, and a meter with a stand-in for nvidia-smi."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.smoke.energy import (
    EnergyMeter,
    EnergyReading,
    PowerSample,
    integrate_j,
    parse_sample,
    rapl_j,
    slowdowns,
)


@pytest.mark.parametrize(
    ("text", "watts", "reasons"),
    [
        ("27.81, 0x0000000000000001\n", 27.81, 1),
        ("27.81, 0x0000000000000020\n10.19, 0x0000000000000004\n", 38.0, 0x24),
        ("[N/A], 0x0000000000000000\n", None, 0),
        ("27.81, [N/A]\n", 27.81, None),
        ("[Not Supported], [Not Supported]\n", None, None),
    ],
)
def test_sample_is_the_sum_over_the_gpus(
    text: str, watts: float | None, reasons: int | None
) -> None:
    found = parse_sample(text, 5.0)
    assert found is not None
    assert found.watts == pytest.approx(watts)
    assert (found.at, found.reasons) == (5.0, reasons)


@pytest.mark.parametrize("text", ["", "\n", "NVIDIA-SMI has failed\n"])
def test_output_without_a_line_of_figures_is_no_sample(text: str) -> None:
    assert parse_sample(text, 5.0) is None


def test_energy_is_the_integral_of_the_power() -> None:
    """A ramp from 0 W to 100 W in 10 s: 500 J; from 2 s to 4 s, 20 W to 40 W: 60 J."""
    ramp = [PowerSample(float(at), 10.0 * at, None) for at in range(11)]
    assert integrate_j(ramp, 0, 10) == pytest.approx(500)
    assert integrate_j(ramp, 2, 4) == pytest.approx(60)
    assert integrate_j(ramp, 2.5, 3.5) == pytest.approx(30)


def test_power_before_the_first_and_after_the_last_sample_is_theirs() -> None:
    assert integrate_j([PowerSample(1.0, 50.0, None)], 0, 4) == pytest.approx(200)


def test_energy_is_not_known_without_power() -> None:
    assert integrate_j([PowerSample(1.0, None, 0)], 0, 2) is None
    assert integrate_j([], 0, 2) is None
    assert integrate_j([PowerSample(1.0, 5.0, 0)], 2, 2) is None


def test_the_power_cap_that_a_profile_sets_is_no_throttling() -> None:
    assert slowdowns(0x1 | 0x2 | 0x4 | 0x10 | 0x100) == ()
    assert slowdowns(0x20 | 0x80) == ("SW thermal slowdown", "HW power brake slowdown")


def test_rapl_counters_wrap() -> None:
    ranges = {"intel-rapl:0": 1_000_000}
    assert rapl_j({"intel-rapl:0": 100}, {"intel-rapl:0": 2_000_100}, ranges) == pytest.approx(2)
    before, after = {"intel-rapl:0": 900_000}, {"intel-rapl:0": 400_000}
    assert rapl_j(before, after, ranges) == pytest.approx(0.5)
    assert rapl_j({}, {}, {}) is None
    assert rapl_j({"intel-rapl:0": 1}, {}, ranges) is None


def file(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_meter_reads_rapl_where_there_is_no_gpu(tmp_path: Path) -> None:
    zones = ("intel-rapl:0", "intel-rapl:0:0", "intel-rapl:1")  # the second is part of the first
    for zone in zones:
        file(tmp_path, f"class/powercap/{zone}/energy_uj", "1000000\n")
        file(tmp_path, f"class/powercap/{zone}/max_energy_range_uj", "9000000\n")
    with EnergyMeter(lambda *_: "", tmp_path) as meter:
        before = meter.reading()
        for zone in zones:
            file(tmp_path, f"class/powercap/{zone}/energy_uj", "4000000\n")
        assert meter.joules(before, meter.reading()) == pytest.approx(6)
    assert meter.conditions().energy_source == "rapl"


def test_meter_integrates_nvidia_smi_and_names_what_throttled(tmp_path: Path) -> None:
    asked: list[tuple[str, ...]] = []

    def smi(*argv: str) -> str:
        asked.append(argv)
        return "100.00, 0x0000000000000020\n"

    with EnergyMeter(smi, tmp_path) as meter:
        before = EnergyReading(10.0, {})
        assert meter.joules(before, EnergyReading(12.0, {})) == pytest.approx(200)
    found = meter.conditions()
    assert (found.throttled, found.energy_source) == (True, "nvidia-smi")
    assert found.throttle_reasons == ("SW thermal slowdown",)
    assert asked[0][0] == "nvidia-smi"


def test_meter_knows_nothing_on_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    with EnergyMeter(lambda *_: "", tmp_path) as meter:
        assert meter.joules(meter.reading(), meter.reading()) is None
    found = meter.conditions()
    assert (found.throttled, found.throttle_reasons, found.energy_source) == (None, (), None)


def test_meter_counts_thermal_throttling_of_the_processor(tmp_path: Path) -> None:
    counter = "devices/system/cpu/cpu0/thermal_throttle/package_throttle_count"
    file(tmp_path, counter, "3\n")
    with EnergyMeter(lambda *_: "", tmp_path) as meter:
        assert meter.conditions().throttled is False
        file(tmp_path, counter, "5\n")
    assert meter.conditions().throttled is True
    assert meter.conditions().throttle_reasons == ("CPU thermal throttling",)
