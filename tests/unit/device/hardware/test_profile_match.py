from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from forge.bundle import Channel, ChannelProfile
from forge.device.hardware.facts import Answer, Facts, collect
from forge.device.hardware.inventory import Hardware, parse
from forge.device.hardware.profile_match import ProfileRequest, candidates, match, others
from forge.errors import FitError, UsageError
from forge.profiles import MatchSection, Profile
from tests.support.captured import replay, unpack

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


def test_a_machine_without_a_gpu_gets_the_fallback_and_is_told(
    machine: Machine, rules: Rules
) -> None:
    detection = match(machine("no-gpu"), rules)
    assert detection.profile == "development"
    assert "no profile matches this machine" in detection.warnings[0]


@pytest.mark.parametrize("name", ["geforce", "thor-t4000", "arm64-server"])
def test_a_machine_that_no_profile_is_for_gets_no_fallback_unasked(
    machine: Machine, rules: Rules, name: str
) -> None:
    with pytest.raises(FitError, match="No profile of this channel matches") as caught:
        match(machine(name), rules)
    assert "--profile" in caught.value.hint
    assert (
        match(machine(name), rules, ProfileRequest(profile="development")).profile == "development"
    )


def test_the_fallback_is_installed_nowhere_where_the_channel_says_so(
    machine: Machine, rules: Rules
) -> None:
    with pytest.raises(FitError, match="No profile of this channel matches"):
        match(machine("no-gpu"), rules, ProfileRequest(fallback="never"))
    with pytest.raises(FitError, match="No profile of this channel matches"):
        match(machine("no-gpu"), {"development": ("linux/arm64", MatchSection.model_validate({}))})


def test_several_profiles_that_match_are_a_choice_for_people(
    machine: Machine, rules: Rules
) -> None:
    with pytest.raises(
        FitError, match="matches several profiles: rtx-pro-4000, tesla-p40"
    ) as caught:
        match(machine("rtx-and-p40"), rules)
    assert "--profile" in caught.value.hint
    assert "--gpu" in caught.value.hint
    assert match(machine("rtx-and-p40"), rules, ProfileRequest(gpu="0")).profile == "rtx-pro-4000"
    assert match(machine("rtx-and-p40"), rules, ProfileRequest(gpu="1")).profile == "tesla-p40"
    with pytest.raises(UsageError, match="There is no GPU '2' here"):
        match(machine("rtx-and-p40"), rules, ProfileRequest(gpu="2"))


def test_match_warns_of_several_gpus_and_names_the_one_it_uses(
    machine: Machine, rules: Rules
) -> None:
    warning = match(machine("two-p40-old-driver"), rules).warnings[0]
    assert "2 GPUs; the bundle uses Tesla P40 (0)" in warning


def test_a_driver_that_fails_is_no_machine_without_a_gpu(machine: Machine, rules: Rules) -> None:
    with pytest.raises(FitError, match="not known now") as caught:
        match(machine("broken-driver"), rules)
    assert "couldn't communicate with the NVIDIA driver" in caught.value.why
    assert "asked again" in caught.value.hint


@pytest.mark.parametrize("problem", ["no answer within 10 s", "not installed"])
@pytest.mark.parametrize(
    ("name", "profile"),
    [("thor-jetpack-7.2", "jetson-agx-thor"), ("orin-jetpack-6", "jetson-agx-orin")],
)
def test_match_without_nvidia_smi_knows_jetsons_and_says_that_it_is_missing(
    tmp_path: Path, rules: Rules, name: str, profile: str, problem: str
) -> None:
    detection = match(without_smi(name, problem, tmp_path), rules)
    assert detection.profile == profile
    assert any("nvidia-smi" in warning for warning in detection.warnings)


def without_smi(name: str, problem: str, folder: Path) -> Hardware:
    def run(argv: Sequence[str], timeout_s: float) -> Answer:
        gone = argv[0] == "nvidia-smi"
        return Answer(problem=problem) if gone else replay(name)(argv, timeout_s)

    return parse(collect(unpack(name, folder), run))


# What serves


SILENT = "no answer within 10 s"


@pytest.mark.parametrize("serving", ["rtx-pro-4000", "tesla-p40", "rtx-pro-4000-aot"])
def test_what_serves_stays_while_the_driver_does_not_answer(
    tmp_path: Path, rules: Rules, serving: str
) -> None:
    silent = without_smi("rtx-pro-4000", SILENT, tmp_path)
    detection = match(silent, rules, ProfileRequest(serving=serving))
    assert detection.profile == serving
    assert "it serves, and stays" in detection.reasons[0]
    assert any(SILENT in warning for warning in detection.warnings)


