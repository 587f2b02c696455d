"""Read and verify the state of the TUF repository in a store.

A publisher signs new metadata on top of what it reads, so it first verifies all of it, starting
from the root in its keys folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from forge.errors import NotInStoreError, TrustError
from forge.release.repository.metadata import holds, verify
from forge.release.repository.root_chain import read_roots
from forge.store.backends.protocol import Objects
from forge.trust import layout
from forge.trust.tuf_errors import tuf_errors

if TYPE_CHECKING:
    from forge.release.keys.keyring import Keyring

__all__ = ["DELEGATED", "Delegated", "RepositoryState", "load_state"]

Delegated = Literal["bundles", "channels"]
DELEGATED: Final[tuple[Delegated, ...]] = ("bundles", "channels")


@dataclass(frozen=True)
class RepositoryState:
    """Verified contents of the store, and metadata that only the keys folder has.

    Attributes:
        root: the newest root of folder and store; new signatures must be valid under it.
        new_roots: signed roots that the store lacks, in ascending order.
        later_roots: roots in the store that the folder lacks, in ascending order.
        targets: the newest targets metadata.
        new_targets: its bytes if it is not published yet.
        roles: metadata of the delegated roles; empty and unsigned in a new store.
        stale: delegated roles whose signature is no longer valid under `targets`.
        snapshot: None in a new store.
        timestamp: None in a new store.
        etag: ETag of the timestamp, for the conditional write; None in a new store.
    """

    root: Root
    new_roots: dict[int, bytes]
    later_roots: dict[int, bytes]
    targets: Metadata[Targets]
    new_targets: bytes | None
    roles: dict[Delegated, Metadata[Targets]]
    stale: frozenset[Delegated]
    snapshot: Metadata[Snapshot] | None
    timestamp: Metadata[Timestamp] | None
    etag: str | None


def load_state(objects: Objects, keyring: Keyring) -> RepositoryState:
    """Read and verify the whole repository.

    Raises:
        TrustError: metadata is missing, damaged, or not signed by the trusted keys.
        StoreError: the store cannot be reached.
        UsageError: a file of the keys folder cannot be read.
    """
    with tuf_errors(objects.url):
        roots, missing, later = read_roots(objects, keyring)
        root = roots[-1]
        held = [one for one in roots if one.version not in missing]
        try:
            stored = objects.read(
                layout.TIMESTAMP_NAME, max_bytes=layout.max_metadata_bytes("timestamp")
            )
        except NotInStoreError:
            return _new_state(root, missing, keyring)
        if not held:
            raise TrustError(
                f"{objects.url} has release metadata but no root",
                hint="restore tuf/metadata/*.root.json, or start with an empty store",
            )
        timestamp = Metadata[Timestamp].from_bytes(stored.data)
        verify(held[-1], "timestamp", timestamp)
        snapshot_bytes = _read_meta(objects, "snapshot", timestamp.signed.snapshot_meta)
        snapshot = Metadata[Snapshot].from_bytes(snapshot_bytes)
        verify(held[-1], "snapshot", snapshot)
        published = _read_targets(objects, "targets", snapshot.signed)
        verify(held[-1], "targets", published)
        roles: dict[Delegated, Metadata[Targets]] = {}
        for role in DELEGATED:
            roles[role] = _read_targets(objects, role, snapshot.signed)
            verify(published.signed, role, roles[role])
        targets, new_targets = _newest_targets(root, published, keyring)
        stale = frozenset(
            role for role in DELEGATED if not holds(targets.signed, role, roles[role])
        )
        return RepositoryState(
            root=root,
            new_roots=missing,
            later_roots=later,
            targets=targets,
            new_targets=new_targets,
            roles=roles,
            stale=stale,
            snapshot=snapshot,
            timestamp=timestamp,
            etag=stored.etag,
        )


def _new_state(root: Root, missing: dict[int, bytes], keyring: Keyring) -> RepositoryState:
    documents = keyring.documents("targets")
    if not documents:
        raise TrustError(
            f"{keyring.folder} has no targets metadata", hint="restore metadata/*.targets.json"
        )
    data = documents[max(documents)]
    targets = Metadata[Targets].from_bytes(data)
    verify(root, "targets", targets)
    roles: dict[Delegated, Metadata[Targets]] = {
        role: Metadata(Targets(expires=targets.signed.expires)) for role in DELEGATED
    }
    return RepositoryState(
        root=root,
        new_roots=missing,
        later_roots={},
        targets=targets,
        new_targets=data,
        roles=roles,
        stale=frozenset(DELEGATED),
        snapshot=None,
        timestamp=None,
        etag=None,
    )


def _newest_targets(
    root: Root, published: Metadata[Targets], keyring: Keyring
) -> tuple[Metadata[Targets], bytes | None]:
    documents = keyring.documents("targets")
    newest = max(documents, default=0)
    if newest <= published.signed.version:
        return published, None
    targets = Metadata[Targets].from_bytes(documents[newest])
    verify(root, "targets", targets)
    return targets, documents[newest]


def _read_targets(objects: Objects, role: str, snapshot: Snapshot) -> Metadata[Targets]:
    meta = snapshot.meta.get(f"{role}.json")
    if meta is None:
        raise TrustError(f"The snapshot in {objects.url} does not list {role}")
    metadata = Metadata[Targets].from_bytes(_read_meta(objects, role, meta))
    if metadata.signed.version != meta.version:
        raise TrustError(f"The {role} metadata in {objects.url} has the wrong version")
    return metadata


def _read_meta(objects: Objects, role: str, meta: MetaFile) -> bytes:
    name = layout.metadata_name(role, meta.version)
    data = objects.read(name, max_bytes=meta.length or layout.max_metadata_bytes(role)).data
    meta.verify_length_and_hashes(data)
    return data
