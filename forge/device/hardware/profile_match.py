"""Choose the profile of this machine: by the given name, else by its hardware."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from forge.bundle import Channel, ChannelProfile
from forge.device.hardware.inventory import Hardware, reasons_for
from forge.errors import FitError, UsageError
from forge.profiles import MatchSection, Profile

__all__ = ["FALLBACK", "Detection", "candidates", "match"]

FALLBACK: Final = "development"

Candidates = Mapping[str, tuple[str, MatchSection]]


@dataclass(frozen=True, slots=True)
class Detection:
    """The chosen profile, the reasons, and warnings for the user."""

    profile: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def candidates(source: Channel | Mapping[str, Profile]) -> dict[str, tuple[str, MatchSection]]:
    """Return (platform, match) by profile name, of a signed channel or a project's profiles."""
    if isinstance(source, Channel):
        return {name: _of_channel(entry) for name, entry in source.profiles.items()}
    return {name: (entry.platform, entry.hardware.match) for name, entry in source.items()}


def match(hardware: Hardware, profiles: Candidates, wanted: str | None = None) -> Detection:
    """Choose the profile of this machine. Pure.

    Args:
        hardware: of this machine.
        profiles: platform and rules by profile name.
        wanted: a name from the user (`--profile`, `HARDWARE_PROFILE`); it has precedence.

    Raises:
        UsageError: `wanted` is not one of the profiles.
        FitError: nothing matches, and there is no `development` to fall back to.
    """
    if wanted is not None:
        return _by_name(wanted, profiles)
    found = {
        name: reasons
        for name, (platform, rules) in profiles.items()
        if platform == hardware.platform and (reasons := reasons_for(rules, hardware)) is not None
    }
    if len(found) == 1:
        [(name, reasons)] = found.items()
        return Detection(name, reasons, (*_several(hardware), *hardware.notes))
    if found:
        names = ", ".join(sorted(found))
        warning = f"this machine matches several profiles ({names}): choose one with --profile"
    else:
        warning = f"no profile matches this machine ({describe(hardware)})"
    return _fall_back((warning, *hardware.notes), profiles)


def describe(hardware: Hardware) -> str:
    """Describe the machine in a few words."""
    gpus = ", ".join(
        f"{gpu.name} sm_{(gpu.compute_capability or '?').replace('.', '')}" for gpu in hardware.gpus
    )
    memory = f"{hardware.memory_mib} MiB" if hardware.memory_mib else "unknown memory"
    return "; ".join(filter(None, [hardware.platform, hardware.model, gpus or "no GPU", memory]))


def _of_channel(entry: ChannelProfile) -> tuple[str, MatchSection]:
    return entry.platform, entry.match


def _by_name(wanted: str, profiles: Candidates) -> Detection:
    if wanted in profiles:
        return Detection(wanted, ("set by the user",))
    near = difflib.get_close_matches(wanted, profiles, n=1)
    known = ", ".join(sorted(profiles)) or "none"
    hint = f"did you mean {near[0]!r}?" if near else f"profiles of this channel: {known}"
    raise UsageError(f"There is no profile {wanted!r} here", hint=hint)


def _several(hardware: Hardware) -> tuple[str, ...]:
    count = len(hardware.gpus)
    return (f"this machine has {count} GPUs; the bundle uses one",) if count > 1 else ()


def _fall_back(warnings: tuple[str, ...], profiles: Candidates) -> Detection:
    if FALLBACK not in profiles:
        known = ", ".join(sorted(profiles)) or "none"
        hint = f"choose one of these with --profile, or publish one for this machine: {known}"
        raise FitError(
            "No profile of this channel matches this machine", why="; ".join(warnings), hint=hint
        )
    return Detection(FALLBACK, (f"{FALLBACK} is the fallback",), warnings)
