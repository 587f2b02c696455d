"""Builders compile engines: one module each, all held to one Protocol.

A builder is a module. It only plans: `compile` returns the artifact whose step holds the command,
the environments and the profile fields that decide the engine.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Final, Protocol, cast

from forge.errors import ConfigurationError
from forge.profiles import Profile
from forge.steps import Artifact

__all__ = ["Builder", "builder_of"]

_MODULES: Final = {
    "openvino": "openvino",
    "tensorrt-rtx": "tensorrt_rtx",
    "tensorrt-llm": "tensorrt_llm",
    "edge-llm": "edge_llm",
}


class Builder(Protocol):
    """What a builder module offers."""

    READS: tuple[str, ...]
    """Profile fields that enter the engine's key."""

    PRECISIONS: tuple[str, ...]
    """What `engine.precision` may be."""

    def compile(self, profile: Profile, checkpoint: Artifact, dockerfiles: Path) -> Artifact:
        """Plan the engine of one profile.

        Args:
            profile: the device SKU.
            checkpoint: folder with the model's weights.
            dockerfiles: folder of the tool environments.

        Raises:
            ConfigurationError: the profile asks for what this builder cannot do.
        """


def builder_of(profile: Profile) -> Builder:
    """The builder module a profile names. Raises ConfigurationError for a wrong precision."""
    from importlib import import_module

    name = profile.engine.builder
    module: ModuleType = import_module(f"forge.builders.{_MODULES[name]}")
    builder = cast("Builder", module)
    if profile.engine.precision not in builder.PRECISIONS:
        raise ConfigurationError(
            f"Profile {profile.name!r} asks builder {name} for {profile.engine.precision}",
            why=f"it makes {', '.join(builder.PRECISIONS)}",
            hint=f"change engine.precision in profiles/{profile.name}.yaml",
        )
    return builder
