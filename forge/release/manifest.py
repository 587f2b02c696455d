"""Build bundle manifests from the publish step's inputs and the trees in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from forge import bundle
from forge.bundle import Fit, Manifest, Operating, ServingSettings
from forge.errors import ConfigurationError
from forge.memory.formula import ServedMemory
from forge.profiles import MatchSection, PowerSection, RequiresSection, ThermalSection
from forge.release.attest.lineage import ancestry, makers
from forge.release.repository.unverified_index import request_digest
from forge.serving.repository.spec import SPEC_FILE, Spec
from forge.smoke.result import RESULT_FILE, Result, summary
from forge.steps import Link
from forge.store.formats.tree import Tree
from forge.validation import validation_text

__all__ = ["Part", "PlannedManifest", "Request", "TreeStore", "build", "parse_request"]

_MAX_SMALL_BYTES: Final = 4 * 1024 * 1024
_T = TypeVar("_T", bound=BaseModel)


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Hardware(_Document):
    match: MatchSection
    compute_capability: str | None


class _Serving(_Document):
    activation: Literal["swap", "blue-green"]
    start_timeout_s: float


class PartProfile(_Document):
    """The profile fields that a manifest is built from."""

    name: str
    platform: Literal["linux/amd64", "linux/arm64"]
    hardware: _Hardware
    requires: RequiresSection
    power: PowerSection
    thermal: ThermalSection
    serving: _Serving


class _Inputs(_Document):
    repository: str
    smoke: str
    proofs: str


class Part(_Document):
    """One SKU of a bundle: its profile, and the names of its inputs in `digests`.

    Attributes:
        profile: the fields that the manifest is built from.
        inputs: names in `digests`.
        memory: how its memory was computed; None: it was not.
    """

    profile: PartProfile
    inputs: _Inputs
    memory: ServedMemory | None = None


class Request(_Document):
    """The publish step's settings."""

    name: str
    version: str
    channel: str
    parts: tuple[Part, ...]

    @field_validator("parts")
    @classmethod
    def _distinct(cls, parts: tuple[Part, ...]) -> tuple[Part, ...]:
        names = [part.profile.name for part in parts]
        if not names or len(set(names)) != len(names):
            raise ValueError("one part for each profile, and at least one")
        return parts


class TreeStore(Protocol):
    """The part of a store that a manifest is built from."""

    def tree(self, digest: str) -> Tree:
        """Return a tree document."""

    def read_file(self, digest: str, path: str, *, max_bytes: int) -> bytes:
        """Return the bytes of a small file of a tree."""


@dataclass(frozen=True)
class PlannedManifest:
    """A manifest to publish, the digest of its request, and how its memory was computed."""

    manifest: Manifest
    request: str
    memory: ServedMemory | None = None


def parse_request(data: bytes) -> Request:
    """Return the parsed settings of the publish step.

    Raises:
        ConfigurationError: the JSON is not a valid request.
        UsageError: a name or the version is not valid.
    """
    request = _parse(Request, data, "publish request")
    bundle.check_name(request.name, "Bundle name")
    bundle.check_name(request.channel, "Channel")
    bundle.check_version(request.version)
    for part in request.parts:
        bundle.check_name(part.profile.name, "Profile")
    return request


def build(
    store: TreeStore,
    request: Request,
    digests: Mapping[str, str],
    links: Sequence[Link],
    now: datetime,
) -> tuple[PlannedManifest, ...]:
    """Return one manifest for each part of a request.

    Args:
        store: holds the trees.
        request: settings of the publish step.
        digests: tree digest by input name.
        links: every step that the inputs were built by.
        now: time of creation.

    Raises:
        ConfigurationError: an input is missing, a smoke result was not measured on the tree that
            ships, or serving.json or result.json is missing or not valid.
        StoreError: a tree is not in the store.
    """
    return tuple(_build(store, request, part, digests, links, now) for part in request.parts)


