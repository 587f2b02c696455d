"""Say which profile a machine gets, why, why not the others, and what of it does not fit. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict

from forge.bundle import Fit
from forge.device.hardware.compute_target import ComputeTarget, target_of
from forge.device.hardware.fit import check
from forge.device.hardware.gpus import Gpu
from forge.device.hardware.inventory import Hardware
from forge.device.hardware.match_rules import Holds, judge
from forge.device.hardware.profile_match import (
    FALLBACK,
    ProfileRequest,
    candidates,
    match,
)
from forge.errors import FitError
from forge.profiles import Profile

__all__ = ["HardwareCheck", "ProfileVerdict", "check_hardware"]

_MEMORY_TOLERANCE: Final = 0.1  # ECC takes a sixteenth of a GPU's memory


class ProfileVerdict(BaseModel):
    """Whether the rules of one profile hold for a machine.

    Attributes:
        profile: its name.
        holds: `unknown` where the machine does not say now what a rule needs.
        reasons: a phrase for each rule that decides.
    """

    model_config = ConfigDict(frozen=True)

    profile: str
    holds: Holds
    reasons: tuple[str, ...]


class HardwareCheck(BaseModel):
    """What the profiles of a project say about a machine.

    Attributes:
        hardware: of the machine.
        profile: that it gets, or that was named; None: it gets none.
        gpu: for which the rules of the profile hold.
        reasons: why it gets that profile, or none.
        notes: of detection, a sentence each.
        verdicts: of each profile, by name.
        refusals: requirements of the profile that the machine does not meet.
        differences: values of the profile that are others on the machine, and refuse nothing.
    """

    model_config = ConfigDict(frozen=True)

    hardware: Hardware
    profile: str | None
    gpu: Gpu | None = None
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()
    verdicts: tuple[ProfileVerdict, ...]
    refusals: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()


def check_hardware(
    hardware: Hardware,
    profiles: Mapping[str, Profile],
    profile: str | None = None,
    gpu: str | None = None,
) -> HardwareCheck:
    """Hold all profiles against a machine.

    Disk space is not checked, since a capture does not have it.

    Args:
        hardware: of the machine.
        profiles: by name.
        profile: the one to check; None: the one that the machine gets.
        gpu: the only GPU that counts: its UUID or its number in nvidia-smi.

    Raises UsageError: `profile` is not one of these, or `gpu` is not in the machine.
    """
    verdicts = tuple(_verdict(name, one, hardware, gpu) for name, one in sorted(profiles.items()))
    request = ProfileRequest(profile=profile, gpu=gpu)
    try:
        found = match(hardware, candidates(profiles), request)
    except FitError as error:
        return HardwareCheck(
            hardware=hardware,
            profile=None,
            reasons=(_why_none(verdicts, error),),
            notes=hardware.notes,
            verdicts=verdicts,
        )
    chosen = profiles[found.profile]
    target = target_of(chosen.hardware.match, chosen.hardware.compute_capability, hardware, gpu)
    fit = check(_fit(chosen), hardware, None, 0, wanted_gpu=gpu)
    return HardwareCheck(
        hardware=hardware,
        profile=found.profile,
        gpu=found.gpu,
        reasons=found.reasons,
        notes=found.warnings,
        verdicts=verdicts,
        refusals=tuple(map(str, fit)),
        differences=tuple(_differences(chosen, hardware, target)),
    )


def _why_none(verdicts: tuple[ProfileVerdict, ...], error: FitError) -> str:
    for holds, text in (("yes", "several match"), ("unknown", "not known now whether it matches")):
        if names := [one.profile for one in verdicts if one.holds == holds]:
            return f"{text}: {', '.join(names)}"
    return error.what.replace(" of this channel", "")


def _verdict(name: str, profile: Profile, hardware: Hardware, gpu: str | None) -> ProfileVerdict:
    if profile.platform != hardware.platform:
        reason = f"platform is {hardware.platform}, not {profile.platform}"
        return ProfileVerdict(profile=name, holds="no", reasons=(reason,))
    found = judge(profile.hardware.match, hardware, gpu)
    reasons = found.reasons
    if found.by_name:
        fallback = ", or as the fallback without a GPU" if name == FALLBACK else ""
        reasons = (f"it has no rules: chosen by name only{fallback}",)
    return ProfileVerdict(profile=name, holds=found.holds, reasons=reasons)


def _fit(profile: Profile) -> Fit:
    """Return what each bundle of a profile requires, without what its engine adds."""
    requires = profile.requires
    return Fit(
        platform=profile.platform,
        match=profile.hardware.match,
        compute_capability=profile.hardware.compute_capability,
        memory_mib=requires.memory_mib,
        free_disk_mib=requires.free_disk_mib,
        driver_min=requires.driver_min,
        jetpack=requires.jetpack,
        runtime={},
        power_mode=profile.power.mode,
    )


def _differences(profile: Profile, hardware: Hardware, target: ComputeTarget) -> Iterator[str]:
    section = profile.hardware
    have = hardware.memory_of(target.gpu)
    if section.memory_mib and have and _far(have, section.memory_mib):
        yield f"hardware.memory_mib is {section.memory_mib}, the machine has {have} MiB"
    name = target.gpu.name if target.gpu else None
    if target.on == "card" and name and name not in section.gpu_names:
        yield (
            f"hardware.gpu_names lacks {name!r}, so a pod of this profile is not scheduled on a "
            "node with this GPU"
        )


def _far(have: int, said: int) -> bool:
    return abs(have - said) > _MEMORY_TOLERANCE * said
