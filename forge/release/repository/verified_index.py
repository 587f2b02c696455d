"""Read the published metadata and verify it as a device does, from a root that is trusted.

For commands whose answer must not depend on what an attacker of the store wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from forge.errors import NotInStoreError, TrustError
from forge.release.repository.unverified_index import (
    PublishedEntry,
    UnverifiedIndex,
    check_timestamp,
)
from forge.store.backends.protocol import Objects
from forge.trust import layout

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile

    from forge.trust.proof_keys import ProofKeys

__all__ = ["VerifiedIndex", "first_root", "read_verified_index"]


@dataclass(frozen=True, slots=True)
class VerifiedIndex(UnverifiedIndex):
    """The published targets, whose signatures and expiry were verified.

    Attributes:
        proof_keys: keys that verify proofs; None: the store has no publication.
    """

    proof_keys: ProofKeys | None = None


def read_verified_index(
    objects: Objects, root: bytes, now: datetime | None = None
) -> VerifiedIndex:
    """Read and verify the metadata of a store; empty for a store without any.

    A version that was published before and is hidden now is not noticed: that takes the state that
    a device keeps between its runs.

    Args:
        objects: the store.
        root: the root metadata to trust, of any version that the store continues.
        now: current time; None: the clock of this machine.

    Raises:
        TrustError: a signature, an expiry, a version or a digest is not valid.
        StoreError: the store cannot be reached.
    """
    from forge.trust.client import TrustedStore

    check_timestamp(objects)
    if objects.size(layout.TIMESTAMP_NAME) is None:
        return VerifiedIndex()
    with TemporaryDirectory(prefix="forge-trusted-") as folder:
        trusted = TrustedStore(objects, Path(folder), root, now)
        trusted.refresh()
        return VerifiedIndex(
            bundles=_entries(trusted.targets(layout.BUNDLES)),
            channels=_entries(trusted.targets(layout.CHANNELS)),
            proof_keys=trusted.proof_keys(),
        )


def first_root(objects: Objects) -> bytes:
    """Return the first root of a store, for a caller without another.

    Raises TrustError, StoreError.
    """
    name = layout.metadata_name("root", 1)
    try:
        return objects.read(name, max_bytes=layout.max_metadata_bytes("root")).data
    except NotInStoreError:
        raise TrustError(
            f"{objects.url} has no root metadata",
            why=f"{name} is missing",
            hint="restore it from a copy of the store, or give the publisher's: --root root.json",
        ) from None


def _entries(targets: Mapping[str, TargetFile]) -> dict[str, PublishedEntry]:
    return {path: _entry(one) for path, one in targets.items()}


def _entry(target: TargetFile) -> PublishedEntry:
    custom = target.unrecognized_fields.get("custom")
    fields = custom if isinstance(custom, dict) else {}
    return PublishedEntry(target.length, target.hashes.get("sha256", ""), fields)
