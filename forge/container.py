"""Which container image this process runs in, and whether a bundle may be served in it.

A serving image holds Forge's agent, Triton and the runtime an engine is bound to, so a bundle that
is served from a container brings no environment: the image is the environment.

    /etc/forge/image.json   written when the image is built: its name, platform, base by digest
    FORGE_IMAGE             its own reference by digest, given by whoever starts it: no image can
                            know its own digest

A bundle names either the serving image itself or the base that holds its Triton. The second is
what the shipped profiles do: an image rebuilt for a newer agent then still serves the bundle.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge import canonical
from forge.errors import ConfigurationError

__all__ = [
    "FORGE_IMAGE",
    "STATEMENT",
    "TRITON",
    "RunningImage",
    "Statement",
    "is_reference",
    "require_image",
    "running_image",
    "start_in",
]

STATEMENT: Final = Path("/etc/forge/image.json")
TRITON: Final = Path("/opt/tritonserver")  # where NVIDIA's images have it
FORGE_IMAGE: Final = "FORGE_IMAGE"
_MAX_BYTES: Final = 64 * 1024
_REFERENCE = re.compile(r"\w[\w.:/-]{0,254}(@sha256:[0-9a-f]{64})?", re.ASCII)


class Statement(BaseModel):
    """What an image says of itself; part of its read-only files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    name: str = Field(min_length=1, max_length=128, description="of the image, without a registry")
    platform: str
    base: str = Field(description="what it was built on: registry/name:tag")
    base_digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    version: str = Field(description="of Forge in it")

    def encode(self) -> bytes:
        """Canonical bytes: equal statements make equal layers."""
        return canonical.dumps(self.model_dump(mode="json")) + b"\n"


@dataclass(frozen=True, slots=True)
class RunningImage:
    """The image around this process.

    Attributes:
        statement: what was written into it when it was built.
        reference: what it was started as; empty: nobody said.
    """

    statement: Statement
    reference: str = ""

    def is_the_image(self, wanted: str) -> bool:
        """Whether a bundle that names `wanted` may be served here. Pure.

        Digests are compared where the bundle names one, whatever registry it was pulled from;
        only a bundle without one is compared by name.
        """
        name, _, digest = wanted.partition("@")
        own, _, own_digest = self.reference.partition("@")
        if digest:
            return digest in {own_digest, self.statement.base_digest}
        return bool(name) and name in {own, self.statement.base}

    def __str__(self) -> str:
        return self.reference or f"{self.statement.name} (built on {self.statement.base})"


def running_image(
    environment: Mapping[str, str] = os.environ, statement: Path = STATEMENT
) -> RunningImage | None:
    """The image this process runs in; None outside of one.

    Raises:
        ConfigurationError: image.json is damaged, or FORGE_IMAGE is no image's reference.
    """
    try:
        with statement.open("rb") as file:
            said = Statement.model_validate_json(file.read(_MAX_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        message = f"{statement} does not say which image this is"
        hint = "build the image again: forge run images"
        raise ConfigurationError(message, why=str(error), hint=hint) from None
    reference = environment.get(FORGE_IMAGE, "")
    if reference and not is_reference(reference):
        message = f"{FORGE_IMAGE}={reference[:80]!r} is no image's reference"
        raise ConfigurationError(message, hint="for example registry/name@sha256:…")
    return RunningImage(said, reference)


def is_reference(image: str) -> bool:
    """Whether it looks like one: it is printed in commands that somebody copies into a shell."""
    return _REFERENCE.fullmatch(image) is not None


def require_image(wanted: str) -> None:
    """Raise ConfigurationError unless this process runs in an image that serves `wanted`'s bundles.

    Nobody's fault but the machine's: the container may have been changed since the fit check.
    """
    image = running_image()
    if image is None or not image.is_the_image(wanted):
        where = f"in {image}" if image else "outside of any image"
        message = f"The bundle is served in the container image {wanted}"
        raise ConfigurationError(message, why=f"this runs {where}", hint=start_in(wanted))


def start_in(image: str) -> str:
    """What to do to have the agent in `image`, with the commands."""
    options = (
        "run --detach --restart always --name forge --network host --read-only --tmpfs /tmp"
        f" --shm-size 1g --cap-drop ALL -e FORGE_IMAGE={image} -v forge:/var/lib/forge"
    )
    return (
        "start the agent in it (where it is a base of Triton: in the serving image that"
        " `forge run images` built on it):"
        f" podman {options} --device nvidia.com/gpu=all {image} run;"
        f" docker {options} --gpus all {image} run; on Kubernetes, in its folder,"
        f" kustomize edit set image forge={image} and kubectl apply -k . (docs/kubernetes.md)"
    )
