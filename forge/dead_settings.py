"""Reject profile settings that have no effect, before a plan is made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from forge import builders
from forge.builders import Builder
from forge.errors import ConfigurationError
from forge.profiles import Profile, ResolvedProfile

__all__ = ["check"]

_HINT: Final = "remove it, or set it to null where a parent profile sets it"
_OF_THE_BUILDER: Final = ("engine", "serving")
# Fields of those sections that are read for every builder. `builders.check` refuses a
# precision that the builder cannot make.
_COMMON: Final = frozenset(
    {
        *("engine.builder", "engine.precision", "serving.model", "serving.server"),
        *("serving.environment", "serving.packages", "serving.image", "serving.activation"),
        *("serving.start_timeout_s", "serving.probe"),
    }
)


def check(resolved: ResolvedProfile) -> None:
    """Raise ConfigurationError for a field that the profile sets and that has no effect.

    Defaults, null and false are ignored, and so are fields that a parent profile sets for another
    builder. For builders that are not part of Forge, the supported fields are unknown.
    """
    profile, name = resolved.profile, resolved.profile.engine.builder
    ours = builders.load(name) if name in builders.names() else None
    unread = dict(_unread(profile, ours))
    for path in resolved.set_with("engine.builder"):
        section, _, rest = path.partition(".")
        field = f"{section}.{rest.partition('.')[0]}"
        if rest and getattr(getattr(profile, section), field.partition(".")[2]) in (None, False):
            continue
        message = f"Profile {profile.name!r} sets {field} ({resolved.origins[path].where})"
        if field in unread:
            why = f"it is read only {unread[field]}"
            raise ConfigurationError(f"{message}, and nothing reads it", why=why, hint=_HINT)
        if ours and section in _OF_THE_BUILDER and field not in {*_COMMON, *ours.SETTINGS}:
            raise _not_obeyed(message, field, name, ours)


def _unread(profile: Profile, builder: Builder | None) -> Iterator[tuple[str, str]]:
    """Yield the fields without effect in this profile, and when they have an effect."""
    served, hardware = profile.serving.server, profile.hardware
    if served == "container":
        yield "serving.environment", "where serving.server is environment"
        yield "serving.packages", "where serving.server is environment"
    elif builder and "serving.image" not in builder.READS:
        yield "serving.image", "where serving.server is container, or by builder tensorrt-llm"
    if hardware.memory_kind == "unified" or hardware.compute_capability is None:
        yield "power.limit_w", "for a discrete GPU: hardware.compute_capability, not unified memory"
    if hardware.memory_kind != "unified":
        yield "power.mode", "on a Jetson: hardware.memory_kind unified"
    if hardware.compute_capability is None:
        yield "power.lock_clocks", "where there is a GPU: hardware.compute_capability"


def _not_obeyed(message: str, field: str, name: str, builder: Builder) -> ConfigurationError:
    others = [other for other in builders.names() if field in builders.load(other).SETTINGS]
    return ConfigurationError(
        f"{message}, which builder {name} does not obey",
        why=f"builders that do: {', '.join(others) or 'none'}",
        hint=f"remove it; {name} obeys {', '.join(sorted(builder.SETTINGS)) or 'none of its kind'}",
    )
