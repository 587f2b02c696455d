"""Builders compile engines: one module each, all held to one Protocol.

A builder is a module of this package; profiles name it with '-' for '_'. It only plans: `compile`
returns the artifact whose step holds the command, the environments and the profile fields that
decide the engine.
"""

from __future__ import annotations

import difflib
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

from forge.errors import ConfigurationError
from forge.profiles import Profile
from forge.steps import Artifact

__all__ = ["Builder", "Weights", "builder_of", "check", "names"]


@dataclass(frozen=True, slots=True)
class Weights:
    """One model in the forms that builders take; a form nobody takes is never made.

    Attributes:
        original: the checkpoint as it came: a GGUF file or a Hugging Face folder.
        huggingface: the same as a Hugging Face folder (safetensors, tokenizer), fp16.
        architecture: what the model is, e.g. `llama`; None where nobody said.
        onnx: the same as an ONNX graph with a KV cache, fp16, its tokenizer beside it.
        gguf: whether the original is a GGUF file; None where its URL does not say.
    """

    original: Artifact
    huggingface: Artifact
    architecture: str | None
    onnx: Artifact
    gguf: bool | None = None


class Builder(Protocol):
    """What a builder module offers."""

    READS: tuple[str, ...]
    """Profile fields that enter the engine's key."""

    PRECISIONS: tuple[str, ...]
    """What `engine.precision` may be."""

    ARCHITECTURES: tuple[str, ...]
    """Models it knows, by `model_type` of their config.json."""

    def compile(self, profile: Profile, weights: Weights, dockerfiles: Path) -> Artifact:
        """Plan the engine of one profile.

        Args:
            profile: the device SKU.
            weights: the model, in the forms builders take.
            dockerfiles: folder of the tool environments.

        Raises:
            ConfigurationError: the profile asks for what this builder cannot do.
        """


def names() -> list[str]:
    """Builders there are, as profiles name them: each module of this package is one."""
    modules = (module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)
    return sorted(name.replace("_", "-") for name in modules if not name.startswith("_"))


def builder_of(profile: Profile) -> Builder:
    """The builder module a profile names. Raises ConfigurationError if there is none."""
    from importlib import import_module

    name = profile.engine.builder
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        raise ConfigurationError(
            f"Profile {profile.name!r} names a builder {name!r} that does not exist",
            why=f"there are {', '.join(names())}",
            hint=f"did you mean {near[0]!r}?" if near else "a new one: docs/adding-a-builder.md",
        )
    module: ModuleType = import_module(f"forge.builders.{name.replace('-', '_')}")
    return cast("Builder", module)


def check(profile: Profile, builder: Builder, architecture: str | None) -> None:
    """Raise ConfigurationError for a precision or an architecture the builder does not know."""
    name = profile.engine.builder
    if architecture is not None and architecture not in builder.ARCHITECTURES:
        raise ConfigurationError(
            f"Builder {name} of profile {profile.name!r} knows no {architecture!r} models",
            why=f"it knows {', '.join(builder.ARCHITECTURES)}",
            hint="leave the profile out, or choose another engine.builder: docs/builders.md",
        )
    if profile.engine.precision not in builder.PRECISIONS:
        raise ConfigurationError(
            f"Profile {profile.name!r} asks builder {name} for {profile.engine.precision}",
            why=f"it makes {', '.join(builder.PRECISIONS)}",
            hint=f"change engine.precision in profiles/{profile.name}.yaml",
        )
