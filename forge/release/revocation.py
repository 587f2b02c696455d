"""What the revocation of a proof key ends: versions that devices accept now, and their channels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from forge.errors import StoreError, TrustError
from forge.release.attest.verify import check_proofs
from forge.release.catalog import Catalog
from forge.store.backends.protocol import Objects

if TYPE_CHECKING:
    from forge.trust.proof_keys import ProofKeys

__all__ = ["EndedVersion", "ended_versions"]


class PublishedStore(Protocol):
    """The part of a store that is read."""

    @property
    def objects(self) -> Objects:
        """Return the objects of the store."""

    def read_file(self, digest: str, path: str, *, max_bytes: int) -> bytes:
        """Return the bytes of a small file of a tree."""


@dataclass(frozen=True, slots=True)
class EndedVersion:
    """A version that no device can install after the revocation.

    Attributes:
        name: name of the bundle.
        version: its version.
        profiles: those of its profiles that devices accept now.
        channels: the channels that point to it.
    """

    name: str
    version: str
    profiles: tuple[str, ...]
    channels: tuple[str, ...]

    def __str__(self) -> str:
        on = f", on the channel {', '.join(self.channels)}" if self.channels else ""
        return f"{self.name} {self.version} for {', '.join(self.profiles)}{on}"


def ended_versions(store: PublishedStore, keys: ProofKeys) -> list[EndedVersion]:
    """Return the versions whose proofs `keys` verify, newest first for each bundle.

    A revocation removes all present keys of a role, so it ends all of them; versions that devices
    refuse already, or whose proofs were deleted as garbage, are left out.

    Args:
        store: the store.
        keys: the proof keys that devices trust now.

    Raises:
        TrustError: the metadata is not valid.
        StoreError: the store cannot be reached.
    """
    catalog = Catalog(store.objects)
    return [
        EndedVersion(name, version, profiles, channels)
        for name in catalog.names()
        for version in catalog.versions(name)
        if (profiles := tuple(_accepted(store, catalog, keys, name, version)))
        for channels in [
            tuple(one for one, on in catalog.channels(name).items() if on == version),
        ]
    ]


def _accepted(
    store: PublishedStore, catalog: Catalog, keys: ProofKeys, name: str, version: str
) -> Iterator[str]:
    for profile in catalog.profiles(name, version):
        try:
            check_proofs(store, catalog.manifest(name, version, profile), keys)
        except (TrustError, StoreError):
            continue
        yield profile
