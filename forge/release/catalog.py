"""List what is published, for the publisher: bundles, versions, profiles, channels, baselines.

The metadata is read from the store without verification, unless the catalog is given an index that
was verified: `forge.release.repository.verified_index`. A device uses `forge.trust.client`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Final, Protocol

from forge.accuracy.receipt import Receipt
from forge.bundle import (
    MAX_DOCUMENT_BYTES,
    Manifest,
    parse_manifest,
    version_order,
)
from forge.canonical import sha256
from forge.checkpoint.verified import VerifiedSignature
from forge.errors import CorruptedError, NotInStoreError, UsageError, not_found
from forge.release.measured import (
    baseline_of,
    read_accuracy,
    read_performance,
    read_signature,
)
from forge.release.repository.unverified_index import (
    PublishedEntry,
    UnverifiedIndex,
    check_timestamp,
    read_index,
)
from forge.smoke.result import Baseline, Result
from forge.store.backends.protocol import Objects
from forge.trust import layout

__all__ = [
    "YANKED",
    "Catalog",
    "HasObjects",
    "is_yanked",
    "live_actions",
    "live_trees",
    "only_name",
]

YANKED: Final = "yanked"  # custom field of a manifest's target: when it was yanked


def is_yanked(entry: PublishedEntry) -> bool:
    """Return whether a version was yanked: no channel may point to it again."""
    return YANKED in entry.custom


class HasObjects(Protocol):
    """The part of a store that the catalog uses."""

    @property
    def objects(self) -> Objects:
        """Return the objects of the store."""


class Catalog:
    """Everything published in one store; the metadata is read once, by the first method called.

    Args:
        objects: the store.
        index: the published metadata, if it was read already.

    Every method raises TrustError or StoreError if the metadata cannot be read.
    """

    def __init__(self, objects: Objects, index: UnverifiedIndex | None = None) -> None:
        self._objects = objects
        self._index = index

    @cached_property
    def index(self) -> UnverifiedIndex:
        """Return the published metadata."""
        return read_index(self._objects) if self._index is None else self._index

    def names(self) -> list[str]:
        """Return the names of all bundles, sorted."""
        return sorted({path.split("/")[1] for path in self.index.bundles})

    def versions(self, name: str) -> list[str]:
        """Return the versions of a bundle, newest first."""
        found = {path.split("/")[2] for path in self.index.bundles if path.split("/")[1] == name}
        return sorted(found, key=version_order, reverse=True)

    def yanked(self, name: str, version: str) -> bool:
        """Return whether a version was yanked."""
        return any(is_yanked(one) for one in self.index.published(name, version).values())

    def profiles(self, name: str, version: str) -> list[str]:
        """Return the profiles of one version, sorted."""
        return sorted(self.index.published(name, version))

    def channels(self, name: str) -> dict[str, str]:
        """Return the version that each channel of a bundle points to."""
        prefix = f"channels/{name}/"
        return {
            path.removeprefix(prefix).removesuffix(".json"): str(entry.custom.get("version", ""))
            for path, entry in sorted(self.index.channels.items())
            if path.startswith(prefix)
        }

    def require(self, name: str, version: str, profile: str | None = None) -> None:
        """Raise NotFoundError if a version, or its part for a profile, is not published."""
        versions = self.versions(name)
        if version not in versions:
            raise not_found(f"{name} {version} is not published", version, versions)
        profiles = self.profiles(name, version)
        if profile is not None and profile not in profiles:
            raise not_found(f"{name} {version} has no profile {profile!r}", profile, profiles)

    def manifest(self, name: str, version: str, profile: str) -> Manifest:
        """Return one manifest.

        Raises:
            NotInStoreError: this version is not published for this profile.
            CorruptedError: the manifest is damaged.
        """
        entry = self.index.published(name, version).get(profile)
        if entry is None:
            raise NotInStoreError(
                f"{name} {version} for {profile} is not published in {self._objects.url}",
                hint="run 'forge bundle list' to see what is published",
            )
        return read_manifest(self._objects, f"bundles/{name}/{version}/{profile}.json", entry)

    def baseline(self, name: str, profile: str, before_version: str) -> Baseline | None:
        """Return what was measured of the newest lower version on this profile; None without one.

        Raises also CorruptedError if that measurement is damaged.
        """
        limit = version_order(before_version)
        for version in self.versions(name):
            if version_order(version) < limit and profile in self.profiles(name, version):
                return baseline_of(self._objects, self.manifest(name, version, profile))
        return None

    def receipt(self, name: str, profile: str, before_version: str) -> Receipt | None:
        """Return the accuracy receipt of the newest lower version on this profile.

        None without one: no lower version, or one that was published without a receipt. Raises also
        CorruptedError if it is damaged.
        """
        limit = version_order(before_version)
        for version in self.versions(name):
            if version_order(version) < limit and profile in self.profiles(name, version):
                return read_accuracy(self._objects, self.manifest(name, version, profile))
        return None

    def performance(self, manifest: Manifest) -> Result | None:
        """Return the result of the smoke benchmark; None: published by a version without it.

        Raises CorruptedError if it is damaged.
        """
        return read_performance(self._objects, manifest)

    def accuracy(self, manifest: Manifest) -> Receipt | None:
        """Return the accuracy receipt; None: published by a version without it.

        Raises CorruptedError if it is damaged.
        """
        return read_accuracy(self._objects, manifest)

    def signature(self, manifest: Manifest) -> VerifiedSignature | None:
        """Return who signed the checkpoint; None: the pipeline named no signer.

        Raises CorruptedError if it is damaged.
        """
        return read_signature(self._objects, manifest)


def only_name(catalog: Catalog, name: str | None) -> str:
    """Return `name`, or the name of the only bundle in the store.

    Raises:
        NotFoundError: no bundle has this name.
        UsageError: no name was given, and the store has none or several.
    """
    names = catalog.names()
    if name and names:
        if name not in names:
            raise not_found(f"No bundle {name!r} is published", name, names)
        return name
    if len(names) != 1:
        if not names:
            raise UsageError(
                "The store has no published bundle", hint="publish one: forge run release"
            )
        found = ", ".join(names)
        raise UsageError(
            f"More than one bundle in the store: {found}", hint="choose one with --name"
        )
    return names[0]


def live_trees(store: HasObjects, keep: int) -> Iterator[str]:
    """Yield the digests of the trees that garbage collection must keep.

    Nothing is read before the first digest is taken: the collector takes it when no publisher is
    active.

    Args:
        store: the store.
        keep: number of the newest versions of each bundle to keep, in addition to those that a
            channel points to; versions that were yanked do not count.

    Raises:
        TrustError: the metadata is not valid, or its timestamp is missing, so that no tree would be
            live.
        StoreError: the store cannot be reached.
    """
    for manifest in _live(store, keep):
        yield manifest.tree.digest
        yield manifest.proofs.digest


def live_actions(store: HasObjects, keep: int) -> Iterator[str]:
    """Yield the keys of the step results that those versions were built from.

    They are kept so that a release can be repeated. Arguments and errors as for `live_trees`.
    """
    for manifest in _live(store, keep):
        yield from (link.key for link in manifest.chain)


def _live(store: HasObjects, keep: int) -> Iterator[Manifest]:
    check_timestamp(store.objects)
    catalog = Catalog(store.objects)
    for name in catalog.names():
        offered = [one for one in catalog.versions(name) if not catalog.yanked(name, one)]
        kept = {*offered[:keep], *catalog.channels(name).values()}
        for version in sorted(kept):
            for profile in catalog.profiles(name, version):
                yield catalog.manifest(name, version, profile)


def read_manifest(objects: Objects, path: str, entry: PublishedEntry) -> Manifest:
    """Return the manifest that a target entry describes.

    Raises:
        CorruptedError: it does not have the digest of the entry.
        TrustError: it is not a valid manifest.
        StoreError: it is missing, or the store cannot be reached.
    """
    name = layout.target_name(path, entry.sha256)
    data = objects.read(name, max_bytes=MAX_DOCUMENT_BYTES).data
    if sha256(data) != entry.sha256:
        hint = "restore it from a copy of the store"
        raise CorruptedError(f"{name} in {objects.url} is damaged", hint=hint)
    return parse_manifest(data)
