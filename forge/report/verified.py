"""The metadata of a store, verified from a root of trust, with all that is published.

`forge.trust.client` verifies; this module adds the lists of versions and channels, which a device
does not need, from the same verified metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from forge.bundle import Manifest, check_version, version_order
from forge.canonical import sha256
from forge.errors import TrustError, UsageError, not_found
from forge.release.catalog import YANKED
from forge.report.report import SignedRole
from forge.trust import layout
from forge.trust.client import TrustedStore
from forge.trust.proof_keys import ProofKeys

if TYPE_CHECKING:
    from forge.store.backends.protocol import Objects

__all__ = ["VerifiedStore"]

_ROLES: Final = ("root", "targets", layout.BUNDLES, layout.CHANNELS, "snapshot", "timestamp")


@dataclass(frozen=True, slots=True)
class _Published:
    sha256: str
    custom: Mapping[str, Any]


class VerifiedStore:
    """The verified metadata of a store.

    Args:
        objects: the store.
        root: root metadata to begin with.
        state: empty folder for verified metadata.
        now: the time to compare expiries with; None: the clock of this machine.

    Raises:
        TrustError: a signature, an expiry, a version or a digest is not valid.
        StoreError: the store cannot be reached.
    """

    def __init__(
        self, objects: Objects, root: bytes, state: Path, now: datetime | None = None
    ) -> None:
        self.root_sha256 = sha256(root)
        self._trusted = TrustedStore(objects, state, root, now)
        self._metadata = state / "metadata"
        self._trusted.refresh()
        self._trusted.targets(layout.CHANNELS)  # read, so that `channels` and `roles` know them
        self._bundles: dict[str, dict[str, dict[str, _Published]]] = {}
        for path, entry in self._trusted.targets(layout.BUNDLES).items():
            _, name, version, file = path.split("/")  # as the delegation's pattern says
            custom = entry.unrecognized_fields.get("custom") or {}
            found = self._bundles.setdefault(name, {}).setdefault(version, {})
            digest = entry.hashes.get("sha256", "")
            found[file.removesuffix(".json")] = _Published(digest, custom)

    def require(self, name: str, version: str) -> None:
        """Raise NotFoundError if a version is not published, UsageError if it is not one."""
        if name not in self._bundles:
            raise not_found(f"No bundle {name!r} is published", name, sorted(self._bundles))
        if version not in self._bundles[name]:
            check_version(version)
            known = self.versions(name)
            raise not_found(f"{name} {version} is not published", version, known)

    def versions(self, name: str) -> list[str]:
        """Return the versions of a bundle, newest first. Raises TrustError."""
        try:
            return sorted(self._bundles.get(name, ()), key=version_order, reverse=True)
        except UsageError as error:
            raise TrustError(f"A version of {name} is not valid", why=error.what) from None

    def profiles(self, name: str, version: str) -> list[str]:
        """Return the profiles of a version, sorted."""
        return sorted(self._bundles[name][version])

    def yanked(self, name: str, version: str) -> str:
        """Return when a version was yanked; empty if it was not."""
        times = {str(one.custom.get(YANKED, "")) for one in self._bundles[name][version].values()}
        return max(times)

    def manifest(self, name: str, version: str, profile: str) -> Manifest:
        """Return a manifest. Raises TrustError, StoreError."""
        return self._trusted.manifest(name, version, profile)

    def manifest_sha256(self, name: str, version: str, profile: str) -> str:
        """Return the digest of a manifest, as the build key signed it."""
        return self._bundles[name][version][profile].sha256

    def channels(self, name: str) -> dict[str, str]:
        """Return the version that each channel of a bundle points to."""
        names = self._trusted.channels().get(name, ())
        return {one: self._trusted.channel(name, one).version for one in names}

    def proof_keys(self) -> ProofKeys:
        """Return the keys that proofs are verified with."""
        return self._trusted.proof_keys()

    def roles(self) -> tuple[SignedRole, ...]:
        """Return the verified metadata, in the order of trust; a role that is not used is not."""
        found = []
        for role in _ROLES:
            with suppress(FileNotFoundError):
                signed = _signed(self._metadata / f"{role}.json")
                found.append(SignedRole(role, signed.version, signed.expires))
        return tuple(found)


def _signed(path: Path) -> Any:
    """Return what a file says that the client has verified and stored."""
    from tuf.api.metadata import Metadata

    return Metadata.from_bytes(path.read_bytes()).signed
