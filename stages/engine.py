"""The engine of one SKU, compiled by the builder of its profile."""

from forge.builders import Weights, builder_of, check
from forge.memory import ServedMemory
from forge.memory.requirement import check_memory
from forge.profiles import Profile
from forge.steps import Artifact
from stages import DOCKERFILES, image


def compile(profile: Profile, weights: Weights) -> Artifact:  # noqa: A001
    """Compile the model for one SKU."""
    builder = builder_of(profile)
    check(profile, builder, weights.architecture, weights.facts)
    return builder.compile(image.pinned(profile), weights, DOCKERFILES)


def memory(profile: Profile, weights: Weights) -> ServedMemory | None:
    """Compute the memory that serving takes, and check what the profile requires against it.

    None where the checkpoint's URL does not state its shape: docs/explanation/memory.md.
    """
    return check_memory(profile, weights.facts.shape, weights.facts.quantisation)
