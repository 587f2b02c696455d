"""OCI image layouts (image-spec 1.1): folders of blobs named by digest.

    oci-layout  index.json  blobs/sha256/<hex>

Digest and size of every blob are verified before it is used.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge import canonical
from forge.errors import ConfigurationError, CorruptedError
from forge.files import sha256_file, write_durably
from forge.images.documents import IMAGE_MEDIA_TYPE, INDEX_MEDIA_TYPE, PlatformImage
from forge.images.platforms import Platform
from forge.validation import validation_text

__all__ = ["Content", "Descriptor", "index_bytes", "join", "read_content"]

_MAX_JSON: Final = 4 * 1024 * 1024
_T = TypeVar("_T", bound=BaseModel)


class Descriptor(BaseModel):
    """Reference to a blob."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    media_type: str = Field(alias="mediaType")
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    size: int = Field(ge=0)


class _Manifest(BaseModel):
    config: Descriptor
    layers: tuple[Descriptor, ...] = Field(min_length=1)


class _Index(BaseModel):
    manifests: tuple[Descriptor, ...] = Field(min_length=1, max_length=1)


class _Config(BaseModel):
    architecture: str
    os: str


@dataclass(frozen=True, slots=True)
class Content:
    """The one image of a layout.

    Attributes:
        manifest: descriptor of the manifest.
        platform: platform in its configuration, `linux/arm64`.
        layers: files of its layers, lowest first.
        size: bytes of manifest, configuration and layers.
    """

    manifest: Descriptor
    platform: str
    layers: tuple[Path, ...]
    size: int


def read_content(layout: Path) -> Content:
    """Read a layout with one image and verify every blob. Raises CorruptedError."""
    index = _parse(_Index, (layout / "index.json").read_bytes(), "index.json")
    manifest = index.manifests[0]
    made = _parse(_Manifest, _blob(layout, manifest).read_bytes(), "manifest")
    config = _parse(_Config, _blob(layout, made.config).read_bytes(), "configuration")
    layers = tuple(_blob(layout, layer) for layer in made.layers)
    size = manifest.size + made.config.size + sum(layer.size for layer in made.layers)
    return Content(manifest, f"{config.os}/{config.architecture}", layers, size)


def index_bytes(images: Iterable[PlatformImage]) -> bytes:
    """Return the OCI index of one image for all platforms; equal images make equal bytes."""
    manifests = [
        {
            "mediaType": IMAGE_MEDIA_TYPE,
            "digest": image.digest,
            "size": image.manifest_bytes,
            "platform": _oci_platform(image.platform),
        }
        for image in sorted(images, key=lambda one: one.platform)
    ]
    return canonical.dumps(
        {"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": manifests}
    )


def join(layouts: Iterable[Path], index: bytes, output: Path, *, tag: str) -> str:
    """Join layouts into one, with `index` under `tag`, and return the digest of the index.

    Raises ConfigurationError if the index refers to an image that is in no layout.
    """
    blobs = output / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for layout in layouts:
        for blob in sorted((layout / "blobs" / "sha256").iterdir()):
            _place(blob, blobs / blob.name)
    for entry in json.loads(index)["manifests"]:
        if not (blobs / str(entry["digest"]).removeprefix("sha256:")).is_file():
            raise ConfigurationError(
                f"The index refers to {entry['digest']}, which is in no layout"
            )
    digest = canonical.sha256(index)
    write_durably(blobs / digest, index)
    top: dict[str, Any] = {
        "mediaType": INDEX_MEDIA_TYPE,
        "digest": f"sha256:{digest}",
        "size": len(index),
        "annotations": {"org.opencontainers.image.ref.name": tag},
    }
    write_durably(output / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    write_durably(output / "index.json", canonical.dumps({"schemaVersion": 2, "manifests": [top]}))
    return f"sha256:{digest}"


def _place(blob: Path, target: Path) -> None:
    """Hard-link a blob to another place, or copy it."""
    if target.exists():
        return
    try:
        os.link(blob, target)
    except OSError:
        shutil.copyfile(blob, target)


def _blob(layout: Path, descriptor: Descriptor) -> Path:
    name = descriptor.digest.removeprefix("sha256:")
    path = layout / "blobs" / "sha256" / name
    if not path.is_file() or path.stat().st_size != descriptor.size or sha256_file(path) != name:
        raise CorruptedError(f"Blob {name[:12]} of an image layout is missing or damaged")
    return path


def _parse(model: type[_T], data: bytes, what: str) -> _T:
    if len(data) > _MAX_JSON:
        raise CorruptedError(f"The {what} of an image layout is larger than {_MAX_JSON} bytes")
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise CorruptedError(
            f"The {what} of an image layout is not valid", why=validation_text(error)
        ) from None


def _oci_platform(platform: Platform) -> dict[str, str]:
    system, _, architecture = platform.partition("/")
    return {"architecture": architecture, "os": system}
