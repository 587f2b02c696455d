"""Check that the release metadata in a store is complete and consistent, without any keys.

The audit trusts the first root in the store, so it finds damage and loss. It does not find metadata
that an attacker signed consistently under another root; that takes the root.json of a device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp

from forge.bundle import MAX_DOCUMENT_BYTES, Manifest, parse_manifest
from forge.errors import CorruptedError, NotInStoreError, TrustError
from forge.release.repository.unverified_index import check_timestamp, later_roots
from forge.store.backends.protocol import Objects
from forge.store.maintenance.check import Problem
from forge.trust import layout

__all__ = ["Audit", "audit"]

_RESTORE: Final = "restore it from a copy of the store"
_T = TypeVar("_T")


@dataclass(slots=True)
class Audit:
    """Result of an audit.

    Attributes:
        objects: number of objects read.
        bytes: number of bytes read.
        problems: missing, damaged and unsigned objects.
        bundles: `name version for profile` of each manifest that refers to a tree, by tree digest.
    """

    objects: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)
    bundles: dict[str, list[str]] = field(default_factory=dict)


def audit(objects: Objects) -> Audit:
    """Verify the signed metadata from the first root to every target.

    Raises:
        StoreError: the store cannot be reached.
    """
    auditor = _Auditor(objects)
    auditor.run()
    return auditor.found


class _Auditor:
    def __init__(self, objects: Objects) -> None:
        self.found = Audit()
        self._objects = objects

    def run(self) -> None:
        if self._objects.size(layout.TIMESTAMP_NAME) is None:
            self._try(layout.TIMESTAMP_NAME, lambda: check_timestamp(self._objects))
            return  # nothing was published, or the timestamp is the problem
        root = self._root()
        if root is None:
            return
        timestamp = self._metadata(layout.TIMESTAMP_NAME, "timestamp", root, Timestamp)
        if timestamp is None:
            return
        snapshot = self._metadata(
            layout.metadata_name("snapshot", timestamp.snapshot_meta.version),
            "snapshot", root, Snapshot, timestamp.snapshot_meta.verify_length_and_hashes,
        )  # fmt: skip
        if snapshot is None:
            return
        targets = self._role("targets", root, snapshot)
        if targets is None:
            return
        self._targets(targets)
        for role in (layout.BUNDLES, layout.CHANNELS):
            document = self._role(role, targets, snapshot)
            if document is not None:
                self._targets(document)

    def _root(self) -> Root | None:
        """Return the newest root of the chain, each signed by its predecessor and by itself."""
        last: Root | None = None
        for version, data in self._roots():
            before = last
            name = layout.metadata_name("root", version)

            def check(data: bytes = data, before: Root | None = before) -> Root:
                metadata = Metadata[Root].from_bytes(data)
                for signer in (before, metadata.signed):
                    if signer is not None:
                        signer.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
                return metadata.signed

            last = self._try(name, check)
            if last is None:
                return None
        if last is None:
            self._problem(layout.metadata_name("root", 1), f"it is missing: {_RESTORE}")
        return last

    def _roots(self) -> Iterator[tuple[int, bytes]]:
        try:
            for version, data in later_roots(self._objects, 1):
                self._count(data)
                yield version, data
        except (TrustError, CorruptedError) as error:
            self._problem(layout.METADATA_PREFIX, error.what)

    def _role(self, role: str, delegator: Root | Targets, snapshot: Snapshot) -> Targets | None:
        meta = snapshot.meta.get(f"{role}.json")
        if meta is None:
            self._problem(layout.METADATA_PREFIX, f"the snapshot does not list {role}")
            return None
        name = layout.metadata_name(role, meta.version)
        return self._metadata(name, role, delegator, Targets, meta.verify_length_and_hashes)

    def _metadata(
        self,
        name: str,
        role: str,
        delegator: Root | Targets,
        kind: type[_T],
        check: Callable[[bytes], None] = lambda _: None,
    ) -> _T | None:
        def read() -> _T:
            data = self._read(name, layout.max_metadata_bytes(role))
            check(data)
            metadata = Metadata.from_bytes(data)
            delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
            if not isinstance(metadata.signed, kind):
                raise TrustError(f"it is not {role} metadata")
            return metadata.signed

        return self._try(name, read)

    def _targets(self, document: Targets) -> None:
        for path, target in sorted(document.targets.items()):
            name = layout.target_name(path, target.hashes.get("sha256", ""))
            data = self._try(name, lambda name=name, target=target: self._target(name, target))  # type: ignore[misc]  # mypy does not infer default arguments
            if data is not None and path.startswith(f"{layout.BUNDLES}/"):
                manifest = self._try(name, lambda data=data: parse_manifest(data))  # type: ignore[misc]  # as above
                if manifest is not None:
                    self._remember(manifest)

    def _target(self, name: str, target: TargetFile) -> bytes:
        data = self._read(name, min(target.length, MAX_DOCUMENT_BYTES))
        target.verify_length_and_hashes(data)
        return data

    def _remember(self, manifest: Manifest) -> None:
        who = f"{manifest.name} {manifest.version} for {manifest.profile}"
        for tree in (manifest.tree, manifest.proofs):
            self.found.bundles.setdefault(tree.digest, []).append(who)

    def _read(self, name: str, max_bytes: int) -> bytes:
        data = self._objects.read(name, max_bytes=max_bytes).data
        self._count(data)
        return data

    def _count(self, data: bytes) -> None:
        self.found.objects += 1
        self.found.bytes += len(data)

    def _try(self, name: str, check: Callable[[], _T]) -> _T | None:
        """Return the result of `check`; record a problem of `name` and return None if it fails."""
        try:
            return check()
        except NotInStoreError:
            self._problem(name, f"it is missing: {_RESTORE}")
        except (RepositoryError, CorruptedError, TrustError) as error:
            self._problem(name, f"{error}".splitlines()[0] + f": {_RESTORE}")
        return None

    def _problem(self, name: str, reason: str) -> None:
        self.found.problems.append(Problem(name, reason))
