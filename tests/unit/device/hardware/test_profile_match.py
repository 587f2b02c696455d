from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from forge.bundle import Channel, ChannelProfile
from forge.device.hardware.facts import Answer, collect
from forge.device.hardware.inventory import Hardware, parse
from forge.device.hardware.profile_match import candidates, match
from forge.errors import FitError, UsageError
from forge.profiles import MatchSection, Profile
from tests.support.captured import Replay, unpack

Machine = Callable[[str], Hardware]
Rules = dict[str, tuple[str, MatchSection]]


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("thor-jetpack-7.0", "jetson-agx-thor"),
        ("thor-jetpack-7.2", "jetson-agx-thor"),
        ("orin-jetpack-6", "jetson-agx-orin"),
        ("orin-jetpack-7.2", "jetson-agx-orin"),
        ("rtx-pro-4000", "rtx-pro-4000"),
        ("rtx-pro-4000-sff", "rtx-pro-4000"),
        ("tesla-p40", "tesla-p40"),
        ("two-p40-old-driver", "tesla-p40"),
    ],
)
def test_match_recognises_the_sku(machine: Machine, rules: Rules, name: str, profile: str) -> None:
    detection = match(machine(name), rules)
    assert detection.profile == profile
    assert detection.reasons


@pytest.mark.parametrize("name", ["no-gpu", "geforce", "thor-t4000", "arm64-server"])
def test_match_falls_back_with_a_warning_when_nothing_matches(
    machine: Machine, rules: Rules, name: str
) -> None:
    detection = match(machine(name), rules)
    assert detection.profile == "development"
    assert "no profile matches this machine" in detection.warnings[0]


def test_match_falls_back_with_a_warning_when_several_match(machine: Machine, rules: Rules) -> None:
    detection = match(machine("rtx-and-p40"), rules)
    assert detection.profile == "development"
    assert "rtx-pro-4000, tesla-p40" in detection.warnings[0]
    assert "--profile" in detection.warnings[0]


def test_match_warns_of_several_gpus(machine: Machine, rules: Rules) -> None:
    assert "2 GPUs" in match(machine("two-p40-old-driver"), rules).warnings[0]


def test_match_hands_on_what_could_not_be_asked(machine: Machine, rules: Rules) -> None:
    warnings = match(machine("broken-driver"), rules).warnings
    assert any("nvidia-smi" in warning for warning in warnings)


@pytest.mark.parametrize("problem", ["no answer within 10 s", "not installed"])
@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("thor-jetpack-7.2", "jetson-agx-thor"),
        ("orin-jetpack-6", "jetson-agx-orin"),
        ("rtx-pro-4000", "development"),
        ("no-gpu", "development"),
    ],
)
def test_match_without_nvidia_smi_knows_jetsons_and_falls_back_elsewhere(
    tmp_path: Path, rules: Rules, name: str, profile: str, problem: str
) -> None:
    def run(argv: Sequence[str], timeout_s: float) -> Answer:
        gone = argv[0] == "nvidia-smi"
        return Answer(problem=problem) if gone else Replay(name)(argv, timeout_s)

    hardware = parse(collect(unpack(name, tmp_path), run))
    detection = match(hardware, rules)
    assert detection.profile == profile
    noted = any("nvidia-smi" in warning for warning in detection.warnings)
    assert noted is problem.startswith("no answer")


def test_match_takes_a_name_given_by_hand(machine: Machine, rules: Rules) -> None:
    assert match(machine("no-gpu"), rules, "rtx-pro-4000-aot").profile == "rtx-pro-4000-aot"


def test_match_suggests_the_name_meant(machine: Machine, rules: Rules) -> None:
    with pytest.raises(UsageError, match="did you mean 'tesla-p40'") as caught:
        match(machine("no-gpu"), rules, "tesla-p4")
    assert caught.value.exit_code == 2


def test_match_refuses_when_there_is_no_fallback(machine: Machine, rules: Rules) -> None:
    del rules["development"]
    with pytest.raises(FitError, match="no profile matches this machine") as caught:
        match(machine("no-gpu"), rules)
    assert caught.value.exit_code == 8


def test_candidates_are_the_same_from_a_channel_and_from_profiles(
    shipped: dict[str, Profile],
) -> None:
    entries = {
        name: ChannelProfile(platform=entry.platform, match=entry.hardware.match)
        for name, entry in shipped.items()
    }
    channel = Channel(name="llm", channel="stable", version="1.0.0", profiles=entries)
    assert candidates(channel) == candidates(shipped)