def test_what_serves_stays_where_the_gpu_is_gone_and_nothing_else_matches(
    machine: Machine, rules: Rules
) -> None:
    detection = match(machine("no-gpu"), rules, ProfileRequest(serving="rtx-pro-4000"))
    assert detection.profile == "rtx-pro-4000"
    assert "it does not match" in detection.reasons[1]


def test_another_gpu_that_another_profile_is_for_replaces_what_serves(
    machine: Machine, rules: Rules
) -> None:
    assert (
        match(machine("tesla-p40"), rules, ProfileRequest(serving="rtx-pro-4000")).profile
        == "tesla-p40"
    )


def test_a_lost_gpu_does_not_hand_over_to_the_one_that_is_left(rules: Rules) -> None:
    row = "Tesla P40, 24576, 580.126.09, 6.1, GPU-p40\n"
    left = parse(Facts("x86_64", "6.8", smi_gpus=row, smi_complete=False))
    assert match(left, rules, ProfileRequest(serving="rtx-pro-4000")).profile == "rtx-pro-4000"
    assert match(left, rules).profile == "tesla-p40"


def test_what_serves_stays_among_several_that_match(machine: Machine, rules: Rules) -> None:
    for serving in ("rtx-pro-4000", "tesla-p40"):
        found = match(machine("rtx-and-p40"), rules, ProfileRequest(serving=serving))
        assert found.profile == serving


def test_the_fallback_gives_way_to_a_gpu_that_was_put_in_and_to_no_guess(
    machine: Machine, rules: Rules
) -> None:
    served = ProfileRequest(serving="development")
    assert match(machine("rtx-pro-4000"), rules, served).profile == "rtx-pro-4000"
    for name in ("geforce", "broken-driver", "rtx-and-p40", "no-gpu"):
        assert match(machine(name), rules, served).profile == "development"


def test_a_profile_that_was_chosen_by_name_stays(machine: Machine, rules: Rules) -> None:
    served = ProfileRequest(serving="rtx-pro-4000-aot")
    assert match(machine("rtx-pro-4000"), rules, served).profile == "rtx-pro-4000-aot"


def test_a_person_has_the_last_word(machine: Machine, rules: Rules) -> None:
    request = ProfileRequest(profile="development", serving="rtx-pro-4000")
    assert match(machine("rtx-pro-4000"), rules, request).profile == "development"


def test_a_profile_that_the_channel_has_no_more_is_not_replaced_by_the_fallback(
    machine: Machine, rules: Rules
) -> None:
    with pytest.raises(FitError, match="has no profile gone, which serves"):
        match(machine("no-gpu"), rules, ProfileRequest(serving="gone"))
    assert match(machine("tesla-p40"), rules, ProfileRequest(serving="gone")).profile == "tesla-p40"


def test_a_decision_says_its_profile_gpu_and_reasons(rules: Rules) -> None:
    row = "Tesla P40, 24576, 580.126.09, 6.1, GPU-p40\n"
    found = match(parse(Facts("x86_64", "6.8", smi_gpus=row)), rules)
    assert str(found) == "profile tesla-p40 on Tesla P40 (GPU-p40): gpu_name is Tesla P40"


def test_match_takes_a_name_given_by_hand(machine: Machine, rules: Rules) -> None:
    by_hand = ProfileRequest(profile="rtx-pro-4000-aot")
    assert match(machine("no-gpu"), rules, by_hand).profile == "rtx-pro-4000-aot"


def test_match_suggests_the_name_meant(machine: Machine, rules: Rules) -> None:
    with pytest.raises(UsageError, match="did you mean 'tesla-p40'") as caught:
        match(machine("no-gpu"), rules, ProfileRequest(profile="tesla-p4"))
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


def test_other_profiles_of_the_same_machine_are_told_with_the_reason(
    machine: Machine, rules: Rules
) -> None:
    card = machine("tesla-p40")
    both = {**rules, "tesla-p40-r570": rules["tesla-p40"]}
    found = others(card, both, ProfileRequest(serving="tesla-p40"), "llm 1 no longer fits")
    assert [one.profile for one in found] == ["tesla-p40-r570"]
    assert found[0].reasons[-1] == "llm 1 no longer fits"
    assert found[0].gpu is not None
    assert others(card, rules, ProfileRequest(serving="tesla-p40"), "why") == ()
    by_hand = ProfileRequest(profile="tesla-p40", serving="tesla-p40")
    assert others(card, both, by_hand, "why") == ()
    ill = machine("broken-driver")
    assert others(ill, both, ProfileRequest(serving="tesla-p40"), "why") == ()
