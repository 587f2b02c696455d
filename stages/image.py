"""Container images: one step for each platform, one index for all of them, one push."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import forge
import forge.images
from forge.errors import ConfigurationError
from forge.images.bases import Bases, read_bases
from forge.images.lock import own_lock
from forge.images.plan import SERVING, Image, discover, serving
from forge.images.platforms import PLATFORMS
from forge.images.registry import Registry
from forge.profiles import Profile
from forge.steps import Artifact, SourceFile, Step, locked, source, sources
from stages import DOCKERFILES

SOURCES = Path(forge.images.__path__[0])
# Which storage buildah uses and where the registry's credentials are; never in a key.
CONTAINER_SECRETS = ("CONTAINERS_STORAGE_CONF", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE")


@dataclass(frozen=True)
class Built:
    """One image on all its platforms: a layout for each, and the index that names them."""

    name: str
    layouts: Sequence[Artifact]
    index: Artifact


def wanted(profiles: Iterable[Profile]) -> list[Image]:
    """Every image of dockerfiles/, and the device image on each Triton base a profile names."""
    bases = read_bases(DOCKERFILES)
    images = discover(DOCKERFILES, bases)
    return [*images, *serving(images, bases, profiles)]


def of_profile(profile: Profile) -> Image | None:
    """The serving image that a profile names as `serving-<base>`; None: it names another one."""
    name = profile.serving.image
    if profile.serving.server != "container" or name is None or not name.startswith(SERVING):
        return None
    found = next((image for image in wanted([profile]) if image.name == name), None)
    if found is None:
        hint = "serving.image is serving-NAME of a base in bases.yaml for that platform"
        message = f"Profile {profile.name!r} is served in {name}, which no pipeline builds"
        raise ConfigurationError(message, hint=hint)
    return found


def served_in(profiles: Sequence[Profile], registry: str) -> dict[str, Artifact]:
    """Index of the image that each profile is served in, for those that name one of ours."""
    ours = {profile.name: found for profile in profiles if (found := of_profile(profile))}
    names = {found.name for found in ours.values()}
    built = {one.name: build(one, registry, {}) for one in wanted(profiles) if one.name in names}
    return {profile: built[found.name].index for profile, found in ours.items()}


def build(image: Image, registry: str, runners: Mapping[str, str]) -> Built:
    """Build `image` on each of its platforms and name all of them by one index.

    Args:
        image: one of `wanted`.
        registry: where it will be pushed; part of its reference only.
        runners: label of a native runner by platform; the rest is built where the pipeline runs.
    """
    bases = read_bases(DOCKERFILES)
    steps = [_platform(image, platform, bases, runners) for platform in image.platforms]
    names = [platform.partition("/")[2] for platform in image.platforms]
    index = Step(
        id=f"index@{image.name}",
        argv=(
            "${python}", "-m", "forge.images", "index",
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
        sources=sources(SOURCES),
    )  # fmt: skip
    return Built(image.name, [step["layout"] for step in steps], index["index"])


def push(built: Built, registry: str, tag: str) -> Step:
    """Send the index and all it names; what the registry has already is not sent again."""
    inputs = {f"layout{number}": layout for number, layout in enumerate(built.layouts)}
    return Step(
        id=f"push@{built.name}",
        argv=(
            "${python}", "-m", "forge.images", "push",
            "--settings", "${settings}",
            "--index", "${inputs.index}",
            "--layouts", *(f"${{inputs.{name}}}" for name in inputs),
        ),
        inputs={**inputs, "index": built.index},
        settings={"registry": registry, "tag": tag},
        programs=("skopeo",),
        secrets=CONTAINER_SECRETS,
        effect=True,
    )  # fmt: skip


def by_digest(image: str | None) -> str | None:
    """`serving.image` of a profile by digest, where bases.yaml knows it."""
    if image is None or not (DOCKERFILES / "bases.yaml").is_file():
        return image
    return read_bases(DOCKERFILES).by_digest(image)


def pinned(profile: Profile) -> Profile:
    """The profile with `serving.image` by digest: of the base, where it names one of ours."""
    name = profile.serving.image
    if name is None:
        return profile
    base = by_digest(name.removeprefix(SERVING))
    return profile.model_copy(
        update={"serving": profile.serving.model_copy(update={"image": base})}
    )


def unresolved(image: str | None) -> str:
    """Why nothing can be served in `image` yet; empty: it is known by digest."""
    known = by_digest(image)
    return "" if known is not None and "@" in known else _unresolved(f"image {known}")


def parse_runners(text: str) -> dict[str, str]:
    """`linux/arm64=ubuntu-24.04-arm,…` → label by platform. Raises ConfigurationError."""
    found: dict[str, str] = {}
    for word in filter(None, text.split(",")):
        platform, _, label = word.partition("=")
        if platform not in PLATFORMS or not label:
            hint = "for example: --runners linux/arm64=ubuntu-24.04-arm"
            raise ConfigurationError(f"{word!r} is not PLATFORM=LABEL", hint=hint)
        found[platform] = label
    return found


def _platform(image: Image, platform: str, bases: Bases, runners: Mapping[str, str]) -> Step:
    base = bases.get(image.base)
    made_of, lock_words = _made_of(image)
    lock = (locked(image.lock.parent),) if image.lock else ()
    label = runners.get(platform)
    # The platform is a setting and no condition on the runner: emulated or native, the image is
    # the same, and so is its key.
    return Step(
        id=f"image@{image.name}-{platform.partition('/')[2]}",
        argv=(
            "${python}", "-m", "forge.images", "build",
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
            # Of a tool's image its lock, so that a new Forge does not rebuild it.
            "version": lock[0].lock_sha256[:12] if lock else forge.__version__,
        },
        locks=lock,
        sources=(source(image.dockerfile), *made_of),
        libraries={"cyclonedx-python-lib": version("cyclonedx-python-lib")},
        labels=(label,) if label else (),
        programs=("buildah",),
        secrets=CONTAINER_SECRETS,
        planned_only="" if base.digest else _unresolved(f"base {base.tagged}"),
    )  # fmt: skip


def _made_of(image: Image) -> tuple[tuple[SourceFile, ...], tuple[str, ...]]:
    """Sources beside the Dockerfile, and the words that name the lock."""
    if image.lock is not None:
        return sources(SOURCES), ("--lock", "${lock." + image.lock.parent.name + "}")
    return (*sources(Path(forge.__path__[0])), source(own_lock())), ()


def _unresolved(what: str) -> str:
    return f"its {what} has no digest yet; where its registry is in reach: forge images update"
