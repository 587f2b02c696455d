"""The container images of this project, each with one index for all of its platforms.

The function's parameters are the pipeline's options on the command line.
"""

from collections.abc import Sequence
from pathlib import Path

from forge.plan import Plan
from forge.profiles import Profile
from forge.release.catalog import Catalog
from stages import image


def images(
    profiles: Sequence[Profile],
    catalog: Catalog,  # noqa: ARG001  every pipeline gets the same arguments
    keys: Path,  # noqa: ARG001
    *,
    registry: str = "localhost:5000/forge",
    tag: str = "latest",
    push: bool = False,
    runners: str = "",
) -> Plan:
    """Build the container images and, with --push, push them.

    These are the device image, a serving image for each Triton base, and one image for each tool
    environment.

    Args:
        profiles: the device SKUs; they name the Triton bases.
        catalog: not used.
        keys: not used.
        registry: registry of the images, HOST[:PORT]/PATH; http://… for a registry without TLS.
        tag: tag of the pushed index.
        push: push the images to the registry.
        runners: native runners, PLATFORM=LABEL,…; other platforms are emulated if necessary.
    """
    native = image.parse_runners(runners)
    built = [image.build(one, registry, native) for one in image.wanted(profiles)]
    pushes = [image.push(one, registry, tag) for one in built] if push else []
    return Plan.of("images", [one.index for one in built], pushes)