def _build(
    store: TreeStore,
    request: Request,
    part: Part,
    digests: Mapping[str, str],
    links: Sequence[Link],
    now: datetime,
) -> PlannedManifest:
    repository, smoke, proofs = (
        _digest(digests, name)
        for name in (part.inputs.repository, part.inputs.smoke, part.inputs.proofs)
    )
    _check_measured(links, part.profile.name, repository, smoke)
    tree = store.tree(repository)
    spec = _read(store, repository, SPEC_FILE, Spec)
    result = _read(store, smoke, RESULT_FILE, Result)
    manifest = Manifest(
        name=request.name,
        version=request.version,
        profile=part.profile.name,
        created=f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        tree=tree.reference(),
        proofs=store.tree(proofs).reference(),
        fit=_fit(part.profile, spec),
        serving=_serving(part.profile, spec, tree),
        operating=Operating(power=part.profile.power, thermal=part.profile.thermal),
        smoke=summary(result),
        chain=tuple(
            bundle.ChainLink(step=link.step, key=link.key, outputs=dict(link.outputs))
            for link in ancestry(links, (repository, smoke, proofs))
        ),
    )
    raw = part.model_dump(mode="json")
    digest = request_digest(request.name, request.version, raw, digests)
    return PlannedManifest(manifest, digest, part.memory)


def _check_measured(links: Sequence[Link], profile: str, repository: str, smoke: str) -> None:
    """Require that the smoke result was measured on the tree that ships.

    The same rule holds for a tree from which devices compile the engine: the benchmark compiles
    from that tree.
    """
    producers = makers(links, smoke)
    if any(repository in link.inputs.values() for link in producers):
        return
    if not producers:
        raise ConfigurationError(
            f"No step of the chain produced the smoke result {smoke[:12]} of {profile}",
            hint="run the pipeline again without --only, so that the chain is complete",
        )
    taken = "; ".join(f"{link.step} took {_named(link.inputs)}" for link in producers)
    raise ConfigurationError(
        f"The smoke result of {profile} was measured on another tree than the one that ships",
        why=f"tree {repository[:12]} ships, but {taken}",
        hint="nothing was published; measure the repository that the pipeline publishes",
    )


def _named(inputs: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {digest[:12]}" for name, digest in inputs.items()) or "no tree"


def _fit(profile: PartProfile, spec: Spec) -> Fit:
    compiled = spec.compile_on_device
    return Fit(
        platform=profile.platform,
        match=profile.hardware.match,
        compute_capability=profile.hardware.compute_capability,
        # Compiling on the device needs more than serving; the check runs before the download.
        memory_mib=max(profile.requires.memory_mib, compiled.memory_mib if compiled else 0),
        free_disk_mib=profile.requires.free_disk_mib + (compiled.disk_mib if compiled else 0),
        driver_min=profile.requires.driver_min,
        jetpack=profile.requires.jetpack,
        runtime=spec.runtime,
        power_mode=profile.power.mode,
    )


def _serving(profile: PartProfile, spec: Spec, tree: Tree) -> ServingSettings:
    environments = {}
    if spec.environment is not None:
        locks = {entry.path: entry.sha256 for entry in tree.entries}
        if spec.lock not in locks:
            raise ConfigurationError(
                f"The repository of {profile.name} lacks the lock {spec.lock!r}",
                why=f"{SPEC_FILE} names it",
                hint="render the model repository again",
            )
        environments[spec.environment] = locks[spec.lock]
    return ServingSettings(
        activation=profile.serving.activation,
        start_timeout_s=profile.serving.start_timeout_s,
        environments=environments,
        # As rendered: an image that this project builds has a digest only after it is built.
        images={} if spec.image is None else {"server": spec.image},
    )


def _digest(digests: Mapping[str, str], name: str) -> str:
    if name not in digests:
        raise ConfigurationError(
            f"The publish step has no input {name!r}", why=f"given: {', '.join(sorted(digests))}"
        )
    return digests[name]


def _read(store: TreeStore, tree: str, path: str, model: type[_T]) -> _T:
    return _parse(
        model,
        store.read_file(tree, path, max_bytes=_MAX_SMALL_BYTES),
        f"{path} of tree {tree[:12]}",
    )


def _parse(model: type[_T], data: bytes, what: str) -> _T:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise ConfigurationError(f"The {what} is not valid", why=validation_text(error)) from None
