"""The profiles that ship."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge import profiles

SHIPPED = Path(__file__).parents[3] / "profiles"
PROJECT = SHIPPED.parent


def test_every_shipped_profile_is_valid() -> None:
    assert profiles.names(SHIPPED) == [
        "development",
        "jetson-agx-orin",
        "jetson-agx-thor",
        "rtx-pro-4000",
        "rtx-pro-4000-aot",
        "tesla-p40",
    ]
    for name in profiles.names(SHIPPED):
        assert profiles.load(name, SHIPPED).profile.name == name


@pytest.mark.parametrize("name", profiles.names(SHIPPED))
def test_a_profile_served_from_an_environment_has_its_lock(name: str) -> None:
    serving = profiles.load(name, SHIPPED).profile.serving
    if serving.server == "environment":
        assert (PROJECT / f"dockerfiles/{serving.environment}/requirements.lock").is_file()
    else:
        assert serving.image
        assert serving.environment is None


@pytest.mark.parametrize("name", profiles.names(SHIPPED))
def test_a_profile_nobody_has_run_says_so(name: str) -> None:
    unverified = profiles.load(name, SHIPPED).profile.unverified
    assert bool(unverified) == (name != "development")


@pytest.mark.parametrize("name", profiles.names(SHIPPED))
def test_limits_of_a_profile_do_not_contradict_each_other(name: str) -> None:
    profile = profiles.load(name, SHIPPED).profile
    assert profile.thermal.throttle_c < profile.thermal.critical_c
    assert profile.engine.max_input_len < profile.engine.max_seq_len
    assert max(profile.smoke.concurrency) <= profile.engine.max_batch_size
    memory = profile.hardware.memory_mib
    assert memory is None or profile.requires.memory_mib <= memory


def test_a_24_gb_card_is_recognised_below_24576_mib() -> None:
    match = profiles.load("rtx-pro-4000", SHIPPED).profile.hardware.match
    assert match.memory_mib_min is not None
    assert match.memory_mib_min < 24000
