"""The container image that this process runs in, and whether it may serve a bundle.

A serving image contains Forge's agent, Triton and the runtime that the engine requires, so a bundle
that is served in a container contains no environment.

    /etc/forge/image.json   written when the image is built: its name, platform, base by digest
    FORGE_IMAGE             its own reference by digest, set by the command that starts it, because
                            an image cannot contain its own digest

A bundle names either the serving image or its base image with Triton. The shipped profiles name the
base, so that an image rebuilt for a newer agent can still serve the bundle.
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
from forge.validation import validation_text

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
    """Description of an image, stored in the image as a read-only file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    name: str = Field(
        min_length=1, max_length=128, description="name of the image, without the registry"
    )
    platform: str
    base: str = Field(description="base image, registry/name:tag")
    base_digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    version: str = Field(description="version of Forge in the image")

    def encode(self) -> bytes:
        """Return the canonical bytes, so that equal statements make equal layers."""
        return canonical.dumps(self.model_dump(mode="json")) + b"\n"


@dataclass(frozen=True, slots=True)
class RunningImage:
    """The image that this process runs in.

    Attributes:
        statement: content of image.json.
        reference: reference by digest from FORGE_IMAGE; empty if not set.
    """

    statement: Statement
    reference: str = ""

    def is_the_image(self, wanted: str) -> bool:
        """Return whether a bundle that names the image `wanted` may be served here. Pure.

        If the bundle names a digest, digests are compared, independent of the registry; otherwise
        names are compared.
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
    """Return the image that this process runs in, or None outside of one.

    Raises:
        ConfigurationError: image.json is damaged, or FORGE_IMAGE is not a valid image reference.
    """
    try:
        with statement.open("rb") as file:
            found = Statement.model_validate_json(file.read(_MAX_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        message = f"{statement} is not valid"
        hint = "build the image again: forge run images"
        why = validation_text(error) if isinstance(error, ValidationError) else str(error)
        raise ConfigurationError(message, why=why, hint=hint) from None
    reference = environment.get(FORGE_IMAGE, "")
    if reference and not is_reference(reference):
        message = f"{FORGE_IMAGE}={reference[:80]!r} is not a valid image reference"
        raise ConfigurationError(message, hint="for example: registry/name@sha256:…")
    return RunningImage(found, reference)


def is_reference(image: str) -> bool:
    """Return whether a text is an image reference that is safe to print in a shell command."""
    return _REFERENCE.fullmatch(image) is not None


def require_image(wanted: str) -> None:
    """Raise ConfigurationError unless this process runs in the image `wanted` or one based on it.

    This repeats the fit check, because the container may have been replaced since.
    """
    image = running_image()
    if image is None or not image.is_the_image(wanted):
        where = f"in {image}" if image else "outside of any image"
        message = f"The bundle requires the container image {wanted}"
        raise ConfigurationError(message, why=f"Forge runs {where}", hint=start_in(wanted))


def start_in(image: str) -> str:
    """Return the commands that start the agent in `image`."""
    options = (
        "run --detach --restart always --name forge --network host --read-only --tmpfs /tmp"
        f" --shm-size 1g --cap-drop ALL -e FORGE_IMAGE={image} -v forge:/var/lib/forge"
    )
    return (
        "start the agent in that image, or, if it is a Triton base image, in the serving image"
        " that `forge run images` built on it:"
        f" podman {options} --device nvidia.com/gpu=all {image} run;"
        f" docker {options} --gpus all {image} run; on Kubernetes, in its folder,"
        f" kustomize edit set image forge={image} and kubectl apply -k ."
        " (docs/how-to/kubernetes.md)"
    )
