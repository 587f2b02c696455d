"""Publish a bundle version and move a channel, in one atomic update of signed metadata."""

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
    Fallback,
    Manifest,
    channel_path,
    check_name,
    check_version,
    manifest_path,
    version_order,
)
from forge.canonical import Json
from forge.errors import ConflictError, NotInStoreError, TrustError, UsageError, not_found
from forge.memory.signed import MEMORY_FIELD, encode_served_memory
from forge.release.attest.verify import check_proofs
from forge.release.catalog import YANKED, is_yanked, read_manifest
from forge.release.repository.unverified_index import PublishedEntry
from forge.store.backends.protocol import Objects
from forge.store.locks import leases
from forge.trust.proof_keys import ProofKeys

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile

    from forge.release.keys.keyring import Keyring
    from forge.release.manifest import PlannedManifest
    from forge.release.repository.edit import Edit

__all__ = [
    "Outcome",
    "ProofCheck",
    "Published",
    "ReleaseStore",
    "VersionTakenError",
    "promote",
    "publish",
    "publishing",
]

_log = logging.getLogger(__name__)
_LEASE_TTL_S: Final = 60.0
_LEASE_WAIT_S: Final = 15.0


class VersionTakenError(ConflictError):
    """The version is already published with other content."""


class ReleaseStore(Protocol):
    """The part of a store that publishing uses."""

    @property
    def objects(self) -> Objects:
        """Return the objects of the store."""

    def lease(
        self, name: str, *, owner: str, ttl_s: float, wait_s: float
    ) -> AbstractContextManager[object]:
        """Return a context that holds a lease."""

    def writing(self, owner: str) -> AbstractContextManager[object]:
        """Return a context in which garbage is not collected."""

    def has_tree(self, digest: str) -> bool:
        """Return whether a tree is in the store."""

    def read_file(self, digest: str, path: str, *, max_bytes: int) -> bytes:
        """Return the bytes of a small file of a tree."""


ProofCheck = Callable[[ReleaseStore, Manifest, ProofKeys], None]


@dataclass(frozen=True)
class Outcome:
    """Outcome for one profile: `published`, or `unchanged` if it was published before."""

    profile: str
    tree: str
    outcome: str


@dataclass(frozen=True)
class Published:
    """Result of publishing.

    Attributes:
        name: name of the bundle.
        version: its version.
        channel: the requested channel.
        points_to: version that the channel points to now; newer than `version` if it was before.
        parts: the outcome for each profile.
        written: whether anything was signed.
    """

    name: str
    version: str
    channel: str
    points_to: str
    parts: tuple[Outcome, ...]
    written: bool

    def as_json(self) -> dict[str, Json]:
        """Return the result as JSON, for `--json`."""
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
    keyring: Keyring,
    planned: Sequence[PlannedManifest],
    channel: str,
    *,
    now: datetime,
    check: ProofCheck = check_proofs,
) -> Published:
    """Publish manifests of one version, and point `channel` to it unless it points to a newer one.

    Publishing is idempotent: a profile that is already published is never changed. A profile may be
    added to a version later.

    Args:
        store: the store.
        keyring: keys of bundles, channels and online.
        planned: manifests of one name and version.
        channel: the channel to move.
        now: time of the signatures.
        check: verifies the proofs of each new manifest.

    Raises:
        VersionTakenError: a profile of this version is published with other content.
        NotInStoreError: a tree of a manifest is not in the store.
        ConflictError: other publishers wrote first at every attempt, or garbage is being collected.
        TrustError: the metadata is not valid, a channel names other contents of this version, or
            devices would refuse the proofs.
        UsageError: a key is missing, or the version was yanked.
        StoreError: the store cannot be reached.
    """
    from forge.release.repository import update

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
    with publishing(store, first.name):
        for one in planned:
            _check_tree(store, one.manifest)
        written = update.update(store.objects, keyring, change, now=now)
    return Published(first.name, first.version, channel, points_to[-1], tuple(parts), written)


