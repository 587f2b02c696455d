"""Read the published metadata without verifying it, for the publisher's own queries.

Without tuf, cryptography and pydantic, a release with nothing to do costs a few reads. A client
uses `forge.trust`, and a publisher that signs new metadata uses `state`; both verify signatures.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from forge import canonical
from forge.canonical import Json
from forge.errors import NotInStoreError, TrustError
from forge.trust import layout

if TYPE_CHECKING:
    from forge.store.backends.protocol import Objects

__all__ = [
    "PublishedEntry",
    "UnverifiedIndex",
    "already_published",
    "check_timestamp",
    "has_root",
    "later_roots",
    "read_index",
    "request_digest",
]

_REQUEST_FORMAT: Final = 1
_MAX_ROOTS: Final = 256  # max_root_rotations of python-tuf


@dataclass(frozen=True, slots=True)
class PublishedEntry:
    """One target: length in bytes, digest, and the custom fields signed with it."""

    length: int
    sha256: str
    custom: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class UnverifiedIndex:
    """Every target, and expiry and version of each role's metadata; empty for a new store."""

    bundles: Mapping[str, PublishedEntry] = field(default_factory=dict)
    channels: Mapping[str, PublishedEntry] = field(default_factory=dict)
    expires: Mapping[str, datetime] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)

    def published(self, name: str, version: str) -> dict[str, PublishedEntry]:
        """Return the targets of one bundle version, by profile."""
        prefix = f"bundles/{name}/{version}/"
        return {
            path.removeprefix(prefix).removesuffix(".json"): entry
            for path, entry in self.bundles.items()
            if path.startswith(prefix)
        }

    def channel(self, name: str, channel: str) -> str | None:
        """Return the version that a channel points to; None if the channel does not exist."""
        entry = self.channels.get(f"channels/{name}/{channel}.json")
        return None if entry is None else str(entry.custom.get("version", ""))


def check_timestamp(objects: Objects) -> None:
    """Raise TrustError if there is release metadata and no timestamp.

    `read_index` treats that as a new store, because the first publisher leaves the same if it is
    killed. Garbage collection and audit must not: they would take every tree for garbage.
    """
    if objects.size(layout.TIMESTAMP_NAME) is not None:
        return
    if next(iter(objects.entries(layout.METADATA_PREFIX)), None) is not None:
        raise TrustError(
            f"{objects.url} has release metadata and no timestamp",
            why=f"{layout.TIMESTAMP_NAME} is missing, so the published versions are unknown",
            hint="restore it from a copy of the store; if the very first publication was "
            "interrupted, run it again",
        )


def has_root(objects: Objects) -> bool:
    """Return whether a store is signed already: devices trust its first root. Raises StoreError."""
    return objects.size(layout.metadata_name("root", 1)) is not None


def later_roots(objects: Objects, version: int) -> Iterator[tuple[int, bytes]]:
    """Yield version and bytes of the roots in the store, from `version` on.

    Raises:
        TrustError: there are more than a client follows.
        StoreError: the store cannot be reached.
    """
    for number in range(version, version + _MAX_ROOTS + 1):
        try:
            limit = layout.max_metadata_bytes("root")
            data = objects.read(layout.metadata_name("root", number), max_bytes=limit).data
        except NotInStoreError:
            return
        if number < version + _MAX_ROOTS:
            yield number, data
    raise TrustError(
        f"{objects.url} has more than {_MAX_ROOTS} roots after root {version - 1}",
        why="no client follows so many at once",
        hint="use the newest keys folder; if this is the newest, restore tuf/ from a copy of the "
        "store",
    )


def read_index(objects: Objects) -> UnverifiedIndex:
    """Read timestamp, snapshot, targets and the delegated roles.

    Raises:
        TrustError: the metadata is not valid, or does not have the digest that the snapshot lists.
        StoreError: the store cannot be reached.
    """
    try:
        limit = layout.max_metadata_bytes("timestamp")
        data = objects.read(layout.TIMESTAMP_NAME, max_bytes=limit).data
    except NotInStoreError:
        return UnverifiedIndex()
    try:
        signed = {"timestamp": json.loads(data)["signed"]}
        meta = signed["timestamp"]["meta"]["snapshot.json"]
        signed["snapshot"] = _read(objects, "snapshot", meta)
        metas = signed["snapshot"]["meta"]
        for role in ("targets", layout.BUNDLES, layout.CHANNELS):
            signed[role] = _read(objects, role, metas[f"{role}.json"])
        return UnverifiedIndex(
            bundles=_entries(signed[layout.BUNDLES]),
            channels=_entries(signed[layout.CHANNELS]),
            expires={role: _time(one["expires"]) for role, one in signed.items()},
            versions={role: int(one["version"]) for role, one in signed.items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TrustError(
            f"The release metadata in {objects.url} is not valid",
            why=f"{type(error).__name__}: {error}",
            hint="restore tuf/ of the store from a copy",
        ) from None


def request_digest(
    name: str, version: str, part: Mapping[str, Any], digests: Mapping[str, str]
) -> str:
    """Return a digest of all inputs of a manifest's identity, without building the manifest."""
    repository = digests.get(part["inputs"]["repository"])
    value: dict[str, Json] = {
        "format": _REQUEST_FORMAT,
        "name": name,
        "version": version,
        "profile": part["profile"],
        "repository": repository,
    }
    return canonical.digest(value)


def already_published(
    index: UnverifiedIndex,
    request: Mapping[str, Any],
    digests: Mapping[str, str],
    keys: Path,
    now: datetime,
) -> bool:
    """Return whether publishing `request` would change nothing and no signature is due.

    Args:
        index: what is published.
        request: the publish step's settings.
        digests: tree digest by input name.
        keys: the keys folder, for the validity of each role's signatures.
        now: time to compare the expiry with.
    """
    try:
        name, version = str(request["name"]), str(request["version"])
        published = index.published(name, version)
        if not request["parts"]:
            return False
        for part in request["parts"]:
            entry = published.get(part["profile"]["name"])
            if entry is None:
                return False
            if entry.custom.get("request") != request_digest(name, version, part, digests):
                return False
        points_there = index.channel(name, str(request["channel"])) == version
        days = json.loads((keys / "keys.json").read_bytes())["expiry_days"]
        lives = {role: timedelta(days=days[role]) for role in index.expires}
    except (OSError, ValueError, KeyError, TypeError):
        return False  # the full path reports what is wrong
    fresh = all(index.expires[role] - now > life / 2 for role, life in lives.items())
    return points_there and fresh


def _read(objects: Objects, role: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    name = layout.metadata_name(role, int(meta["version"]))
    data = objects.read(name, max_bytes=layout.max_metadata_bytes(role)).data
    if canonical.sha256(data) != meta["hashes"]["sha256"]:
        raise TrustError(
            f"{name} in {objects.url} does not match the snapshot",
            hint="restore it from a copy of the store",
        )
    signed = json.loads(data)["signed"]
    if not isinstance(signed, dict):
        raise TypeError("'signed' is not a mapping")
    return signed


def _entries(signed: Mapping[str, Any]) -> dict[str, PublishedEntry]:
    return {
        path: PublishedEntry(
            int(one["length"]), str(one["hashes"]["sha256"]), one.get("custom", {})
        )
        for path, one in signed["targets"].items()
    }


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
