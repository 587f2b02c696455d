"""Choose the profile of this machine: by name, by what serves, by its hardware. Pure.

What serves stays until the hardware is known to be another one, or a person says so. A driver that
does not answer contradicts nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from forge.bundle import Channel, ChannelProfile, Fallback
from forge.device.hardware.gpus import Gpu, named
from forge.device.hardware.inventory import Hardware
from forge.device.hardware.match_rules import RuleVerdict, judge
from forge.errors import FitError, UsageError
from forge.profiles import MatchSection, Profile

__all__ = [
    "FALLBACK",
    "Detection",
    "ProfileRequest",
    "candidates",
    "describe",
    "match",
    "others",
]

FALLBACK: Final = "development"

Candidates = Mapping[str, tuple[str, MatchSection]]


@dataclass(frozen=True, slots=True)
class ProfileRequest:
    """What counts in the choice in addition to the hardware.

    Attributes:
        profile: a name from a person (`--profile`, `HARDWARE_PROFILE`); it has precedence.
        gpu: the only GPU that counts (`--gpu`).
        serving: the profile that serves now.
        fallback: when the channel allows `development` to be installed unasked.
    """

    profile: str | None = None
    gpu: str | None = None
    serving: str | None = None
    fallback: Fallback = "without-gpu"


@dataclass(frozen=True, slots=True)
class Detection:
    """The chosen profile, the reasons, warnings for the user, and the GPU that was matched."""

    profile: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    gpu: Gpu | None = None

    def __str__(self) -> str:
        on = f" on {self.gpu} ({self.gpu.uuid})" if self.gpu and self.gpu.uuid else ""
        beside = f" ({'; '.join(self.warnings)})" if self.warnings else ""
        return f"profile {self.profile}{on}: {', '.join(self.reasons)}{beside}"


def candidates(source: Channel | Mapping[str, Profile]) -> dict[str, tuple[str, MatchSection]]:
    """Return (platform, match) by profile name, of a signed channel or a project's profiles."""
    if isinstance(source, Channel):
        return {name: _of_channel(entry) for name, entry in source.profiles.items()}
    return {name: (entry.platform, entry.hardware.match) for name, entry in source.items()}


def match(
    hardware: Hardware, profiles: Candidates, request: ProfileRequest = ProfileRequest()
) -> Detection:
    """Choose the profile of this machine.

    Raises:
        UsageError: the profile or the GPU that a person names is not there.
        FitError: nothing matches, several do, or it is not known now which one does.
    """
    if request.gpu is not None and hardware.nvidia == "present" and hardware.complete:
        _require_gpu(request.gpu, hardware)
    if request.profile is not None:
        return _by_name(request.profile, profiles, hardware, request)
    verdicts = _verdicts(hardware, profiles, request.gpu)
    matching = {name: found for name, found in verdicts.items() if found.holds == "yes"}
    serving = verdicts.get(request.serving or "")
    if request.serving and serving and _stays(request.serving, serving, matching):
        return _keep(request.serving, serving, matching, hardware)
    if len(matching) == 1:
        [(name, found)] = matching.items()
        return Detection(name, found.reasons, _notes(hardware, found.gpu), found.gpu)
    if matching:
        raise _several(matching, hardware)
    return _fall_back(verdicts, profiles, hardware, request)


def others(
    hardware: Hardware, profiles: Candidates, request: ProfileRequest, why: str
) -> tuple[Detection, ...]:
    """Return each profile that matches, except the one that serves, whose bundle does not fit.

    Empty where a person names the profile.

    Args:
        hardware: of the machine.
        profiles: of the channel.
        request: as for `match`.
        why: the bundle of the profile that serves does not fit.
    """
    if request.profile is not None:
        return ()
    verdicts = _verdicts(hardware, profiles, request.gpu)
    return tuple(
        Detection(name, (*found.reasons, why), _notes(hardware, found.gpu), found.gpu)
        for name, found in sorted(verdicts.items())
        if found.holds == "yes" and name != request.serving
    )


def describe(hardware: Hardware) -> str:
    """Describe the machine in a few words."""
    gpus = ", ".join(
        f"{gpu} sm_{(gpu.compute_capability or '?').replace('.', '')}" for gpu in hardware.gpus
    )
    none = "no GPU" if hardware.nvidia == "absent" else "a GPU that does not answer"
    memory = f"{hardware.memory_mib} MiB" if hardware.memory_mib else "unknown memory"
    return "; ".join(filter(None, [hardware.platform, hardware.model, gpus or none, memory]))


def _verdicts(hardware: Hardware, profiles: Candidates, gpu: str | None) -> dict[str, RuleVerdict]:
    return {
        name: judge(rules, hardware, gpu)
        for name, (platform, rules) in profiles.items()
        if platform == hardware.platform
    }


def _of_channel(entry: ChannelProfile) -> tuple[str, MatchSection]:
    return entry.platform, entry.match