def promote(  # noqa: PLR0913 - each is a choice of the publisher
    store: ReleaseStore,
    keyring: Keyring,
    name: str,
    version: str,
    channel: str,
    *,
    now: datetime,
    force: bool = False,
    fallback: Fallback | None = None,
    check: ProofCheck = check_proofs,
) -> str | None:
    """Point a channel to a published version that devices accept.

    Args:
        store: the store.
        keyring: keys of channels and online.
        name: name of the bundle.
        version: a published version.
        channel: the channel; created if it does not exist.
        now: time of the signatures.
        force: allow a version that is lower than the channel's.
        fallback: where devices install `development` unasked; None: as the channel says already.
        check: verifies the proofs of each manifest: its keys may have been revoked.

    Returns:
        The version that the channel pointed to before; None if it did not exist.

    Raises:
        UsageError: the version is not published or was yanked, or it is lower than the channel's
            and `force` is not set.
        NotInStoreError: its trees were deleted as garbage.
        TrustError: devices would refuse it, or a channel names other contents of this version.
        ConflictError, StoreError: as for `publish`.
    """
    from forge.release.repository import update

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
                why="devices would install the lower version",
                hint=f"forge promote {version} {channel} --name {name} --force",
            )
        _point(store.objects, edit, name, channel, version, fallback)
        for manifest in _manifests(store.objects, edit, name, version):
            _check_tree(store, manifest)
            check(store, manifest, edit.proof_keys())

    with publishing(store, name):
        update.update(store.objects, keyring, change, now=now)
    return before[-1]


def _add(objects: Objects, edit: Edit, planned: PlannedManifest) -> Outcome:
    manifest = planned.manifest
    path = manifest_path(manifest.name, manifest.version, manifest.profile)
    known = edit.targets["bundles"].get(path)
    if known is None:
        custom: dict[str, Json] = {"identity": manifest.identity(), "request": planned.request}
        if planned.memory is not None:
            custom[MEMORY_FIELD] = encode_served_memory(planned.memory)
        edit.put("bundles", path, manifest.encode(), custom)
        return Outcome(manifest.profile, manifest.tree.digest, "published")
    published = _manifest(objects, edit, path, known)  # its `custom` may state another identity
    if published.identity() != manifest.identity():
        raise _taken(manifest, published)
    return Outcome(manifest.profile, manifest.tree.digest, "unchanged")


def _point(
    objects: Objects,
    edit: Edit,
    name: str,
    channel: str,
    version: str,
    fallback: Fallback | None = None,
) -> None:
    for path, target in edit.targets["bundles"].items():
        if path.split("/")[1:3] == [name, version] and is_yanked(_entry(target)):
            raise UsageError(
                f"{name} {version} was yanked on {target.custom[YANKED]}",
                why="no channel may point to it again",
                hint="release it as a new version",
            )
    profiles = {
        manifest.profile: ChannelProfile(platform=manifest.fit.platform, match=manifest.fit.match)
        for manifest in _manifests(objects, edit, name, version)
    }
    digests: dict[str, Json] = {
        profile: edit.targets["bundles"][manifest_path(name, version, profile)].hashes["sha256"]
        for profile in sorted(profiles)
    }
    _check_other_channels(edit, name, version, digests)
    path = channel_path(name, channel)
    known = edit.targets["channels"].get(path)
    custom: dict[str, Json] = {"version": version, "manifests": digests}
    document = Channel(name=name, channel=channel, version=version, profiles=profiles)
    kept = fallback or (known.custom or {}).get("fallback") if known else fallback
    if kept == "never":  # the other value is the default, which older devices do not know
        custom["fallback"] = kept
        document = document.model_copy(update={"fallback": kept})
    data = document.encode()
    same = known is not None and known.hashes.get("sha256") == canonical.sha256(data)
    if not same or known is None or known.custom != custom:
        edit.put("channels", path, data, custom)


