"""The engine of one SKU, by the builder its profile names."""

from forge.builders import builder_of
from forge.profiles import Profile
from forge.steps import Artifact
from stages import DOCKERFILES


def compile(profile: Profile, checkpoint: Artifact) -> Artifact:  # noqa: A001
    """Compile `checkpoint` for one SKU."""
    return builder_of(profile).compile(profile, checkpoint, DOCKERFILES)
