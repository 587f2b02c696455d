"""Container images: one step per platform, one index of all platforms, one push."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import forge
from forge.closure import sources_of
from forge.errors import ConfigurationError
from forge.extras import versions
from forge.images.bases import Bases, read_bases
from forge.images.lock import device_lock
from forge.images.plan import SERVING, Image, discover, serving
from forge.images.platforms import PLATFORMS
from forge.images.registry import Registry
from forge.profiles import Profile
from forge.steps import Artifact, SourceFile, Step, locked, source, sources
from stages import DOCKERFILES

# Storage of buildah and credentials of the registry; never part of a key.
CONTAINER_SECRETS = ("CONTAINERS_STORAGE_CONF", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE")


@dataclass(frozen=True)
class Built:
    """One image on all its platforms: a layout for each, and the index of them."""

    name: str
    layouts: Sequence[Artifact]
    index: Artifact


def wanted(profiles: Iterable[Profile]) -> list[Image]:
    """Return every image of dockerfiles/, and the serving images that the profiles name."""
    bases = read_bases(DOCKERFILES)
    images = discover(DOCKERFILES, bases)
    return [*images, *serving(images, bases, profiles)]


def of_profile(profile: Profile) -> Image | None:
    """Return the serving image that a profile names as `serving-<base>`, or None."""
    name = profile.serving.image
    if profile.serving.server != "container" or name is None or not name.startswith(SERVING):
        return None
    found = next((image for image in wanted([profile]) if image.name == name), None)
    if found is None:
        hint = "set serving.image to serving-NAME, with a base of bases.yaml for that platform"
        message = f"Profile {profile.name!r} is served in {name}, which no pipeline builds"
        raise ConfigurationError(message, hint=hint)
    return found


def served_in(profiles: Sequence[Profile], registry: str) -> dict[str, Artifact]:
    """Return the index of the serving image by profile, for images of this project."""
    ours = {profile.name: found for profile in profiles if (found := of_profile(profile))}
    names = {found.name for found in ours.values()}
    built = {one.name: build(one, registry, {}) for one in wanted(profiles) if one.name in names}
    return {profile: built[found.name].index for profile, found in ours.items()}


def build(image: Image, registry: str, runners: Mapping[str, str]) -> Built:
    """Plan the builds of an image for its platforms, and their index.

    Args:
        image: one of `wanted`.
        registry: registry to push to; only part of the reference.
        runners: label of a native runner by platform; others are built where the pipeline runs.
    """
    bases = read_bases(DOCKERFILES)
    steps = [_platform(image, platform, bases, runners) for platform in image.platforms]
    names = [platform.partition("/")[2] for platform in image.platforms]
    index = Step(
        id=f"index@{image.name}",
        argv=(
            "${python}", "-m", "forge.images.steps.index",
            "--settings", "${settings}",
            "--images", *(f"${{inputs.{name}}}" for name in names),
            "--output", "${outputs.index}",
        ),
        inputs=dict(zip(names, (step["image"] for step in steps), strict=True)),
        outputs=("index",),
        settings={
            "image": image.name,
            "repository": Registry.parse(registry).repository(image.name),
        },
        sources=sources_of("forge.images.steps.index"),
    )  # fmt: skip
    return Built(image.name, [step["layout"] for step in steps], index["index"])


def push(built: Built, registry: str, tag: str) -> Step:
    """Plan the push of an index and its images; existing blobs are not sent again."""
    inputs = {f"layout{number}": layout for number, layout in enumerate(built.layouts)}
    return Step(
        id=f"push@{built.name}",
        argv=(
            "${python}", "-m", "forge.images.steps.push",
            "--settings", "${settings}",
            "--index", "${inputs.index}",
            "--layouts", *(f"${{inputs.{name}}}" for name in inputs),
        ),
        inputs={**inputs, "index": built.index},
        settings={"registry": registry, "tag": tag},
        sources=sources_of("forge.images.steps.push"),
        programs=("skopeo",),
        secrets=CONTAINER_SECRETS,
        effect=True,
    )  # fmt: skip


def by_digest(image: str | None) -> str | None:
    """Return `serving.image` of a profile by digest, if bases.yaml has it."""
    if image is None or not (DOCKERFILES / "bases.yaml").is_file():
        return image
    return read_bases(DOCKERFILES).by_digest(image)


def pinned(profile: Profile) -> Profile:
    """Return the profile with `serving.image` by digest: that of the base for own images."""
    name = profile.serving.image
    if name is None:
        return profile
    base = by_digest(name.removeprefix(SERVING))
    return profile.model_copy(
        update={"serving": profile.serving.model_copy(update={"image": base})}
    )


def unresolved(image: str | None) -> str:
    """Return why nothing can be served in `image` yet; empty if it has a digest."""
    known = by_digest(image)
    return "" if known is not None and "@" in known else _unresolved(f"image {known}")


def parse_runners(text: str) -> dict[str, str]:
    """Parse `linux/arm64=ubuntu-24.04-arm,…` to labels by platform. Raises ConfigurationError."""
    found: dict[str, str] = {}
    for word in filter(None, text.split(",")):
        platform, _, label = word.partition("=")
        if platform not in PLATFORMS or not label:
            hint = "use PLATFORM=LABEL, for example --runners linux/arm64=ubuntu-24.04-arm"
            raise ConfigurationError(f"{word!r} is not a valid runner", hint=hint)
        found[platform] = label
    return found


def _platform(image: Image, platform: str, bases: Bases, runners: Mapping[str, str]) -> Step:
    base = bases.get(image.base)
    packed, lock_words = _packed(image)
    lock = (locked(image.lock.parent),) if image.lock else ()
    label = runners.get(platform)
    # The platform is a setting and not a requirement of the runner: emulated and native builds
    # make the same image, so they have the same key.
    return Step(
        id=f"image@{image.name}-{platform.partition('/')[2]}",
        argv=(
            "${python}", "-m", "forge.images.steps.build",
            "--settings", "${settings}",
            "--dockerfile", "${source." + image.dockerfile.stem + "}",
            *lock_words,
            "--layout", "${outputs.layout}",
            "--image", "${outputs.image}",
        ),
        outputs=("layout", "image"),
        settings={
            "image": image.name,
            "platform": platform,
            "base": base.model_dump(mode="json"),
            # For tool images the lock file, so that a new version of Forge does not rebuild them.
            "version": lock[0].lock_sha256[:12] if lock else forge.__version__,
        },
        locks=lock,
        sources=(
            source(image.dockerfile),
            *sources_of("forge.images.steps.build"),
            *packed,
        ),
        libraries=versions("build", "cyclonedx-python-lib"),
        labels=(label,) if label else (),
        programs=("buildah",),
        secrets=CONTAINER_SECRETS,
        planned_only="" if base.digest else _unresolved(f"base {base.tagged}"),
    )  # fmt: skip


def _packed(image: Image) -> tuple[tuple[SourceFile, ...], tuple[str, ...]]:
    """Return the sources that enter the image, and the arguments for its lock file."""
    if image.lock is not None:
        return (), ("--lock", "${lock." + image.lock.parent.name + "}")
    return (*_package(), source(device_lock())), ()


@functools.cache  # hundreds of files, for each image and platform; no command changes them
def _package() -> tuple[SourceFile, ...]:
    """Return the files of Forge itself."""
    return sources(Path(forge.__path__[0]))


def _unresolved(what: str) -> str:
    return f"its {what} has no digest yet: run forge images update"
