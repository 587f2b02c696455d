"""The writer of one edit: target files, bundles, channels, snapshot, and last the timestamp.

Until that last write, under the ETag that was read, nobody sees anything, so a publisher can be
killed anywhere. Numbered files a dead publisher left are skipped, never overwritten.
"""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from tuf.api.metadata import MetaFile, Root, Signed, Snapshot, T, Targets, Timestamp

from forge.errors import ConflictError, TrustError
from forge.release.edit import Edit
from forge.release.metadata import foreign, holds, meta_file, sign
from forge.release.state import DELEGATED, Delegated, State
from forge.store.objects import Objects
from forge.trust import layout
from forge.trust.explain import tuf_errors

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from forge.release.keyring import Keyring

__all__ = ["Writer"]

# How many numbered left-overs of dead publishers are stepped over.
_MAX_LEFT_OVERS: Final = 1000


class Writer:
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
        if any(self._changed(role) or self._ageing(role) for role in DELEGATED):
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
            return meta_file(version, data)
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
                raise foreign(name, self._objects.url) from None
