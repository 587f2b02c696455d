"""The chain of roots: the keys folder's and the store's, verified from the folder's first on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuf.api.metadata import Metadata, Root

from forge.errors import TrustError
from forge.release.index import later_roots
from forge.release.metadata import foreign, verify
from forge.store.objects import Objects
from forge.trust import layout

if TYPE_CHECKING:
    from forge.release.keyring import Keyring

__all__ = ["read_roots"]


def read_roots(
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
        raise foreign(name, objects.url)


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
