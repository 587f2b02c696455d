"""The engine of one SKU, by the builder its profile names."""

import dataclasses

from forge.builders import Weights, builder_of, check
from forge.profiles import Profile
from forge.steps import Artifact
from stages import DOCKERFILES

# What to do where no runner can compile for a profile: told with the refusal.
ALTERNATIVES = {
    "rtx-pro-4000": "--profile rtx-pro-4000-aot compiles for the same GPU on any amd64 machine",
}


def compile(profile: Profile, weights: Weights) -> Artifact:  # noqa: A001
    """Compile the model for one SKU."""
    builder = builder_of(profile)
    check(profile, builder, weights.architecture)
    engine = builder.compile(profile, weights, DOCKERFILES)
    alternative = engine.step.alternative or ALTERNATIVES.get(profile.name, "")
    return dataclasses.replace(engine.step, alternative=alternative)[engine.output]
