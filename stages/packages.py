"""The packages of a serving environment: the wheels of its lock, as part of the bundle."""

from forge.profiles import Profile
from forge.steps import Artifact, Step, locked
from stages import DOCKERFILES


def wheels(profile: Profile) -> Artifact | None:
    """Plan the download of the wheels with which a device makes the environment of a profile.

    None where Triton is in an image, or `serving.packages` leaves them to the devices' index.
    """
    name = profile.serving.environment
    if name is None or profile.serving.packages == "index":
        return None
    lock = locked(DOCKERFILES / name)
    step = Step(
        id=f"packages@{profile.name}",
        argv=(
            "${tools.pip}/bin/python", "-m", "pip", "download",
            "--no-deps", "--require-hashes", "--only-binary", ":all:",
            "--disable-pip-version-check", "--progress-bar", "off",
            "--requirement", "${lock." + name + "}",
            "--dest", "${outputs.packages}",
        ),
        outputs=("packages",),
        # The lock names every file by its hash; the platform and Python decide between them.
        environments=(locked(DOCKERFILES / "pip"),),
        locks=(lock,),
        platform=profile.platform,
    )  # fmt: skip
    return step["packages"]
