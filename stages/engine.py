"""The engine of one SKU, compiled by the builder of its profile."""

from forge.builders import Weights, builder_of, check
from forge.profiles import Profile
from forge.steps import Artifact
from stages import DOCKERFILES, image


def compile(profile: Profile, weights: Weights) -> Artifact:  # noqa: A001
    """Compile the model for one SKU."""
    builder = builder_of(profile)
    check(profile, builder, weights.architecture, weights.facts)
    return builder.compile(image.pinned(profile), weights, DOCKERFILES)
