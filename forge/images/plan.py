"""List the images of a project, and make the command that builds one for one platform. Pure.

    dockerfiles/<image>/Dockerfile         Dockerfile of the image
    dockerfiles/tool.Dockerfile            Dockerfile of all folders that have only a lock file
    dockerfiles/<image>/requirements.lock  packages of the image; without it, Forge itself

A Dockerfile starts with `ARG BASE=<name in bases.yaml>`. If the packages do not exist for every
platform, requirements.in lists the platforms: `# platforms: linux/amd64`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge.errors import ConfigurationError
from forge.images.bases import Base, Bases
from forge.images.platforms import PLATFORMS, Platform
from forge.profiles import Profile

__all__ = [
    "BUILD_ENVIRONMENT",
    "SERVING",
    "SHARED",
    "Build",
    "Image",
    "build_argv",
    "discover",
    "on_base",
    "pinned",
    "serving",
]

SHARED: Final = "tool.Dockerfile"
SERVING: Final = "serving-"  # prefix of the device image on a Triton base
# Requires no container runtime, network bridge or privileges other than a user namespace.
BUILD_ENVIRONMENT: Final[Mapping[str, str]] = {"BUILDAH_ISOLATION": "chroot"}
_BASE = re.compile(r"^ARG BASE=([a-z0-9][a-z0-9.-]*)$", re.MULTILINE)
_PLATFORMS = re.compile(r"^# platforms:(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Image:
    """One image of the project.

    Attributes:
        name: name of its folder, or `serving-<base>`.
        dockerfile: path of its Dockerfile.
        lock: lock file of its packages; None: Forge's own lock file.
        base: name of its base in bases.yaml.
        platforms: platforms that it is built for.
    """

    name: str
    dockerfile: Path
    lock: Path | None
    base: str
    platforms: tuple[Platform, ...]


@dataclass(frozen=True, slots=True)
class Build:
    """One build of `buildah build`: an image for one platform.

    Attributes:
        image: name of the image.
        platform: platform of the build.
        base: base image.
        version: version of the content.
        secrets: files by id, visible only to RUN instructions that mount them.
    """

    image: str
    platform: Platform
    base: Base
    version: str
    secrets: Mapping[str, Path]


def discover(dockerfiles: Path, bases: Bases) -> tuple[Image, ...]:
    """Return every image of the folder, sorted by name.

    Raises ConfigurationError for a missing Dockerfile, one without `ARG BASE=<name>`, and an
    unknown base or platform.
    """
    folders = sorted(path for path in dockerfiles.iterdir() if path.is_dir())
    found = (_image(folder, bases) for folder in folders)
    return tuple(image for image in found if image is not None)


def on_base(image: Image, base: str, platforms: Sequence[Platform]) -> Image:
    """Return the serving image: `image` on a Triton base instead of its own base."""
    return Image(f"{SERVING}{base}", image.dockerfile, image.lock, base, tuple(platforms))


def serving(images: Sequence[Image], bases: Bases, profiles: Iterable[Profile]) -> list[Image]:
    """Return the device image on each Triton base in a profile, named as base or serving image."""
    device = next((image for image in images if image.name == "device"), None)
    platforms_by_base: dict[str, set[str]] = {}
    for profile in profiles:
        base = bases.find((profile.serving.image or "").removeprefix(SERVING))
        if profile.serving.server != "container" or base is None:
            continue
        if profile.platform in bases.get(base).platforms:
            platforms_by_base.setdefault(base, set()).add(profile.platform)
    if device is None:
        return []
    return [
        on_base(device, base, [one for one in PLATFORMS if one in platforms])
        for base, platforms in sorted(platforms_by_base.items())
    ]


def build_argv(build: Build, *, dockerfile: Path, context: Path, id_file: Path) -> tuple[str, ...]:
    """Return the command that builds one platform and writes the image's id to `id_file`.

    Equal inputs make equal bytes: the image contains no time stamps of this machine.

    Raises ConfigurationError for a base without a digest.
    """
    base = pinned(build.image, build.base)
    labels = {
        "org.opencontainers.image.ref.name": build.image,
        "org.opencontainers.image.version": build.version,
        "org.opencontainers.image.base.name": build.base.tagged,
        "org.opencontainers.image.base.digest": build.base.digest or "",
    }
    argv = ["buildah", "build", "--platform", build.platform, "--build-arg", f"BASE={base}"]
    argv += ["--pull", "--format", "oci", "--timestamp", "0", "--iidfile", str(id_file)]
    argv += [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
    for name, path in sorted(build.secrets.items()):
        argv += ["--secret", f"id={name},src={path}"]
    if build.base.plain_http:
        argv.append("--tls-verify=false")
    return (*argv, "--file", str(dockerfile), str(context))


def pinned(image: str, base: Base) -> str:
    """Return the base by digest. Raises ConfigurationError if it has none."""
    if base.pinned is None:
        raise ConfigurationError(
            f"Image {image!r} is built on {base.tagged}, which has no digest yet",
            why="a tag may point to another image later",
            hint="on a machine with access to its registry, run: forge images update",
        )
    return base.pinned


def _image(folder: Path, bases: Bases) -> Image | None:
    lock = folder / "requirements.lock"
    own = folder / "Dockerfile"
    if not own.is_file() and not lock.is_file():
        return None
    dockerfile = own if own.is_file() else folder.parent / SHARED
    if not dockerfile.is_file():
        hint = f"add {folder.name}/Dockerfile, or {SHARED} for all folders with only a lock file"
        raise ConfigurationError(f"Image {folder.name!r} has no Dockerfile", hint=hint)
    base = _base(dockerfile)
    offered = bases.get(base).platforms
    platforms = tuple(one for one in _platforms(folder) if one in offered)
    return Image(folder.name, dockerfile, lock if lock.is_file() else None, base, platforms)


def _base(dockerfile: Path) -> str:
    found = _BASE.search(dockerfile.read_text(encoding="utf-8"))
    if found is None:
        hint = "start it with ARG BASE=NAME, with a name of bases.yaml, and FROM ${BASE}"
        raise ConfigurationError(f"{dockerfile} has no base image", hint=hint)
    return found[1]


def _platforms(folder: Path) -> tuple[Platform, ...]:
    path = folder / "requirements.in"
    found = _PLATFORMS.search(path.read_text(encoding="utf-8")) if path.is_file() else None
    if found is None:
        return PLATFORMS
    listed = found[1].replace(",", " ").split()
    unknown = [name for name in listed if name not in PLATFORMS]
    if unknown or not listed:
        known = ", ".join(PLATFORMS)
        why = f"{unknown[0]!r} is not one of {known}" if unknown else "it lists no platform"
        raise ConfigurationError(f"{path}: '# platforms:' is not valid", why=why)
    return tuple(name for name in PLATFORMS if name in listed)