def _check_other_channels(edit: Edit, name: str, version: str, digests: Mapping[str, Json]) -> None:
    """Raise TrustError if a channel names other contents of this version than the published ones.

    A published manifest never changes, so the key of bundles signed a replacement. A channel that
    an earlier version of Forge wrote names no digests.
    """
    prefix = f"channels/{name}/"
    for path, target in edit.targets["channels"].items():
        custom = target.custom or {}
        named = custom.get("manifests")
        if not path.startswith(prefix) or custom.get("version") != version:
            continue
        for profile, digest in named.items() if isinstance(named, dict) else ():
            found = digests.get(profile)
            if found == digest:
                continue
            channel = path.removeprefix(prefix).removesuffix(".json")
            raise TrustError(
                f"{name} {version} for {profile} is not what channel {channel} names",
                why=f"its manifest has digest {str(found)[:12]}, channel {channel} names "
                f"{str(digest)[:12]}, and a published version never changes",
                hint="the key of bundles may be stolen: forge keys rotate bundles --revoke\n"
                "restore tuf/ of the store from a copy, or release a new version",
            )


def _manifests(objects: Objects, edit: Edit, name: str, version: str) -> Iterator[Manifest]:
    for path, target in edit.targets["bundles"].items():
        if path.split("/")[1:3] == [name, version]:
            yield _manifest(objects, edit, path, target)


def _check_tree(store: ReleaseStore, manifest: Manifest) -> None:
    for tree in (manifest.tree, manifest.proofs):
        if not store.has_tree(tree.digest):
            raise NotInStoreError(
                f"{manifest.name} {manifest.version} for {manifest.profile} is incomplete",
                why=f"tree {tree.digest[:12]} is not in {store.objects.url}",
                hint="run the pipeline again to build the missing tree",
            )


def _manifest(objects: Objects, edit: Edit, path: str, target: TargetFile) -> Manifest:
    from forge.bundle import parse_manifest
    from forge.trust import layout

    fresh = edit.files.get(layout.target_name(path, target.hashes["sha256"]))
    found = parse_manifest(fresh) if fresh else read_manifest(objects, path, _entry(target))
    if manifest_path(found.name, found.version, found.profile) != path:
        raise TrustError(
            f"{path} contains another document",
            why=f"it is the manifest of {found.name} {found.version} for {found.profile}",
            hint="restore tuf/ of the store from a copy, or release a new version",
        )
    return found


def _points_to(edit: Edit, name: str, channel: str) -> str | None:
    target = edit.targets["channels"].get(channel_path(name, channel))
    return None if target is None else str(target.custom["version"])


def _check_published(edit: Edit, name: str, version: str) -> None:
    known = [tuple(path.split("/")[1:3]) for path in edit.targets["bundles"]]
    if (name, version) in known:
        return
    versions = sorted({one for its_name, one in known if its_name == name}, key=version_order)
    if versions:
        raise not_found(f"{name} {version} is not published", version, reversed(versions))
    names = sorted({its_name for its_name, _ in known})
    raise not_found(f"No bundle {name!r} is published", name, names)


def _taken(new: Manifest, old: Manifest) -> VersionTakenError:
    fields = ", ".join(_differences(new.model_dump(mode="json"), old.model_dump(mode="json")))
    return VersionTakenError(
        f"{new.name} {new.version} for {new.profile} is already published with other content",
        why=f"differs in {fields}",
        hint="a published version never changes; release this as a new version",
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


def _entry(target: TargetFile) -> PublishedEntry:
    return PublishedEntry(target.length, target.hashes["sha256"], target.custom or {})


@contextlib.contextmanager
def publishing(store: ReleaseStore, name: str) -> Iterator[None]:
    """Return a context in which garbage is not collected; wait briefly for another publisher.

    The lease only avoids useless attempts; the conditional write of the timestamp is what prevents
    two publishers from overwriting each other.
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
            _log.info("Another publisher is active: %s", error)
        yield
