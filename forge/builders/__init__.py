"""Builders, which compile engines: one module per builder, all with the same Protocol.

A builder is a module of this package; profiles name it with '-' instead of '_'. It only plans:
`compile` returns the artifact of a step with the command, the environments and the profile fields
that determine the engine.
"""

from __future__ import annotations

import difflib
import pkgutil
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

from forge.builders.takes import UNKNOWN, CheckpointFacts, Takes, Unsupported, unsupported
from forge.errors import ConfigurationError
from forge.profiles import Profile
from forge.steps import Artifact

__all__ = [
    "Builder",
    "CheckpointFacts",
    "EmbeddingBuilder",
    "Takes",
    "Weights",
    "builder_of",
    "check",
    "embedding_builder_of",
    "load",
    "names",
    "takers",
]


@dataclass(frozen=True, slots=True)
class Weights:
    """One model in the formats that builders use. A format that no builder uses is never made.

    Attributes:
        original: the original checkpoint: a GGUF file or a Hugging Face folder.
        huggingface: a Hugging Face folder in fp16 (safetensors, tokenizer).
        architecture: architecture of the model, e.g. `llama`; None if unknown.
        onnx: an ONNX graph in fp16 with a KV cache, and the tokenizer.
        reference: what the checkpoint's own computation says of a fixed text (forge.accuracy).
        gguf: whether the original is a GGUF file; None if its URL does not show it.
        facts: what is known of the original from its URL or its headers.
        signature: what was verified of the original's signature; None: no signer was named.
    """

    original: Artifact
    huggingface: Artifact
    architecture: str | None
    onnx: Artifact
    reference: Artifact
    gguf: bool | None = None
    facts: CheckpointFacts = UNKNOWN
    signature: Artifact | None = None


class Builder(Protocol):
    """The interface of a builder module."""

    READS: tuple[str, ...]
    """Profile fields that are part of the engine's key."""

    PRECISIONS: tuple[str, ...]
    """Supported values of `engine.precision`."""

    ARCHITECTURES: tuple[str, ...]
    """Supported models, by `model_type` in their config.json."""

    TAKES: tuple[Takes, ...]
    """Kinds of checkpoints that it takes: forms, tokenizers and quantisations."""

    SETTINGS: tuple[str, ...]
    """Fields of `engine` and `serving` that its engine or its Triton model obeys, beyond those that
    are read for every builder. A profile that sets another one is refused: forge.dead_settings."""

    def compile(self, profile: Profile, weights: Weights, dockerfiles: Path) -> Artifact:
        """Plan the engine of one profile.

        Args:
            profile: the device SKU.
            weights: the model, in the formats that builders use.
            dockerfiles: folder of the tool environments.

        Raises:
            ConfigurationError: the builder does not support the profile.
        """

    def receipt(
        self, profile: Profile, engine: Artifact, weights: Weights, dockerfiles: Path
    ) -> Artifact:
        """Plan the comparison of an engine with its checkpoint, on a CPU.

        Where an engine cannot be executed on a CPU, what it is compiled from is executed.

        Args:
            profile: the device SKU.
            engine: from `compile`, for the same profile and weights.
            weights: the model; `weights.reference` is what is compared with.
            dockerfiles: folder of the tool environments.
        """


class EmbeddingBuilder(Protocol):
    """What a builder module also has if it compiles embedding models, a bundle's second model."""

    def compile_embedding(
        self, profile: Profile, checkpoint: Artifact, dockerfiles: Path
    ) -> Artifact:
        """Plan the embedding model of one profile.

        Args:
            profile: the device SKU.
            checkpoint: a checkpoint of sentence-transformers.
            dockerfiles: folder of the tool environments.
        """


def names() -> list[str]:
    """Return the names of the builders, as used in profiles."""
    modules = (module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)
    return sorted(name.replace("_", "-") for name in modules if not name.startswith("_"))


def builder_of(profile: Profile) -> Builder:
    """Return the builder module of a profile. Raises ConfigurationError if it does not exist."""
    name = profile.engine.builder
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        raise ConfigurationError(
            f"Unknown builder {name!r} in profile {profile.name!r}",
            why=f"available builders: {', '.join(names())}",
            hint=f"did you mean {near[0]!r}?" if near else "see docs/how-to/add-a-builder.md",
        )
    return load(name)


def embedding_builder_of(profile: Profile) -> EmbeddingBuilder:
    """Return the builder of a profile's embedding model.

    Raises ConfigurationError if its builder does not compile any.
    """
    if hasattr(builder_of(profile), "compile_embedding"):
        return cast("EmbeddingBuilder", builder_of(profile))
    able = [name for name in names() if hasattr(load(name), "compile_embedding")]
    raise ConfigurationError(
        f"Builder {profile.engine.builder} of profile {profile.name!r} compiles no embedding"
        " models",
        why=f"builders that do: {', '.join(able)}",
        hint="leave --embedding out, or use --profile without it",
    )


def load(name: str) -> Builder:
    """Return the module of a builder, one of `names`."""
    from importlib import import_module

    module: ModuleType = import_module(f"forge.builders.{name.replace('-', '_')}")
    return cast("Builder", module)


def check(
    profile: Profile,
    builder: Builder,
    architecture: str | None,
    facts: CheckpointFacts | None = None,
) -> None:
    """Raise ConfigurationError for a precision or a checkpoint that the builder does not support.

    Args:
        profile: the device SKU.
        builder: its builder.
        architecture: architecture of the checkpoint; None if unknown.
        facts: what else is known of the checkpoint.
    """
    known = facts or UNKNOWN
    known = replace(known, architecture=architecture or known.architecture)
    precision, name = profile.engine.precision, profile.engine.builder
    if reason := _unsupported(builder, known, precision):
        raise ConfigurationError(
            f"Builder {name} of profile {profile.name!r} does not support {reason.what}",
            why=reason.why,
            hint=reason.hint.replace("{profile}", profile.name),
        )


def takers(facts: CheckpointFacts) -> dict[str, Unsupported | None]:
    """Return for each builder why it does not take a checkpoint; None for one that takes it."""
    return {name: _unsupported(load(name), facts) for name in names()}


def _unsupported(
    builder: Builder, facts: CheckpointFacts, precision: str | None = None
) -> Unsupported | None:
    if facts.architecture is not None and facts.architecture not in builder.ARCHITECTURES:
        return Unsupported(
            f"{facts.architecture!r} models",
            f"supported architectures: {', '.join(builder.ARCHITECTURES)}",
            "use --profile without it, or another engine.builder: docs/reference/builders.md",
        )
    if precision is not None and precision not in builder.PRECISIONS:
        return Unsupported(
            f"precision {precision}",
            f"supported precision: {', '.join(builder.PRECISIONS)}",
            "change engine.precision in profiles/{profile}.yaml",
        )
    # A builder of a project may have no TAKES: it then takes what its own tools take.
    return unsupported(getattr(builder, "TAKES", ()), facts, precision)
