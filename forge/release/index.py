"""The published metadata as plain values, unverified: fast, for the publisher's own questions.

No tuf, no cryptography, no pydantic: a release with nothing to do must cost a few reads. What a
client believes goes through `forge.trust`, and what is signed on top of through `state`.
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
    from forge.store.objects import Objects

__all__ = [
    "Entry",
    "Index",
    "already_published",
    "check_timestamp",
    "later_roots",
    "read_index",
    "request_digest",
]

_REQUEST_FORMAT: Final = 1
_MAX_ROOTS: Final = 256  # python-tuf's max_root_rotations


@dataclass(frozen=True, slots=True)
class Entry:
    """One target: bytes, digest and the custom fields signed with it."""

    length: int
    sha256: str
    custom: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Index:
    """Every target and when each role's metadata expires; empty for a new store."""

    bundles: Mapping[str, Entry] = field(default_factory=dict)
    channels: Mapping[str, Entry] = field(default_factory=dict)
    expires: Mapping[str, datetime] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)

    def published(self, name: str, version: str) -> dict[str, Entry]:
        """Target of each profile of one bundle version, by profile."""
        prefix = f"bundles/{name}/{version}/"
        return {
            path.removeprefix(prefix).removesuffix(".json"): entry
            for path, entry in self.bundles.items()
            if path.startswith(prefix)
        }

    def channel(self, name: str, channel: str) -> str | None:
        """The version a channel points to, None if there is no such channel."""
        entry = self.channels.get(f"channels/{name}/{channel}.json")
        return None if entry is None else str(entry.custom.get("version", ""))


def check_timestamp(objects: Objects) -> None:
    """Raise TrustError if there is release metadata and no timestamp.

    `read_index` takes that for a new store, because a first publisher that was killed leaves the
    same. Who deletes or tells people what there is must not.
    """
    if objects.size(layout.TIMESTAMP_NAME) is not None:
        return
    if next(iter(objects.entries(layout.METADATA_PREFIX)), None) is not None:
        raise TrustError(
            f"{objects.url} has release metadata and no timestamp",
            why=f"{layout.TIMESTAMP_NAME} is missing: what is published cannot be known",
            hint="restore it from a copy of the store; if the very first publication was broken "
            "off, run that again",
        )


def later_roots(objects: Objects, version: int) -> Iterator[tuple[int, bytes]]:
    """Roots in the store from `version` on, as bytes; as many as a client would follow.

    Raises TrustError for more.
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
        hint="take the newest keys folder; if that is it, restore tuf/ from a copy of the store",
    )


def read_index(objects: Objects) -> Index:
    """Read timestamp, snapshot and the delegated roles. Raises TrustError, StoreError."""
    try:
        limit = layout.max_metadata_bytes("timestamp")
        data = objects.read(layout.TIMESTAMP_NAME, max_bytes=limit).data
    except NotInStoreError:
        return Index()
    try:
        signed = {"timestamp": json.loads(data)["signed"]}
        meta = signed["timestamp"]["meta"]["snapshot.json"]
        signed["snapshot"] = _read(objects, "snapshot", meta)
        metas = signed["snapshot"]["meta"]
        for role in ("targets", layout.BUNDLES, layout.CHANNELS):
            signed[role] = _read(objects, role, metas[f"{role}.json"])
        return Index(
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
    """Names all that a manifest's identity is made from, without making the manifest."""
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
    index: Index,
    request: Mapping[str, Any],
    digests: Mapping[str, str],
    keys: Path,
    now: datetime,
) -> bool:
    """Whether publishing `request` would change nothing, and nothing must be signed anew.

    Args:
        index: what is published.
        request: the publish step's settings.
        digests: tree digest by input name.
        keys: folder of keys, for the life of each role's signatures.
        now: to judge the signatures' age by.
    """
    try:
        name, version = str(request["name"]), str(request["version"])
        published = index.published(name, version)
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
        return False  # the thorough path says what is wrong
    fresh = all(index.expires[role] - now > life / 2 for role, life in lives.items())
    return points_there and fresh


def _read(objects: Objects, role: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    name = layout.metadata_name(role, int(meta["version"]))
    data = objects.read(name, max_bytes=layout.max_metadata_bytes(role)).data
    if canonical.sha256(data) != meta["hashes"]["sha256"]:
        raise TrustError(
            f"{name} in {objects.url} is not what the snapshot says",
            hint="restore it from a copy of the store",
        )
    signed = json.loads(data)["signed"]
    if not isinstance(signed, dict):
        raise TypeError("'signed' is no mapping")
    return signed


def _entries(signed: Mapping[str, Any]) -> dict[str, Entry]:
    return {
        path: Entry(int(one["length"]), str(one["hashes"]["sha256"]), one.get("custom", {}))
        for path, one in signed["targets"].items()
    }


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
