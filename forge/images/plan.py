"""Which images a project has, and the command that builds one of them for one platform. Pure.

    dockerfiles/<image>/Dockerfile         its own Dockerfile, or
    dockerfiles/tool.Dockerfile            the one for every folder that has a lock only
    dockerfiles/<image>/requirements.lock  what it installs; a folder without one holds Forge itself

A Dockerfile begins with `ARG BASE=<name of bases.yaml>`. A folder whose packages do not exist for
every platform says so in its requirements.in: `# platforms: linux/amd64`.
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
SERVING: Final = "serving-"  # begins the name of the device image on a Triton base
# Needs no container runtime, no network bridge and no privileges beyond a user namespace.
BUILD_ENVIRONMENT: Final[Mapping[str, str]] = {"BUILDAH_ISOLATION": "chroot"}
_BASE = re.compile(r"^ARG BASE=([a-z0-9][a-z0-9.-]*)$", re.MULTILINE)
_PLATFORMS = re.compile(r"^# platforms:(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Image:
    """One image of the project.

    Attributes:
        name: its folder's, or `serving-<base>`.
        dockerfile: what it is built by.
        lock: packages it installs; None: Forge itself, from Forge's own lock.
        base: a name of bases.yaml.
        platforms: it is built for.
    """

    name: str
    dockerfile: Path
    lock: Path | None
    base: str
    platforms: tuple[Platform, ...]


@dataclass(frozen=True, slots=True)
class Build:
    """One image for one platform, as `buildah build` is told.

    Attributes:
        image: name of the image.
        platform: it is built for.
        base: what it is built on.
        version: of what is in it.
        secrets: file by id, seen by RUN instructions that ask for them and by nothing else.
    """

    image: str
    platform: Platform
    base: Base
    version: str
    secrets: Mapping[str, Path]


def discover(dockerfiles: Path, bases: Bases) -> tuple[Image, ...]:
    """Every image of the folder, by name.

    Raises ConfigurationError: no Dockerfile, one without `ARG BASE=<name>`, an unknown base or
    platform.
    """
    folders = sorted(path for path in dockerfiles.iterdir() if path.is_dir())
    found = (_image(folder, bases) for folder in folders)
    return tuple(image for image in found if image is not None)


def on_base(image: Image, base: str, platforms: Sequence[Platform]) -> Image:
    """The serving image: `image` built on a Triton base instead of its own."""
    return Image(f"{SERVING}{base}", image.dockerfile, image.lock, base, tuple(platforms))


def serving(images: Sequence[Image], bases: Bases, profiles: Iterable[Profile]) -> list[Image]:
    """The device image on each Triton base that a profile names, itself or as `serving-<base>`."""
    device = next((image for image in images if image.name == "device"), None)
    asked: dict[str, set[str]] = {}
    for profile in profiles:
        base = bases.find((profile.serving.image or "").removeprefix(SERVING))
        if profile.serving.server != "container" or base is None:
            continue
        if profile.platform in bases.get(base).platforms:
            asked.setdefault(base, set()).add(profile.platform)
    if device is None:
        return []
    return [
        on_base(device, base, [one for one in PLATFORMS if one in platforms])
        for base, platforms in sorted(asked.items())
    ]


def build_argv(build: Build, *, dockerfile: Path, context: Path, id_file: Path) -> tuple[str, ...]:
    """The command that builds one platform and writes the image's id to `id_file`.

    Equal inputs make equal bytes: no time of this machine enters the image.

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
    """What to build on. Raises ConfigurationError with the command that resolves the digest."""
    if base.pinned is None:
        raise ConfigurationError(
            f"Image {image!r} is built on {base.tagged}, which has no digest yet",
            why="a tag may mean other bytes tomorrow",
            hint="where its registry can be reached: forge images update",
        )
    return base.pinned


def _image(folder: Path, bases: Bases) -> Image | None:
    lock = folder / "requirements.lock"
    own = folder / "Dockerfile"
    if not own.is_file() and not lock.is_file():
        return None
    dockerfile = own if own.is_file() else folder.parent / SHARED
    if not dockerfile.is_file():
        hint = f"write {folder.name}/Dockerfile, or {SHARED} for all folders with a lock only"
        raise ConfigurationError(f"Image {folder.name!r} has no Dockerfile", hint=hint)
    base = _base(dockerfile)
    offered = bases.get(base).platforms
    platforms = tuple(one for one in _platforms(folder) if one in offered)
    return Image(folder.name, dockerfile, lock if lock.is_file() else None, base, platforms)


def _base(dockerfile: Path) -> str:
    found = _BASE.search(dockerfile.read_text(encoding="utf-8"))
    if found is None:
        hint = "begin it with: ARG BASE=NAME, a name of bases.yaml, and FROM ${BASE}"
        raise ConfigurationError(f"{dockerfile} names no base", hint=hint)
    return found[1]


def _platforms(folder: Path) -> tuple[Platform, ...]:
    path = folder / "requirements.in"
    found = _PLATFORMS.search(path.read_text(encoding="utf-8")) if path.is_file() else None
    if found is None:
        return PLATFORMS
    asked = found[1].replace(",", " ").split()
    unknown = [name for name in asked if name not in PLATFORMS]
    if unknown or not asked:
        why = f"{unknown[0]!r} is none of {', '.join(PLATFORMS)}" if unknown else "it names none"
        raise ConfigurationError(f"{path}: '# platforms:' is not valid", why=why)
    return tuple(name for name in PLATFORMS if name in asked)
