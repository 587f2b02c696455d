"""Read the chain of roots from keys folder and store, and verify it from the first root on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tuf.api.metadata import Metadata, Root

from forge.errors import TrustError
from forge.release.repository.metadata import other_keys_error, verify
from forge.release.repository.unverified_index import later_roots
from forge.store.backends.protocol import Objects
from forge.trust import layout

if TYPE_CHECKING:
    from forge.release.keys.keyring import Keyring

__all__ = ["check_same_root", "read_roots"]


def read_roots(
    objects: Objects, keyring: Keyring
) -> tuple[list[Root], dict[int, bytes], dict[int, bytes]]:
    """Return the verified chain of roots.

    Args:
        objects: the store.
        keyring: the keys folder.

    Returns:
        All roots in ascending order; the bytes of those that only the folder has, by version; and
        the bytes of those that only the store has, by version.

    Raises:
        TrustError: the folder has no root, a version is missing, or the store has another root of
            the same version.
        UnsignedMetadataError: a root is not signed by its predecessor and by itself.
        StoreError: the store cannot be reached.
    """
    folder = keyring.documents("root")
    if not folder:
        raise TrustError(
            f"{keyring.folder} has no root metadata", hint="restore metadata/*.root.json"
        )
    common = check_same_root(objects, folder)
    missing = {version: data for version, data in folder.items() if version > common}
    later = {} if missing else dict(later_roots(objects, common + 1))
    return _chain(folder | later), dict(sorted(missing.items())), later


def check_same_root(objects: Objects, folder: Mapping[int, bytes]) -> int:
    """Return the newest version of root that folder and store have; less than all if there is none.

    Args:
        objects: the store.
        folder: the roots of the keys folder by version; not empty.

    Raises:
        TrustError: the store has another root of that version.
        StoreError: the store cannot be reached.
    """
    version = max(folder)
    while version in folder and objects.size(layout.metadata_name("root", version)) is None:
        version -= 1
    if version in folder:
        name = layout.metadata_name("root", version)
        limit = layout.max_metadata_bytes("root")
        if objects.read(name, max_bytes=limit).data != folder[version]:
            raise other_keys_error(name, objects.url)
    return version


def _chain(known: dict[int, bytes]) -> list[Root]:
    roots: list[Root] = []
    for version in sorted(known):
        metadata = Metadata[Root].from_bytes(known[version])
        if metadata.signed.version != version or (roots and roots[-1].version != version - 1):
            raise TrustError(f"Root {version} is out of order", hint="restore metadata/*.root.json")
        for verifier in [*roots[-1:], metadata.signed]:
            verify(verifier, "root", metadata)
        roots.append(metadata.signed)
    return roots
