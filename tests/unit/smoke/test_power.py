"""Measuring at another power than the profile's is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.errors import ConfigurationError
from forge.smoke.benchmark import BenchmarkSettings, benchmark


def settings(**power: object) -> BenchmarkSettings:
    smoke = {"prompts": "default", "golden": (), "concurrency": (1,), "requests": 1}
    return BenchmarkSettings.model_validate({"smoke": smoke | {"max_tokens": 2}, "power": power})


@pytest.fixture
def jetson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine in power mode 120W, with a GPU limited to 140 W."""
    says = {"nvpmodel": "NV Power Mode: 120W\\n1\\n", "nvidia-smi": "140.00\\n"}
    for name, text in says.items():
        (tmp_path / name).write_text(f"#!/bin/sh\nprintf '{text}'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


@pytest.mark.usefixtures("jetson")
@pytest.mark.parametrize(
    ("power", "said"),
    [
        ({"mode": "MAXN"}, "power.mode is MAXN in the profile and 120W on this machine"),
        ({"limit_w": 70}, "power.limit_w is 70 in the profile and 140.0 on this machine"),
    ],
)
def test_another_power_in_force_is_refused(
    tmp_path: Path, power: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        benchmark(tmp_path, tmp_path, settings(**power), tmp_path)


@pytest.mark.usefixtures("jetson")
@pytest.mark.parametrize("power", [{"mode": "120W"}, {"limit_w": 140}, {}, {"lock_clocks": True}])
def test_the_wanted_power_lets_the_benchmark_begin(
    tmp_path: Path, power: dict[str, object]
) -> None:
    with pytest.raises(ConfigurationError, match=r"serving\.json"):  # the next thing it needs
        benchmark(tmp_path, tmp_path, settings(**power), tmp_path)


def test_a_power_that_cannot_be_read_is_not_held_against_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"serving\.json"):
        benchmark(tmp_path, tmp_path, settings(mode="MAXN", limit_w=70), tmp_path)
