"""The TUF repository in a store: read, verified, edited, and written back.

Order of writing: target files, bundles, channels, snapshot, and last, under the ETag that was read,
the timestamp. Until that last write nobody sees anything, so a publisher can be killed anywhere,
and of two at once one starts again from what the other wrote. Numbered files a dead publisher left
are skipped, never overwritten.

A publisher signs on top of what it reads, so it verifies all of it, from its own root, first.
"""

from __future__ import annotations

import copy
import functools
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    T,
    TargetFile,
    Targets,
    Timestamp,
)

from forge.canonical import Json
from forge.errors import ConflictError, ForgeError, NotInStoreError, TrustError
from forge.release.index import later_roots
from forge.store.objects import Objects
from forge.trust import layout
from forge.trust.clock import TOLERANCE, moment
from forge.trust.explain import tuf_errors
from forge.trust.proof_keys import MAX_PROOF_KEYS_BYTES, ProofKeys, parse_proof_keys

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from forge.release.keyring import Keyring

__all__ = ["Edit", "State", "holds", "load", "sign", "update"]

Delegated = Literal["bundles", "channels"]
_DELEGATED: Final[tuple[Delegated, ...]] = ("bundles", "channels")
_ATTEMPTS: Final = 8
_FIRST_PAUSE_S: Final = 0.1
# How many numbered left-overs of dead publishers are stepped over.
_MAX_LEFT_OVERS: Final = 1000
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class State:
    """What the store holds, verified, and what the keys folder has that the store lacks.

    Attributes:
        root: the newest root, of the folder or the store; what is signed now must hold under it.
        new_roots: signed roots the store lacks, ascending.
        later_roots: roots in the store that the folder lacks, ascending.
        targets: the newest targets metadata.
        new_targets: its bytes if the store does not refer to it yet.
        roles: the delegated roles' metadata; empty and unsigned in a new store.
        stale: delegated roles whose signature does not hold under `targets` any more.
        snapshot: None in a new store.
        timestamp: None in a new store.
        etag: of the timestamp, for the conditional write.
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


@dataclass
class Edit:
    """Changes to the delegated roles, on copies.

    Attributes:
        targets: every target of each role.
        proof_keys: reads the proof keys that devices believe once this edit is published.
        files: what the new targets hold, by object name.
    """

    targets: dict[Delegated, dict[str, TargetFile]]
    proof_keys: Callable[[], ProofKeys]
    files: dict[str, bytes] = field(default_factory=dict)

    def put(self, role: Delegated, path: str, data: bytes, custom: dict[str, Json]) -> None:
        """Make `path` a target with these bytes and signed custom fields."""
        target = TargetFile.from_data(path, data, ["sha256"])
        target.unrecognized_fields["custom"] = custom
        self.targets[role][path] = target
        self.files[layout.target_name(path, target.hashes["sha256"])] = data


def update(
    objects: Objects,
    ring: Keyring,
    change: Callable[[Edit], None],
    *,
    now: datetime,
    always: bool = False,
) -> bool:
    """Apply `change` to the newest state and publish it.

    Args:
        objects: the store.
        ring: keys of the roles that change, and of snapshot and timestamp.
        change: called again, on fresh state, when another publisher was faster.
        now: time of the signatures.
        always: sign snapshot and timestamp anew even if nothing else changed.

    Returns:
        Whether anything was written.

    Raises:
        ConflictError: other publishers were faster each time.
        TrustError: what the store holds is not what the trusted keys signed.
        UsageError: a key is missing.
        StoreError: the store is out of reach.
    """
    for attempt in range(_ATTEMPTS):
        state = load(objects, ring)
        edit = Edit(
            {role: dict(state.roles[role].signed.targets) for role in _DELEGATED},
            functools.partial(_proof_keys, objects, ring, state),
        )
        change(edit)
        writer = _Writer(objects, ring, state, edit, now)
        if not always and not writer.due():
            return False
        if attempt == 0 and state.timestamp and (doubt := _doubt(state.timestamp.signed, now)):
            _log.warning(
                "%s Check this machine's clock: a moment far ahead makes devices without a "
                "clock refuse what comes later.", doubt,
            )  # fmt: skip
        try:
            writer.write()
        except ConflictError:
            if attempt + 1 < _ATTEMPTS:
                time.sleep(random.uniform(0, _FIRST_PAUSE_S * 2**attempt))  # noqa: S311  no secret
            continue
        return True
    raise ConflictError(
        f"Other publishers were faster {_ATTEMPTS} times in {objects.url}",
        why="the timestamp changed between reading and writing it",
        hint="nothing was published; run it again",
    )


def load(objects: Objects, ring: Keyring) -> State:
    """Read and verify the whole repository. Raises TrustError, StoreError, UsageError."""
    with tuf_errors(objects.url):
        roots, missing, later = _roots(objects, ring)
        root = roots[-1]
        held = [one for one in roots if one.version not in missing]
        try:
            stored = objects.read(
                layout.TIMESTAMP_NAME, max_bytes=layout.max_metadata_bytes("timestamp")
            )
        except NotInStoreError:
            return _new_state(root, missing, ring)
        if not held:
            raise TrustError(
                f"{objects.url} has release metadata but no root",
                hint="restore tuf/metadata/*.root.json, or start with an empty store",
            )
        timestamp = Metadata[Timestamp].from_bytes(stored.data)
        _verify(held[-1], "timestamp", timestamp)
        snapshot_bytes = _read_meta(objects, "snapshot", timestamp.signed.snapshot_meta)
        snapshot = Metadata[Snapshot].from_bytes(snapshot_bytes)
        _verify(held[-1], "snapshot", snapshot)
        published = _read_targets(objects, "targets", snapshot.signed)
        _verify(held[-1], "targets", published)
        roles: dict[Delegated, Metadata[Targets]] = {}
        for role in _DELEGATED:
            roles[role] = _read_targets(objects, role, snapshot.signed)
            _verify(published.signed, role, roles[role])
        targets, new_targets = _newest_targets(root, published, ring)
        stale = frozenset(
            role for role in _DELEGATED if not holds(targets.signed, role, roles[role])
        )
        return State(
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


def sign(document: T, signers: list[Signer], delegator: Root | Targets, role: str) -> bytes:
    """Metadata bytes of `document` with these signatures and no others.

    Raises:
        UnsignedMetadataError: a signature does not hold under `delegator`: nothing a client would
            refuse leaves this machine.
        UsageError: a KMS or HSM did not sign.
        ForgeError: larger than clients read.
    """
    metadata = Metadata(document)
    for signer in signers:
        try:
            metadata.sign(signer, append=True)
        except UnsignedMetadataError as error:
            if isinstance(error.__cause__, ForgeError):
                raise error.__cause__ from None
            raise
    delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    data = metadata.to_bytes()
    limit = layout.max_metadata_bytes(role)
    if len(data) > limit:
        raise ForgeError(
            f"The {role} metadata would have {len(data)} bytes, clients read {limit}",
            hint="start a new store for the next releases",
        )
    return data


def _doubt(newest: Timestamp, now: datetime) -> str:
    """What speaks against this machine's clock; empty if nothing does.

    Said and not refused: a store may have been left alone, and after somebody else's wrong clock
    the right one must be able to sign.
    """
    signed_at = moment(newest.unrecognized_fields.get("signed_at"))
    if signed_at and now < signed_at - TOLERANCE:
        return f"It is {now:%Y-%m-%d} here, and the store was signed on {signed_at:%Y-%m-%d}."
    if now > newest.expires + TOLERANCE:
        return f"It is {now:%Y-%m-%d} here, and the store expired on {newest.expires:%Y-%m-%d}."
    return ""


def _proof_keys(objects: Objects, ring: Keyring, state: State) -> ProofKeys:
    path = layout.PROOF_KEYS_PATH
    target = state.targets.signed.targets[path]
    digest = target.hashes["sha256"]
    if state.new_targets is None:
        name = layout.target_name(path, digest)
        data = objects.read(name, max_bytes=min(target.length, MAX_PROOF_KEYS_BYTES)).data
    else:
        data = ring.target(path, digest)
    with tuf_errors(objects.url):
        target.verify_length_and_hashes(data)
    return parse_proof_keys(data)


class _Writer:
    """One attempt to publish an edit on top of one state."""

    def __init__(
        self, objects: Objects, ring: Keyring, state: State, edit: Edit, now: datetime
    ) -> None:
        self._objects = objects
        self._ring = ring
        self._state = state
        self._edit = edit
        self._now = now
        self._expiry = ring.file.expiry_days

    def due(self) -> bool:
        """Whether there is anything to write: a change, a new key, or half a life gone by."""
        state = self._state
        if state.timestamp is None or state.snapshot is None:
            return True
        if state.new_roots or state.new_targets or state.stale:
            return True
        if any(self._changed(role) or self._ageing(role) for role in _DELEGATED):
            return True
        return self._past_half(state.timestamp.signed) or self._past_half(state.snapshot.signed)

    def write(self) -> None:
        """Write everything, the timestamp last. Raises ConflictError, StoreError."""
        self._refuse_unusable()
        first, last = self._split_roots()
        for version, data in first:
            self._write_once(layout.metadata_name("root", version), data)
        for name, data in self._edit.files.items():
            self._objects.write(name, data)  # named by its digest: the same bytes, if it is there
        with tuf_errors(self._objects.url):
            metas = self._metas()
            self._write_snapshot_and_timestamp(metas)
        for version, data in last:
            self._write_once(layout.metadata_name("root", version), data)

    def _split_roots(self) -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]:
        # A root that drops a key goes last: until then the old signatures still hold.
        roots = list(self._state.new_roots.items())
        return (roots, []) if self._state.timestamp is None else (roots[:-1], roots[-1:])

    def _metas(self) -> dict[str, MetaFile]:
        state = self._state
        metas = dict(state.snapshot.signed.meta) if state.snapshot else {}
        if state.new_targets is not None:
            version = state.targets.signed.version
            for path, target in state.targets.signed.targets.items():
                digest = target.hashes["sha256"]
                name = layout.target_name(path, digest)
                self._objects.write(name, self._ring.target(path, digest))
            self._write_once(layout.metadata_name("targets", version), state.new_targets)
            metas["targets.json"] = _meta(version, state.new_targets)
        for role in _DELEGATED:
            if self._must_sign(role):
                metas[f"{role}.json"] = self._write_role(role)
        return metas

    def _must_sign(self, role: Delegated) -> bool:
        state = self._state
        return (
            self._changed(role)
            or state.snapshot is None
            or role in state.stale
            or self._ageing(role)
        )

    def _changed(self, role: Delegated) -> bool:
        return self._edit.targets[role] != self._state.roles[role].signed.targets

    def _ageing(self, role: Delegated) -> bool:
        # Only where its key is at hand: a promoter must not need the build key.
        metadata = self._state.roles[role].signed
        here = any(self._ring.has(entry) for entry in self._ring.entries(role))
        return here and self._past_half(metadata, role)

    def _past_half(self, document: Signed, role: str | None = None) -> bool:
        return document.expires - self._now < self._expiry.of(role or document.type) / 2

    def _refuse_unusable(self) -> None:
        for what, document in (("root", self._state.root), ("targets", self._state.targets.signed)):
            if document.is_expired(self._now):
                raise TrustError(
                    f"The {what} metadata expired on {document.expires:%Y-%m-%d}",
                    why="no client would accept what is published now",
                    hint="forge keys refresh, with the offline keys at hand",
                )

        if not holds(self._state.root, "targets", self._state.targets):
            raise TrustError(
                "The targets metadata is not signed with the newest targets key",
                why="a rotation was broken off",
                hint="forge keys refresh, with the offline keys at hand",
            )

    def _write_role(self, role: Delegated) -> MetaFile:
        old = self._state.roles[role].signed
        delegation = self._state.targets.signed.get_delegated_role(role)
        signers = self._ring.signers(role, delegation.keyids, delegation.threshold)
        document = Targets(
            expires=self._expires(role),
            targets=self._edit.targets[role],
            unrecognized_fields=copy.deepcopy(old.unrecognized_fields),
        )
        start = old.version + 1 if self._state.snapshot else 1
        return self._write_numbered(role, document, start, signers, self._state.targets.signed)

    def _write_snapshot_and_timestamp(self, metas: dict[str, MetaFile]) -> None:
        state = self._state
        keys = state.root.roles["timestamp"]
        signers = self._ring.signers("online", keys.keyids, keys.threshold)
        snapshot = Snapshot(expires=self._expires("snapshot"), meta=metas)
        start = state.snapshot.signed.version + 1 if state.snapshot else 1
        meta = self._write_numbered("snapshot", snapshot, start, signers, state.root)
        timestamp = Timestamp(
            version=state.timestamp.signed.version + 1 if state.timestamp else 1,
            expires=self._expires("timestamp"),
            snapshot_meta=meta,
            unrecognized_fields={"signed_at": f"{self._now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"},
        )
        data = sign(timestamp, signers, state.root, "timestamp")
        if state.etag is None:
            self._objects.write_new(layout.TIMESTAMP_NAME, data)
        else:
            self._objects.write_if(layout.TIMESTAMP_NAME, data, state.etag)

    def _expires(self, role: str) -> datetime:
        return self._now.astimezone(UTC) + self._expiry.of(role)

    def _write_numbered(
        self,
        role: str,
        document: T,
        start: int,
        signers: list[Signer],
        delegator: Root | Targets,
    ) -> MetaFile:
        for version in range(start, start + _MAX_LEFT_OVERS):
            document.version = version
            data = sign(document, signers, delegator, role)
            try:
                self._objects.write_new(layout.metadata_name(role, version), data)
            except ConflictError:
                continue
            return _meta(version, data)
        raise ConflictError(
            f"{_MAX_LEFT_OVERS} versions of {role} metadata are taken in {self._objects.url}",
            hint=f"delete tuf/metadata/N.{role}.json with N from {start} on: nothing refers to "
            "them; then run it again",
        )

    def _write_once(self, name: str, data: bytes) -> None:
        try:
            self._objects.write_new(name, data)
        except ConflictError:
            if self._objects.read(name, max_bytes=len(data)).data != data:
                raise _foreign(name, self._objects.url) from None


def _roots(
    objects: Objects, ring: Keyring
) -> tuple[list[Root], dict[int, bytes], dict[int, bytes]]:
    """The verified chain of roots, those only the folder has, and those only the store has."""
    folder = ring.documents("root")
    if not folder:
        raise TrustError(f"{ring.folder} has no root metadata", hint="restore metadata/*.root.json")
    newest = max(folder)
    missing: dict[int, bytes] = {}
    while newest in folder and objects.size(layout.metadata_name("root", newest)) is None:
        missing[newest] = folder[newest]
        newest -= 1
    if newest in folder:
        _check_same_root(objects, newest, folder[newest])
    later = {} if missing else dict(later_roots(objects, newest + 1))
    return _chain(folder | later), dict(sorted(missing.items())), later


def _check_same_root(objects: Objects, version: int, data: bytes) -> None:
    name = layout.metadata_name("root", version)
    if objects.read(name, max_bytes=layout.max_metadata_bytes("root")).data != data:
        raise _foreign(name, objects.url)


def _chain(known: dict[int, bytes]) -> list[Root]:
    roots: list[Root] = []
    for version in sorted(known):
        metadata = Metadata[Root].from_bytes(known[version])
        if metadata.signed.version != version or (roots and roots[-1].version != version - 1):
            raise TrustError(f"Root {version} is out of order", hint="restore metadata/*.root.json")
        for verifier in [*roots[-1:], metadata.signed]:
            _verify(verifier, "root", metadata)
        roots.append(metadata.signed)
    return roots


def _new_state(root: Root, missing: dict[int, bytes], ring: Keyring) -> State:
    documents = ring.documents("targets")
    if not documents:
        raise TrustError(
            f"{ring.folder} has no targets metadata", hint="restore metadata/*.targets.json"
        )
    data = documents[max(documents)]
    targets = Metadata[Targets].from_bytes(data)
    _verify(root, "targets", targets)
    roles: dict[Delegated, Metadata[Targets]] = {
        role: Metadata(Targets(expires=targets.signed.expires)) for role in _DELEGATED
    }
    return State(
        root=root,
        new_roots=missing,
        later_roots={},
        targets=targets,
        new_targets=data,
        roles=roles,
        stale=frozenset(_DELEGATED),
        snapshot=None,
        timestamp=None,
        etag=None,
    )


def _newest_targets(
    root: Root, published: Metadata[Targets], ring: Keyring
) -> tuple[Metadata[Targets], bytes | None]:
    documents = ring.documents("targets")
    newest = max(documents, default=0)
    if newest <= published.signed.version:
        return published, None
    targets = Metadata[Targets].from_bytes(documents[newest])
    _verify(root, "targets", targets)
    return targets, documents[newest]


def _read_targets(objects: Objects, role: str, snapshot: Snapshot) -> Metadata[Targets]:
    meta = snapshot.meta.get(f"{role}.json")
    if meta is None:
        raise TrustError(f"The snapshot in {objects.url} does not mention {role}")
    metadata = Metadata[Targets].from_bytes(_read_meta(objects, role, meta))
    if metadata.signed.version != meta.version:
        raise TrustError(f"The {role} metadata in {objects.url} has the wrong version")
    return metadata


def _read_meta(objects: Objects, role: str, meta: MetaFile) -> bytes:
    name = layout.metadata_name(role, meta.version)
    data = objects.read(name, max_bytes=meta.length or layout.max_metadata_bytes(role)).data
    meta.verify_length_and_hashes(data)
    return data


def _verify(
    delegator: Root | Targets,
    role: str,
    metadata: Metadata[Root] | Metadata[Timestamp] | Metadata[Snapshot] | Metadata[Targets],
) -> None:
    delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)


def holds(delegator: Root | Targets, role: str, metadata: Metadata[Targets]) -> bool:
    """Whether `metadata` is signed as `delegator` asks."""
    try:
        _verify(delegator, role, metadata)
    except UnsignedMetadataError:
        return False
    return True


def _meta(version: int, data: bytes) -> MetaFile:
    return MetaFile.from_data(version, data, ["sha256"])


def _foreign(name: str, url: str) -> TrustError:
    return TrustError(
        f"{name} in {url} was made with other keys",
        hint="use the keys this store was started with, or an empty store",
    )
