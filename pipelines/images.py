"""The container images of this project: for each platform, joined by one index, pushed if asked.

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
    catalog: Catalog,  # noqa: ARG001  every pipeline is given the same
    keys: Path,  # noqa: ARG001
    *,
    registry: str = "localhost:5000/forge",
    tag: str = "latest",
    push: bool = False,
    runners: str = "",
) -> Plan:
    """The device image, the serving image of each Triton base, and one for each tool environment.

    Args:
        profiles: the device SKUs; they name the Triton bases.
        catalog: not used.
        keys: not used.
        registry: HOST[:PORT]/PATH the images belong to; http://… for a registry without TLS.
        tag: tag the index gets when it is pushed.
        push: send the images to the registry.
        runners: native runners, PLATFORM=LABEL,…; a platform without one is emulated where needed.
    """
    native = image.parse_runners(runners)
    built = [image.build(one, registry, native) for one in image.wanted(profiles)]
    pushes = [image.push(one, registry, tag) for one in built] if push else []
    return Plan.of("images", [one.index for one in built], pushes)
