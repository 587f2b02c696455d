"""What is published, for the publisher: bundles, versions, profiles, channels, baselines.

Read plainly from the store and not verified; a device uses `forge.trust.client` instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Protocol

from forge.bundle import (
    MAX_DOCUMENT_BYTES,
    Manifest,
    SmokeSummary,
    parse_manifest,
    version_order,
)
from forge.canonical import sha256
from forge.errors import CorruptedError, NotInStoreError
from forge.release.index import Entry, Index, check_timestamp, read_index
from forge.store.objects import Objects
from forge.trust import layout

__all__ = ["Catalog", "HasObjects", "live_actions", "live_trees"]


class HasObjects(Protocol):
    """A store, as far as the catalog looks at it."""

    @property
    def objects(self) -> Objects:
        """The store's bytes."""


class Catalog:
    """Everything published in one store, read once, at the first question.

    Every method raises TrustError or StoreError when the metadata cannot be read.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    @cached_property
    def index(self) -> Index:
        """The metadata behind all answers."""
        return read_index(self._objects)

    def names(self) -> list[str]:
        """Names of all bundles, sorted."""
        return sorted({path.split("/")[1] for path in self.index.bundles})

    def versions(self, name: str) -> list[str]:
        """Versions of a bundle, newest first."""
        found = {path.split("/")[2] for path in self.index.bundles if path.split("/")[1] == name}
        return sorted(found, key=version_order, reverse=True)

    def profiles(self, name: str, version: str) -> list[str]:
        """Profiles of one version, sorted."""
        return sorted(self.index.published(name, version))

    def channels(self, name: str) -> dict[str, str]:
        """Version by channel of one bundle."""
        prefix = f"channels/{name}/"
        return {
            path.removeprefix(prefix).removesuffix(".json"): str(entry.custom.get("version", ""))
            for path, entry in sorted(self.index.channels.items())
            if path.startswith(prefix)
        }

    def manifest(self, name: str, version: str, profile: str) -> Manifest:
        """One manifest. Raises NotInStoreError, CorruptedError, TrustError."""
        entry = self.index.published(name, version).get(profile)
        if entry is None:
            raise NotInStoreError(
                f"{name} {version} for {profile} is not published in {self._objects.url}",
                hint="forge bundle list shows what is",
            )
        return read_manifest(self._objects, f"bundles/{name}/{version}/{profile}.json", entry)

    def baseline(self, name: str, profile: str, before_version: str) -> SmokeSummary | None:
        """What the newest lower version of a bundle measured on this profile; None if none is."""
        limit = version_order(before_version)
        for version in self.versions(name):
            if version_order(version) < limit and profile in self.profiles(name, version):
                return self.manifest(name, version, profile).smoke
        return None


def live_trees(store: HasObjects, keep: int) -> Iterator[str]:
    """Tree digests that garbage collection must not touch.

    Nothing is read before the first is asked for: the collector does so when it has made sure
    that nobody publishes.

    Args:
        store: the store.
        keep: how many of the newest versions of each bundle stay, beside those on a channel.

    Raises:
        TrustError: the metadata cannot be read, or has lost its timestamp: nothing would be live.
    """
    for manifest in _live(store, keep):
        yield manifest.tree.digest
        yield manifest.proofs.digest


def live_actions(store: HasObjects, keep: int) -> Iterator[str]:
    """Keys of the results that the same versions were made from, so that a release can be repeated.

    Arguments and errors as `live_trees`.
    """
    for manifest in _live(store, keep):
        yield from (link.key for link in manifest.chain)


def _live(store: HasObjects, keep: int) -> Iterator[Manifest]:
    check_timestamp(store.objects)
    catalog = Catalog(store.objects)
    for name in catalog.names():
        kept = {*catalog.versions(name)[:keep], *catalog.channels(name).values()}
        for version in sorted(kept):
            for profile in catalog.profiles(name, version):
                yield catalog.manifest(name, version, profile)


def read_manifest(objects: Objects, path: str, entry: Entry) -> Manifest:
    """The manifest a target entry describes. Raises CorruptedError, TrustError, StoreError."""
    name = layout.target_name(path, entry.sha256)
    data = objects.read(name, max_bytes=MAX_DOCUMENT_BYTES).data
    if sha256(data) != entry.sha256:
        hint = "restore it from a copy of the store"
        raise CorruptedError(f"{name} in {objects.url} is damaged", hint=hint)
    return parse_manifest(data)
