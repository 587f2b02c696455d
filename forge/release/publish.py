"""Publish a bundle version and move a channel: one signed metadata update, all or nothing."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol

from forge import canonical
from forge.bundle import (
    Channel,
    ChannelProfile,
    Manifest,
    channel_path,
    check_name,
    check_version,
    manifest_path,
    version_order,
)
from forge.canonical import Json
from forge.errors import ConflictError, NotInStoreError, UsageError
from forge.release.catalog import read_manifest
from forge.release.check import check_proofs
from forge.release.index import Entry
from forge.store import leases
from forge.store.objects import Objects
from forge.trust.proof_keys import ProofKeys

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile

    from forge.release.edit import Edit
    from forge.release.keyring import Keyring
    from forge.release.manifests import Planned

__all__ = [
    "Outcome",
    "ProofCheck",
    "Published",
    "ReleaseStore",
    "VersionTakenError",
    "promote",
    "publish",
]

_log = logging.getLogger(__name__)
_LEASE_TTL_S: Final = 60.0
_LEASE_WAIT_S: Final = 15.0


class VersionTakenError(ConflictError):
    """This version was published before, with other content."""


class ReleaseStore(Protocol):
    """A store, as far as publishing looks at it."""

    @property
    def objects(self) -> Objects:
        """The store's bytes."""

    def lease(
        self, name: str, *, owner: str, ttl_s: float, wait_s: float
    ) -> AbstractContextManager[object]:
        """Hold a lease for the body."""

    def writing(self, owner: str) -> AbstractContextManager[object]:
        """Keep garbage collection away for the body."""

    def has_tree(self, digest: str) -> bool:
        """Whether a tree is here."""

    def read_file(self, digest: str, path: str, *, max_bytes: int) -> bytes:
        """One small file of a tree."""


ProofCheck = Callable[[ReleaseStore, Manifest, ProofKeys], None]


@dataclass(frozen=True)
class Outcome:
    """What became of one profile: `published`, or `unchanged` when it was there already."""

    profile: str
    tree: str
    outcome: str


@dataclass(frozen=True)
class Published:
    """What publishing did.

    Attributes:
        name: of the bundle.
        version: of the bundle.
        channel: that was to be moved.
        points_to: the version the channel points to now; newer than `version` if it was.
        parts: one for each profile.
        written: whether anything was signed.
    """

    name: str
    version: str
    channel: str
    points_to: str
    parts: tuple[Outcome, ...]
    written: bool

    def as_json(self) -> dict[str, Json]:
        """For `--json`."""
        parts: list[Json] = [
            {"profile": part.profile, "tree": part.tree, "outcome": part.outcome}
            for part in self.parts
        ]
        return {
            "name": self.name,
            "version": self.version,
            "channel": self.channel,
            "points_to": self.points_to,
            "parts": parts,
            "written": self.written,
        }


def publish(
    store: ReleaseStore,
    ring: Keyring,
    planned: Sequence[Planned],
    channel: str,
    *,
    now: datetime,
    check: ProofCheck = check_proofs,
) -> Published:
    """Add manifests of one version and point `channel` to it, unless that points to a newer one.

    Safe to repeat: what is there already stays as it was first published. A profile may be added
    to a version later; one that is there is never changed.

    Args:
        store: where.
        ring: keys of bundles, channels and online.
        planned: manifests of one name and version.
        channel: the channel to move.
        now: time of the signatures.
        check: refuses a new manifest whose proofs devices would not believe.

    Raises:
        VersionTakenError: a profile of this version was published with other content.
        NotInStoreError: a tree of a manifest is not in the store.
        ConflictError: other publishers were faster each time; run it again.
        TrustError: bad metadata, or devices would not believe the proofs.
        StoreError, UsageError: no store, no key.
    """
    from forge.release import repository

    first = planned[0].manifest
    parts: list[Outcome] = []

    def change(edit: Edit) -> None:
        parts.clear()
        for one in planned:
            outcome = _add(store.objects, edit, one)
            if outcome.outcome == "published":
                check(store, one.manifest, edit.proof_keys())
            parts.append(outcome)
        current = _points_to(edit, first.name, channel)
        if current is None or version_order(current) <= version_order(first.version):
            _point(store.objects, edit, first.name, channel, first.version)
        points_to.append(_points_to(edit, first.name, channel) or first.version)

    points_to: list[str] = []
    with _publishing(store, first.name):
        for one in planned:
            _check_tree(store, one.manifest)
        written = repository.update(store.objects, ring, change, now=now)
    return Published(first.name, first.version, channel, points_to[-1], tuple(parts), written)


def promote(
    store: ReleaseStore,
    ring: Keyring,
    name: str,
    version: str,
    channel: str,
    *,
    now: datetime,
    force: bool = False,
) -> str | None:
    """Point a channel to a published version; returns the version it pointed to before.

    Args:
        store: where.
        ring: keys of channels and online.
        name: of the bundle.
        version: that is published.
        channel: made if there is none.
        now: time of the signatures.
        force: allow going back to a lower version.

    Raises:
        UsageError: no such version, or it is lower than the channel's and `force` is not given.
        NotInStoreError: its trees were collected as garbage.
        ConflictError, TrustError, StoreError: as `publish`.
    """
    from forge.release import repository

    check_name(name, "Bundle")
    check_version(version)
    check_name(channel, "Channel")
    before: list[str | None] = []

    def change(edit: Edit) -> None:
        _check_published(edit, name, version)
        current = _points_to(edit, name, channel)
        before.append(current)
        lower = current is not None and version_order(version) < version_order(current)
        if lower and not force:
            raise UsageError(
                f"Channel {channel} of {name} points to {current}, {version} is lower",
                why="devices would go back",
                hint=f"forge promote {version} {channel} --name {name} --force",
            )
        _point(store.objects, edit, name, channel, version)
        for manifest in _manifests(store.objects, edit, name, version):
            _check_tree(store, manifest)

    with _publishing(store, name):
        repository.update(store.objects, ring, change, now=now)
    return before[-1]


