"""Read the channel, decide whether its bundle may run here, and put it into a slot, verified.

Nothing is downloaded but signed metadata until the bundle is known to fit.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from forge.bundle import Manifest
from forge.device import detection, fit
from forge.device.detection import Detection
from forge.device.fit import Refusal
from forge.device.hardware import Hardware
from forge.device.journal import Release, SlotName
from forge.device.slots import Home, Provisioned
from forge.errors import StoreError, TrustError

if TYPE_CHECKING:
    from forge.store import Store, Transfer
    from forge.trust.client import TrustedStore
    from forge.trust.proof_keys import ProofKeys

__all__ = ["Offer", "Updater"]

_LEAST_FREE_MIB: Final = 64
# Names in a bundle's tree of proofs.
_PROVENANCE: Final = "provenance.dsse.json"
_MODEL_SIGNATURE: Final = "model.sig"


@dataclass(frozen=True, slots=True)
class Offer:
    """What the channel has for this machine."""

    manifest: Manifest
    release: Release
    detection: Detection
    refusals: tuple[Refusal, ...]

    def require_fit(self) -> None:
        """Raise FitError that lists every refusal."""
        fit.require(self.refusals, str(self.release))


class Updater:
    """The store as this device sees it.

    Args:
        home: the state folder.
        device: what it was provisioned with.
        root_bytes: the root metadata all trust starts from.
        hardware: what this machine is.
        profile: a profile named by hand; wins over the provisioned one.
    """

    def __init__(
        self,
        home: Home,
        device: Provisioned,
        root_bytes: bytes,
        hardware: Hardware,
        profile: str | None = None,
    ) -> None:
        self._home = home
        self._device = device
        self._root = root_bytes
        self._hardware = hardware
        self._profile = profile or device.profile
        self._opened: tuple[Store, TrustedStore] | None = None

    def look(self) -> Offer:
        """Read what the channel points to. Downloads metadata only.

        Raises:
            TrustError: a signature, expiry or version of the metadata does not hold.
            StoreError: the store is out of reach; the channel or profile is not published.
            UsageError: the profile named by hand is not in the channel.
            FitError: no profile of the channel is for this machine.
        """
        _, trusted = self._open()
        trusted.refresh()
        channel = trusted.channel(self._device.name, self._device.channel)
        found = detection.match(self._hardware, detection.candidates(channel), self._profile)
        manifest = trusted.manifest(channel.name, channel.version, found.profile)
        size = manifest.tree.size + manifest.proofs.size
        refusals = (
            *fit.check(manifest.fit, self._hardware, self._home.free_mib(), size),
            *fit.check_serving(manifest.serving),
        )
        return Offer(manifest, Release.of(manifest), found, refusals)

    def fetch(self, manifest: Manifest, slot: SlotName, active: SlotName | None) -> Transfer:
        """Fill a slot with a bundle: only chunks that no slot holds are downloaded.

        When it returns, the slot is complete, verified and durable.

        Raises:
            TrustError: a proof does not hold; nothing of this bundle may run.
            StoreError: the store is out of reach or damaged, or the disk is full.
        """
        try:
            return self._fetch(manifest, slot, active)
        except (OSError, StoreError) as error:
            # Half a bundle is worth keeping, but not a disk so full that nothing can be noted.
            if self._home.free_mib() < _LEAST_FREE_MIB:
                self._home.discard(slot)
            if isinstance(error, OSError):
                raise self._disk(error) from None
            raise

    def _fetch(self, manifest: Manifest, slot: SlotName, active: SlotName | None) -> Transfer:
        store, trusted = self._open()
        tree, proofs = self._home.tree(slot), self._home.proofs(slot)
        seeds = [*([self._home.tree(active)] if active else []), *self._home.empty(slot)]
        store.unpack(manifest.proofs.digest, proofs)
        moved = store.unpack(manifest.tree.digest, tree, seeds=seeds)
        _prove(manifest, tree, proofs, trusted.proof_keys())
        self._home.seal(slot, manifest)
        for seed in self._home.tmp.glob("seed-*"):
            shutil.rmtree(seed, ignore_errors=True)
        return moved

    def _open(self) -> tuple[Store, TrustedStore]:
        if self._opened is None:
            from forge.store import open_store
            from forge.trust.client import TrustedStore

            cache = self._home.tmp
            store = open_store(self._device.store_url, environment=os.environ, cache=cache)
            self._opened = store, TrustedStore(store.objects, self._home.tuf, self._root)
        return self._opened

    def _disk(self, error: OSError) -> StoreError:
        free = self._home.free_mib()
        message = f"The bundle cannot be written to {self._home.path}"
        hint = f"{free} MiB are free there: make room; the active slot is untouched"
        return StoreError(message, why=str(error), hint=hint)


def _prove(manifest: Manifest, tree: Path, proofs: Path, keys: ProofKeys) -> None:
    from forge.serving.spec import read_spec
    from forge.trust.model import MAX_SIGNATURE_BYTES, verify_model_signature
    from forge.trust.provenance import MAX_PROVENANCE_BYTES, verify_provenance

    provenance = _read_proof(proofs / _PROVENANCE, MAX_PROVENANCE_BYTES)
    verify_provenance(provenance, keys, tree=manifest.tree.digest)
    spec = read_spec(tree)
    engine = tree / spec.repository / spec.model / "1" / "engine"
    signature = _read_proof(proofs / _MODEL_SIGNATURE, MAX_SIGNATURE_BYTES)
    verify_model_signature(signature, engine, keys)


def _read_proof(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(max_bytes + 1)
    except FileNotFoundError:
        message = f"The bundle has no {path.name}"
        raise TrustError(message, hint="do not use this bundle; report its publisher") from None
