"""Write one edit: target files, bundles, channels, snapshot, and last the timestamp.

Clients see the edit only after the last write, which is conditional on the ETag that was read, so
a publisher can be killed at any point. Version numbers of files that a killed publisher left are
skipped; those files are never overwritten.
"""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from tuf.api.metadata import MetaFile, Root, Signed, Snapshot, T, Targets, Timestamp

from forge.errors import ConflictError, TrustError
from forge.release.repository.edit import Edit
from forge.release.repository.metadata import holds, meta_file, other_keys_error, sign
from forge.release.repository.state import DELEGATED, Delegated, RepositoryState
from forge.store.backends.protocol import Objects
from forge.trust import layout
from forge.trust.tuf_errors import tuf_errors

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from forge.release.keys.keyring import Keyring

__all__ = ["Writer"]

# Limit of version numbers to skip because of files that killed publishers left.
_MAX_SKIPPED_VERSIONS: Final = 1000


class Writer:
    """One attempt to publish an edit on top of one state."""

    def __init__(
        self, objects: Objects, keyring: Keyring, state: RepositoryState, edit: Edit, now: datetime
    ) -> None:
        self._objects = objects
        self._keyring = keyring
        self._state = state
        self._edit = edit
        self._now = now
        self._expiry = keyring.file.expiry_days

    def due(self) -> bool:
        """Return whether anything must be written: a change, a new key, or a due signature."""
        state = self._state
        if state.timestamp is None or state.snapshot is None:
            return True
        if state.new_roots or state.new_targets or state.stale:
            return True
        if any(self._changed(role) or self._ageing(role) for role in DELEGATED):
            return True
        return self._past_half(state.timestamp.signed) or self._past_half(state.snapshot.signed)

    def write(self) -> None:
        """Write all objects, the timestamp last.

        Raises:
            ConflictError: another publisher wrote the timestamp first.
            TrustError: root or targets expired, or targets lacks the newest key's signature.
            UsageError: a key is missing.
            StoreError: the store cannot be reached.
        """
        self._refuse_unusable()
        first, last = self._split_roots()
        for version, data in first:
            self._write_once(layout.metadata_name("root", version), data)
        for name, data in self._edit.files.items():
            self._objects.write(name, data)  # named by its digest: an existing one is equal
        with tuf_errors(self._objects.url):
            metas = self._metas()
            self._write_snapshot_and_timestamp(metas)
        for version, data in last:
            self._write_once(layout.metadata_name("root", version), data)

    def _split_roots(self) -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]:
        # A root that removes a key is written last: until then the old signatures are valid.
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
                self._objects.write(name, self._keyring.target(path, digest))
            self._write_once(layout.metadata_name("targets", version), state.new_targets)
            metas["targets.json"] = meta_file(version, state.new_targets)
        for role in DELEGATED:
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
        # Only if its key is available: a promoter must not need the build key.
        metadata = self._state.roles[role].signed
        here = any(self._keyring.has(entry) for entry in self._keyring.entries(role))
        return here and self._past_half(metadata, role)

    def _past_half(self, document: Signed, role: str | None = None) -> bool:
        return document.expires - self._now < self._expiry.of(role or document.type) / 2

    def _refuse_unusable(self) -> None:
        for what, document in (("root", self._state.root), ("targets", self._state.targets.signed)):
            if document.is_expired(self._now):
                raise TrustError(
                    f"The {what} metadata expired on {document.expires:%Y-%m-%d}",
                    why="clients would refuse anything published now",
                    hint="run 'forge keys refresh' with the offline keys in the keys folder",
                )

        if not holds(self._state.root, "targets", self._state.targets):
            raise TrustError(
                "The targets metadata is not signed with the newest targets key",
                why="a rotation was interrupted",
                hint="run 'forge keys refresh' with the offline keys in the keys folder",
            )

    def _write_role(self, role: Delegated) -> MetaFile:
        old = self._state.roles[role].signed
        delegation = self._state.targets.signed.get_delegated_role(role)
        signers = self._keyring.signers(role, delegation.keyids, delegation.threshold)
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
        signers = self._keyring.signers("online", keys.keyids, keys.threshold)
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
        for version in range(start, start + _MAX_SKIPPED_VERSIONS):
            document.version = version
            data = sign(document, signers, delegator, role)
            try:
                self._objects.write_new(layout.metadata_name(role, version), data)
            except ConflictError:
                continue
            return meta_file(version, data)
        raise ConflictError(
            f"{_MAX_SKIPPED_VERSIONS} versions of {role} metadata already exist in "
            f"{self._objects.url}",
            hint=f"delete tuf/metadata/N.{role}.json with N from {start} on: nothing refers to "
            "them; then run the command again",
        )

    def _write_once(self, name: str, data: bytes) -> None:
        try:
            self._objects.write_new(name, data)
        except ConflictError:
            if self._objects.read(name, max_bytes=len(data)).data != data:
                raise other_keys_error(name, self._objects.url) from None
