"""Build one image for one platform with buildah and export it as an OCI layout.

OUTPUT/layout/                     oci-layout, index.json, blobs
IMAGE/image.json                   PlatformImage
IMAGE/sbom-<platform>.cdx.json     SBOM of the image
"""

from __future__ import annotations

import configparser
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

import forge
from forge import canonical
from forge.container import Statement
from forge.errors import ConfigurationError
from forge.files import write_durably
from forge.images.bases import Base
from forge.images.documents import IMAGE_FILE, PlatformImage, sbom_file
from forge.images.layout import Content, read_content
from forge.images.lock import device_lock
from forge.images.packages import installed
from forge.images.plan import BUILD_ENVIRONMENT, Build, build_argv, pinned
from forge.images.platforms import Platform, check_can_run
from forge.images.programs import QUICK_S, call
from forge.images.sbom import encode
from forge.steps import WARNING

__all__ = ["BuildSettings", "Sources", "build"]

DATA_FILES: Final = ()  # for a step's key: a step that packs Forge itself names all of its files
_BUILD_TIMEOUT_S: Final = 4 * 3600.0
_TAKEN: Final = {".py", ".j2", ".json", ".yaml"}


class BuildSettings(BaseModel):
    """Settings of an image step."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str
    platform: Platform
    base: Base
    version: str


@dataclass(frozen=True, slots=True)
class Sources:
    """Sources of a build: the Dockerfile, and the lock file; None: Forge's own lock file."""

    dockerfile: Path
    lock: Path | None


def build(settings: BuildSettings, sources: Sources, layout: Path, image: Path) -> PlatformImage:
    """Build an image, export it to `layout` and describe it in `image`, two empty folders.

    Raises:
        ConfigurationError: the base has no digest or is for another platform.
        NoRunnerError: buildah is not installed, or this machine cannot run that platform.
        StepFailedError: buildah failed; see its output.
    """
    pinned(settings.image, settings.base)
    warning = check_can_run(settings.platform)
    if warning:
        sys.stderr.write(f"{WARNING}{warning}\n")
    with tempfile.TemporaryDirectory(prefix="forge-image-") as name:
        _build(settings, sources, Path(name), layout)
    content = read_content(layout)
    _check_platform(settings, content)
    return _describe(settings, content, image)


def _build(settings: BuildSettings, sources: Sources, work: Path, layout: Path) -> None:
    context = work / "context"
    context.mkdir()
    shutil.copyfile(sources.lock or device_lock(), context / "requirements.lock")
    if sources.lock is None:
        package = Path(forge.__file__).parent
        shutil.copytree(package, context / "forge", ignore=_ignore)
        (context / IMAGE_FILE).write_bytes(_statement(settings).encode())
    id_file = work / "id"
    order = Build(
        image=settings.image,
        platform=settings.platform,
        base=settings.base,
        version=settings.version,
        secrets=_secrets(work, os.environ),
    )
    argv = build_argv(order, dockerfile=sources.dockerfile, context=context, id_file=id_file)
    call(argv, timeout_s=_BUILD_TIMEOUT_S, environment=BUILD_ENVIRONMENT)
    made = id_file.read_text(encoding="utf-8").strip()
    try:
        push = ("buildah", "push", "--format", "oci", made, f"oci:{layout}:{settings.image}")
        call(push, timeout_s=_BUILD_TIMEOUT_S, environment={})
    finally:  # the layout contains the image; its base is kept for the next build
        call(("buildah", "rmi", "--force", made), timeout_s=QUICK_S, environment={})


def _statement(settings: BuildSettings) -> Statement:
    """Return the description that the agent in the image reads."""
    if settings.base.digest is None:
        raise ConfigurationError(f"{settings.base.tagged} has no digest yet")
    return Statement(
        name=settings.image,
        platform=settings.platform,
        base=settings.base.tagged,
        base_digest=settings.base.digest,
        version=settings.version,
    )


def _ignore(folder: str, names: list[str]) -> set[str]:
    """Return the names to ignore: all but folders and the files that count in the step's key."""
    return {
        name
        for name in names
        if name == "__pycache__"
        or ((Path(folder) / name).is_file() and Path(name).suffix not in _TAKEN)
    }


def _secrets(work: Path, environment: Mapping[str, str]) -> dict[str, Path]:
    """Return files with this machine's package index and CA certificates, for pip in RUN."""
    settings = {"default-timeout": "180", "retries": "10"}
    for key in ("INDEX_URL", "EXTRA_INDEX_URL"):
        if value := environment.get(f"PIP_{key}") or environment.get(f"UV_{key}"):
            settings[key.lower().replace("_", "-")] = value
    found = {}
    authorities = environment.get("PIP_CERT") or environment.get("SSL_CERT_FILE")
    if authorities and Path(authorities).is_file():
        found["ca.pem"] = Path(authorities)
        settings["cert"] = "/run/secrets/ca.pem"
    parser = configparser.RawConfigParser()
    parser["global"] = settings
    found["pip.conf"] = work / "pip.conf"
    with found["pip.conf"].open("w", encoding="utf-8") as file:
        parser.write(file)
    return found


def _check_platform(settings: BuildSettings, content: Content) -> None:
    if content.platform != settings.platform:
        raise ConfigurationError(
            f"{settings.image} was built for {content.platform}, not {settings.platform}",
            why=f"{settings.base.tagged} may not have an image for {settings.platform}",
            hint="correct the platforms of the base in bases.yaml",
        )


def _describe(settings: BuildSettings, content: Content, image: Path) -> PlatformImage:
    digest = content.manifest.digest
    sbom = encode(settings.image, digest, installed(content.layers))
    write_durably(image / sbom_file(settings.platform), sbom)
    made = PlatformImage(
        platform=settings.platform,
        digest=digest,
        manifest_bytes=content.manifest.size,
        size=content.size,
        layers=len(content.layers),
        base=pinned(settings.image, settings.base),
        sbom=f"sha256:{canonical.sha256(sbom)}",
    )
    write_durably(image / IMAGE_FILE, canonical.dumps(made.model_dump(mode="json")))
    return made