def _require_gpu(wanted: str, hardware: Hardware) -> None:
    if any(named(gpu, wanted) for gpu in hardware.gpus):
        return
    known = ", ".join(f"{gpu} ({gpu.uuid or gpu.index})" for gpu in hardware.gpus)
    raise UsageError(f"There is no GPU {wanted!r} here", hint=f"GPUs of this machine: {known}")


def _by_name(
    wanted: str, profiles: Candidates, hardware: Hardware, request: ProfileRequest
) -> Detection:
    if wanted in profiles:
        found = judge(profiles[wanted][1], hardware, request.gpu)
        gpu = found.gpu if found.holds == "yes" else None
        return Detection(wanted, ("set by the user",), hardware.notes, gpu)
    near = difflib.get_close_matches(wanted, profiles, n=1)
    known = ", ".join(sorted(profiles)) or "none"
    hint = f"did you mean {near[0]!r}?" if near else f"profiles of this channel: {known}"
    raise UsageError(f"There is no profile {wanted!r} here", hint=hint)


def _stays(name: str, found: RuleVerdict, matching: Mapping[str, RuleVerdict]) -> bool:
    """Whether what serves keeps serving.

    It goes only for exactly one other profile that is known to be this machine's: where its own
    rules are known not to hold, or where it is the fallback, which is for machines without one.
    """
    if name in matching or len(matching) != 1:
        return True
    return found.holds == "unknown" or (name != FALLBACK and found.by_name)


def _keep(
    name: str, found: RuleVerdict, matching: Mapping[str, RuleVerdict], hardware: Hardware
) -> Detection:
    if found.holds == "yes":
        return Detection(name, found.reasons, _notes(hardware, found.gpu), found.gpu)
    others = ", ".join(sorted(matching))
    why = "; ".join(found.reasons)
    reasons = ["it serves, and stays until the hardware is known to be another one"]
    if found.holds == "unknown":
        reasons.append(f"not known now: {why}")
    elif others:
        reasons.append(f"{others} would match: choose with --profile")
    elif not found.by_name:
        reasons.append(f"it does not match ({why}), and no other profile does")
    else:
        reasons.append("no profile matches this machine better")
    return Detection(name, tuple(reasons), hardware.notes)


def _notes(hardware: Hardware, gpu: Gpu | None) -> tuple[str, ...]:
    count = len(hardware.gpus)
    if count <= 1 or gpu is None:
        return hardware.notes
    used = f"this machine has {count} GPUs; the bundle uses {gpu} ({gpu.uuid or gpu.index})"
    return (f"{used}, --gpu names another", *hardware.notes)


def _several(matching: Mapping[str, RuleVerdict], hardware: Hardware) -> FitError:
    names = ", ".join(sorted(matching))
    gpus = {found.gpu for found in matching.values()}
    hint = "choose one with --profile" + (", or its GPU with --gpu" if len(gpus) > 1 else "")
    message = f"This machine matches several profiles: {names}"
    return FitError(message, why="; ".join((describe(hardware), *hardware.notes)), hint=hint)


def _fall_back(
    verdicts: Mapping[str, RuleVerdict],
    profiles: Candidates,
    hardware: Hardware,
    request: ProfileRequest,
) -> Detection:
    unsure = {name: found for name, found in verdicts.items() if found.holds == "unknown"}
    if unsure or hardware.nvidia == "unknown":
        raise _not_known(unsure, hardware)
    what = f"no profile matches this machine ({describe(hardware)})"
    warnings = (what, *hardware.notes)
    if request.serving not in {None, FALLBACK}:
        message = f"The channel has no profile {request.serving}, which serves"
        hint = "it keeps serving; publish it again, or name another with --profile"
        raise FitError(message, why="; ".join(warnings), hint=hint)
    here = FALLBACK in profiles and profiles[FALLBACK][0] == hardware.platform
    if here and hardware.nvidia == "absent" and request.fallback == "without-gpu":
        reason = f"{FALLBACK} is the fallback of machines without a GPU"
        return Detection(FALLBACK, (reason,), warnings)
    known = ", ".join(sorted(profiles)) or "none"
    hint = f"choose one of these with --profile, or publish one for this machine: {known}"
    if here and request.fallback == "without-gpu":
        hint = f"{hint}; {FALLBACK} is installed unasked only where there is no GPU"
    raise FitError(
        "No profile of this channel matches this machine", why="; ".join(warnings), hint=hint
    )


def _not_known(unsure: Mapping[str, RuleVerdict], hardware: Hardware) -> FitError:
    which = [f"{name}: {', '.join(found.reasons)}" for name, found in sorted(unsure.items())]
    why = "; ".join((describe(hardware), *hardware.notes, *which))
    hint = "it is asked again at each check; run nvidia-smi, or name a profile with --profile"
    return FitError("It is not known now which profile this machine has", why=why, hint=hint)
