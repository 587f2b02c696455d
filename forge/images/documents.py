"""The formats of `image.json`, for one platform and for the index of all platforms."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from forge.images.platforms import Platform

__all__ = [
    "IMAGE_FILE",
    "IMAGE_MEDIA_TYPE",
    "INDEX_FILE",
    "INDEX_MEDIA_TYPE",
    "ImageDocument",
    "PlatformImage",
    "sbom_file",
]

IMAGE_FILE: Final = "image.json"
INDEX_FILE: Final = "index.json"
IMAGE_MEDIA_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX_MEDIA_TYPE: Final = "application/vnd.oci.image.index.v1+json"
ImageDigest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PlatformImage(_Document):
    """One image for one platform."""

    platform: Platform
    digest: ImageDigest = Field(description="digest of its OCI manifest")
    manifest_bytes: int = Field(ge=1)
    size: int = Field(ge=1, description="bytes of all blobs, compressed")
    layers: int = Field(ge=1)
    base: str = Field(description="base image by digest")
    sbom: ImageDigest = Field(description="digest of sbom-<platform>.cdx.json")


class ImageDocument(_Document):
    """One image: an OCI index of all its platforms."""

    name: str
    reference: str = Field(description="registry/name@sha256:… of the index")
    digest: ImageDigest
    created: str = Field(
        description="RFC 3339; always the epoch, so that equal inputs make equal bytes"
    )
    platforms: tuple[PlatformImage, ...] = Field(min_length=1)


def sbom_file(platform: Platform) -> str:
    """Return the file name of the SBOM of a platform's image."""
    return f"sbom-{platform.replace('/', '-')}.cdx.json"
