"""The signed documents that a device reads: one manifest per profile of a bundle, and channels.

Both are TUF targets (paths below) in canonical JSON. Two manifests with the same `identity` are the
same release, even if they were signed at different times.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge import canonical
from forge.errors import TrustError, UsageError
from forge.profiles import MatchSection, PowerSection, ThermalSection
from forge.validation import validation_text

__all__ = [
    "MAX_DOCUMENT_BYTES",
    "ChainLink",
    "Channel",
    "ChannelProfile",
    "Digest",
    "Fallback",
    "Fit",
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
Fallback: TypeAlias = Literal["without-gpu", "never"]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_T = TypeVar("_T", bound=_Document)


class TreeReference(_Document):
    """Reference to a stored folder: digest of its tree document, size in bytes, number of files."""

    digest: Digest
    size: int = Field(ge=0)
    files: int = Field(ge=0)


class Fit(_Document):
    """Requirements of a device, checked before any download. Sizes in MiB."""

    platform: Literal["linux/amd64", "linux/arm64"]
    match: MatchSection
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
    """Power settings of the device, and the temperatures at which it reduces load."""

    power: PowerSection
    thermal: ThermalSection


class SmokeSummary(_Document):
    """Results of the smoke benchmark at the lowest concurrency, and the machine it ran on."""

    concurrency: int
    ttft_ms_p50: float
    inter_token_ms_p50: float
    output_tokens_per_s: float
    error_rate: float
    peak_rss_mib: float
    machine: str


class ChainLink(_Document):
    """One step of the build chain of this bundle."""

    step: str
    key: Digest
    outputs: dict[str, Digest]


class Manifest(_Document):
    """One profile of one bundle version."""

    schema_version: Literal[1] = 1
    name: str
    version: str
    profile: str
    created: str = Field(description="RFC 3339, UTC; of the first publication")
    tree: TreeReference = Field(description="the model repository, unpacked into a slot")
    proofs: TreeReference = Field(description="SBOM, provenance, model signature, smoke result")
    fit: Fit
    serving: ServingSettings
    operating: Operating | None = Field(
        default=None, description="null: published by a version of Forge without it"
    )
    smoke: SmokeSummary
    chain: tuple[ChainLink, ...]

    def identity(self) -> str:
        """Return the digest of the release: everything but proofs, times and measurements."""
        kept = {"name", "version", "profile", "tree", "fit", "serving"}
        if self.operating is not None:  # older manifests keep their identity
            kept.add("operating")
        return canonical.digest(self.model_dump(mode="json", include=kept))

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return canonical.dumps(self.model_dump(mode="json"))


class ChannelProfile(_Document):
    """Platform and match rules of a profile, by which a device selects its manifest."""

    platform: Literal["linux/amd64", "linux/arm64"]
    match: MatchSection


class Channel(_Document):
    """A named pointer to a bundle version."""

    schema_version: Literal[1] = 1
    name: str
    channel: str
    version: str
    profiles: dict[str, ChannelProfile]
    fallback: Fallback = Field(
        default="without-gpu",
        description="where `development` is installed unasked: on machines of its platform on which"
        " no GPU is, or nowhere; it never replaces what serves",
    )

    def encode(self) -> bytes:
        """Return the canonical bytes; the default is left out, which older devices do not know."""
        default = type(self).model_fields["fallback"].default
        left_out = {"fallback"} if self.fallback == default else None
        return canonical.dumps(self.model_dump(mode="json", exclude=left_out))


def manifest_path(name: str, version: str, profile: str) -> str:
    """Return the TUF target path of a manifest."""
    return f"bundles/{name}/{version}/{profile}.json"


def channel_path(name: str, channel: str) -> str:
    """Return the TUF target path of a channel."""
    return f"channels/{name}/{channel}.json"


def check_name(value: str, what: str) -> str:
    """Return a bundle or channel name, or raise UsageError."""
    if not _NAME.fullmatch(value):
        message = f"{what} {value!r} is not a valid name"
        raise UsageError(message, hint="use a-z, 0-9 and '-', at most 63 characters")
    return value


def check_version(value: str) -> str:
    """Return a version like 1.4.0 or 1.4.0-rc.1, or raise UsageError."""
    if not _VERSION.fullmatch(value):
        message = f"{value!r} is not a valid version"
        raise UsageError(message, hint="use MAJOR.MINOR.PATCH, for example 1.4.0 or 1.4.0-rc.1")
    return value


def version_order(value: str) -> tuple[int, int, int, int, tuple[tuple[int, int, str], ...]]:
    """Return the sort key of a version, by Semantic Versioning 2.0.0 precedence (§11)."""
    numbers, _, suffix = check_version(value).partition("-")
    major, minor, patch = (int(part) for part in numbers.split("."))
    parts = tuple(
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in suffix.split(".")
        if suffix
    )
    return major, minor, patch, 0 if suffix else 1, parts


def parse_manifest(data: bytes) -> Manifest:
    """Parse a manifest. Raises TrustError."""
    return _parse(Manifest, data, "bundle manifest")


def parse_channel(data: bytes) -> Channel:
    """Parse a channel and check that its names are safe in paths. Raises TrustError."""
    found = _parse(Channel, data, "channel")
    try:
        check_version(found.version)
        for profile in found.profiles:
            check_name(profile, "Profile")
    except UsageError as error:
        hint = "do not use this bundle; contact its publisher"
        raise TrustError("The channel is not valid", why=error.what, hint=hint) from None
    return found


class _ChannelEntry(BaseModel):
    """What is signed about a channel in addition to its document, which earlier versions read."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    manifests: dict[str, Digest] | None = None


def parse_manifest_digests(custom: object, path: str) -> dict[str, Digest] | None:
    """Return the SHA-256 of each profile's manifest, as signed with a channel.

    Args:
        custom: the field `custom` of the channel's entry in TUF's metadata.
        path: of the channel.

    Returns:
        The digests by profile; None for a channel of a version of Forge that named none.

    Raises:
        TrustError: they are not digests.
    """
    try:
        return _ChannelEntry.model_validate(custom or {}).manifests
    except ValidationError as error:
        why = str(error.errors()[0]["msg"])
        hint = "the publisher must promote a version again"
        raise TrustError(
            f"{path} is signed with digests that are not valid", why=why, hint=hint
        ) from None


def _parse(model: type[_T], data: bytes, what: str) -> _T:
    if len(data) > MAX_DOCUMENT_BYTES:
        raise TrustError(f"The {what} is larger than {MAX_DOCUMENT_BYTES} bytes")
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        hint = "it is damaged or from a newer version of Forge: update Forge on this machine"
        raise TrustError(
            f"The {what} is not valid", why=validation_text(error), hint=hint
        ) from None