def _add(objects: Objects, edit: Edit, planned: Planned) -> Outcome:
    manifest = planned.manifest
    path = manifest_path(manifest.name, manifest.version, manifest.profile)
    known = edit.targets["bundles"].get(path)
    if known is None:
        custom: dict[str, Json] = {"identity": manifest.identity(), "request": planned.request}
        edit.put("bundles", path, manifest.encode(), custom)
        return Outcome(manifest.profile, manifest.tree.digest, "published")
    if known.custom.get("identity") != manifest.identity():
        raise _taken(manifest, read_manifest(objects, path, _entry(known)))
    return Outcome(manifest.profile, manifest.tree.digest, "unchanged")


def _point(objects: Objects, edit: Edit, name: str, channel: str, version: str) -> None:
    profiles = {
        manifest.profile: ChannelProfile(platform=manifest.fit.platform, match=manifest.fit.match)
        for manifest in _manifests(objects, edit, name, version)
    }
    document = Channel(name=name, channel=channel, version=version, profiles=profiles)
    path = channel_path(name, channel)
    known = edit.targets["channels"].get(path)
    data = document.encode()
    if known is None or known.hashes.get("sha256") != canonical.sha256(data):
        edit.put("channels", path, data, {"version": version})


def _manifests(objects: Objects, edit: Edit, name: str, version: str) -> Iterator[Manifest]:
    for path, target in edit.targets["bundles"].items():
        if path.split("/")[1:3] == [name, version]:
            yield _manifest(objects, edit, path, target)


def _check_tree(store: ReleaseStore, manifest: Manifest) -> None:
    for tree in (manifest.tree, manifest.proofs):
        if not store.has_tree(tree.digest):
            raise NotInStoreError(
                f"{manifest.name} {manifest.version} for {manifest.profile} is not all there",
                why=f"tree {tree.digest[:12]} is not in {store.objects.url}",
                hint="run the pipeline again: what is missing is built again",
            )


def _manifest(objects: Objects, edit: Edit, path: str, target: TargetFile) -> Manifest:
    from forge.bundle import parse_manifest
    from forge.trust import layout

    fresh = edit.files.get(layout.target_name(path, target.hashes["sha256"]))
    return parse_manifest(fresh) if fresh else read_manifest(objects, path, _entry(target))


def _points_to(edit: Edit, name: str, channel: str) -> str | None:
    target = edit.targets["channels"].get(channel_path(name, channel))
    return None if target is None else str(target.custom["version"])


def _check_published(edit: Edit, name: str, version: str) -> None:
    known = [tuple(path.split("/")[1:3]) for path in edit.targets["bundles"]]
    if (name, version) in known:
        return
    versions = sorted({one for its_name, one in known if its_name == name}, key=version_order)
    if versions:
        raise UsageError(
            f"{name} {version} is not published", hint=f"published: {', '.join(versions)}"
        )
    names = ", ".join(sorted({its_name for its_name, _ in known})) or "nothing"
    raise UsageError(f"There is no bundle {name!r}", hint=f"published: {names}")


def _taken(new: Manifest, old: Manifest) -> VersionTakenError:
    fields = ", ".join(_differences(new.model_dump(mode="json"), old.model_dump(mode="json")))
    return VersionTakenError(
        f"{new.name} {new.version} for {new.profile} is published with other content",
        why=f"differs in {fields}",
        hint="a published version never changes: release this as a new version",
    )


def _differences(new: Mapping[str, Json], old: Mapping[str, Json]) -> Iterator[str]:
    for section in ("tree", "fit", "serving", "operating"):
        left, right = new[section], old[section]
        if isinstance(left, dict) and isinstance(right, dict):
            for key in sorted({*left, *right}):
                if left.get(key) != right.get(key):
                    yield f"{section}.{key}"
        elif left != right:
            yield section


def _entry(target: TargetFile) -> Entry:
    return Entry(target.length, target.hashes["sha256"], target.custom or {})


@contextlib.contextmanager
def _publishing(store: ReleaseStore, name: str) -> Iterator[None]:
    """Keep garbage collection away, and wait a little for another publisher.

    The lease is a courtesy; the conditional write is what keeps two publishers apart.
    """
    owner = f"publish {name} on {leases.owner()}"
    with contextlib.ExitStack() as stack:
        stack.enter_context(store.writing(owner))
        try:
            lease = store.lease(
                f"publish-{name}", owner=owner, ttl_s=_LEASE_TTL_S, wait_s=_LEASE_WAIT_S
            )
            stack.enter_context(lease)
        except ConflictError as error:
            _log.info("Publishing beside another publisher: %s", error)
        yield
