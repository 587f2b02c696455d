"""The signed documents a device reads: one manifest per profile of a bundle, and channels.

Both are TUF targets (paths below) and canonical JSON; `identity` says which manifests are the same
release although they were signed at another time.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge import canonical
from forge.errors import TrustError, UsageError
from forge.profiles import Match, Power, Thermal

__all__ = [
    "MAX_DOCUMENT_BYTES",
    "Channel",
    "ChannelProfile",
    "Digest",
    "Fit",
    "Link",
    "Manifest",
    "Operating",
    "ServingSettings",
    "SmokeSummary",
    "TreeReference",
    "channel_path",
    "check_name",
    "check_version",
    "manifest_path",
    "parse_channel",
    "parse_manifest",
    "version_order",
]

MAX_DOCUMENT_BYTES: Final = 1024 * 1024
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_VERSION = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})(-[0-9a-z.-]{1,32})?")
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_T = TypeVar("_T", bound=_Document)


class TreeReference(_Document):
    """A stored folder: digest of its tree document, bytes and files in it."""

    digest: Digest
    size: int = Field(ge=0)
    files: int = Field(ge=0)


class Fit(_Document):
    """What a device must be and have; checked before anything is downloaded. MiB throughout."""

    platform: Literal["linux/amd64", "linux/arm64"]
    match: Match
    compute_capability: str | None
    memory_mib: int = Field(ge=0)
    free_disk_mib: int = Field(ge=0)
    driver_min: str | None
    jetpack: tuple[str, ...]
    runtime: dict[str, str] = Field(description="exact versions the engine is bound to")
    power_mode: str | None


class ServingSettings(_Document):
    """How the device activates the bundle."""

    activation: Literal["swap", "blue-green"]
    start_timeout_s: float = Field(gt=0)
    environments: dict[str, Digest] = Field(description="lock digest by environment name")
    images: dict[str, str] = Field(description="container image by digest, by use")


class Operating(_Document):
    """At which power the device serves the bundle, and from which temperatures it serves less."""

    power: Power
    thermal: Thermal


class SmokeSummary(_Document):
    """What the smoke benchmark measured at the lowest concurrency, and on what."""

    concurrency: int
    ttft_ms_p50: float
    inter_token_ms_p50: float
    output_tokens_per_s: float
    error_rate: float
    peak_rss_mib: float
    machine: str


class Link(_Document):
    """One link of the chain this bundle came from."""

    step: str
    key: Digest
    outputs: dict[str, Digest]


class Manifest(_Document):
    """What one profile of one bundle version is."""

    schema_version: Literal[1] = 1
    name: str
    version: str
    profile: str
    created: str = Field(description="RFC 3339, UTC; of the first publication")
    tree: TreeReference = Field(description="what is unpacked into a slot")
    proofs: TreeReference = Field(description="SBOM, provenance, model signature, smoke result")
    fit: Fit
    serving: ServingSettings
    operating: Operating | None = Field(
        default=None, description="null: published before there was one"
    )
    smoke: SmokeSummary
    chain: tuple[Link, ...]

    def identity(self) -> str:
        """Digest of what makes this release itself: all but proofs, times and measurements."""
        kept = {"name", "version", "profile", "tree", "fit", "serving"}
        if self.operating is not None:  # a manifest from before keeps the identity it has
            kept.add("operating")
        return canonical.digest(self.model_dump(mode="json", include=kept))

    def encode(self) -> bytes:
        """Canonical bytes."""
        return canonical.dumps(self.model_dump(mode="json"))


class ChannelProfile(_Document):
    """How a device recognises that a manifest is meant for it."""

    platform: Literal["linux/amd64", "linux/arm64"]
    match: Match


class Channel(_Document):
    """A name that points to a bundle version."""

    schema_version: Literal[1] = 1
    name: str
    channel: str
    version: str
    profiles: dict[str, ChannelProfile]

    def encode(self) -> bytes:
        """Canonical bytes."""
        return canonical.dumps(self.model_dump(mode="json"))


def manifest_path(name: str, version: str, profile: str) -> str:
    """TUF target path of one manifest."""
    return f"bundles/{name}/{version}/{profile}.json"


def channel_path(name: str, channel: str) -> str:
    """TUF target path of one channel."""
    return f"channels/{name}/{channel}.json"


def check_name(value: str, what: str) -> str:
    """Return a bundle or channel name, or raise UsageError."""
    if not _NAME.fullmatch(value):
        message = f"{what} {value!r} is not a name"
        raise UsageError(message, hint="use a-z, 0-9 and '-', at most 63 characters")
    return value


def check_version(value: str) -> str:
    """Return a version like 1.4.0 or 1.4.0-rc.1, or raise UsageError."""
    if not _VERSION.fullmatch(value):
        message = f"{value!r} is not a version"
        raise UsageError(message, hint="use MAJOR.MINOR.PATCH, for example 1.4.0 or 1.4.0-rc.1")
    return value


def version_order(value: str) -> tuple[int, int, int, int, tuple[tuple[int, int, str], ...]]:
    """Sort key by Semantic Versioning 2.0.0 precedence (§11)."""
    numbers, _, suffix = check_version(value).partition("-")
    major, minor, patch = (int(part) for part in numbers.split("."))
    parts = tuple(
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in suffix.split(".")
        if suffix
    )
    return major, minor, patch, 0 if suffix else 1, parts


def parse_manifest(data: bytes) -> Manifest:
    """A manifest from its bytes. Raises TrustError."""
    return _parse(Manifest, data, "bundle manifest")


def parse_channel(data: bytes) -> Channel:
    """A channel from its bytes, fit to make paths of. Raises TrustError."""
    found = _parse(Channel, data, "channel")
    try:
        check_version(found.version)
        for profile in found.profiles:
            check_name(profile, "Profile")
    except UsageError as error:
        hint = "do not use this bundle; report its publisher"
        raise TrustError("The channel is not valid", why=error.what, hint=hint) from None
    return found


def _parse(model: type[_T], data: bytes, what: str) -> _T:
    if len(data) > MAX_DOCUMENT_BYTES:
        raise TrustError(f"The {what} is larger than {MAX_DOCUMENT_BYTES} bytes")
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        hint = "it was made by a newer Forge or is damaged: update Forge on this machine"
        raise TrustError(
            f"The {what} is not valid", why=f"{place}: {first['msg']}", hint=hint
        ) from None
