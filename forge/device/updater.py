"""Read the channel, decide whether its bundle may run here, and put it into a slot, verified.

Nothing is downloaded but signed metadata until the bundle is known to fit.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forge.bundle import Manifest
from forge.container import running_image
from forge.device import detection, fit, space
from forge.device.detection import Detection
from forge.device.fit import Refusal
from forge.device.hardware import Hardware
from forge.device.journal import Release, SlotName, other
from forge.device.room import LEAST_FREE_MIB
from forge.device.slots import Home, Provisioned
from forge.errors import CorruptedError, ForgeError, StoreError, TrustError

if TYPE_CHECKING:
    from forge.store import Store, Transfer
    from forge.store.mirrors import Standing
    from forge.trust.client import TrustedStore
    from forge.trust.proof_keys import ProofKeys

__all__ = ["Offer", "Updater"]


@dataclass(frozen=True, slots=True)
class Offer:
    """What the channel has for this machine.

    Attributes:
        manifest: of the bundle.
        release: the same, by digest.
        detection: which profile this machine has.
        refusals: why it may not run here.
        keys: that its proofs must be made with.
    """

    manifest: Manifest
    release: Release
    detection: Detection
    refusals: tuple[Refusal, ...]
    keys: ProofKeys

    def require_fit(self) -> None:
        """Raise FitError that lists every refusal."""
        fit.require(self.refusals, str(self.release))


class Updater:
    """The store as this device sees it.

    Args:
        home: the state folder.
        device: what it was provisioned with; or why that is not known, which every look raises.
        root_bytes: the root metadata all trust starts from.
        hardware: what this machine is.
        profile: a profile named by hand; wins over the provisioned one.
    """

    def __init__(
        self,
        home: Home,
        device: Provisioned | ForgeError,
        root_bytes: bytes,
        hardware: Hardware,
        profile: str | None = None,
    ) -> None:
        self._home = home
        self._device = device
        self._root = root_bytes
        self._hardware = hardware
        self._profile = profile
        self._opened: tuple[Store, TrustedStore] | None = None
        self._used = threading.Lock()

    def look(self, installed: Release | None = None) -> Offer:
        """Read what the channel points to. Downloads metadata only.

        Args:
            installed: what serves now; its disk space is its own already.

        Raises:
            ForgeError: whatever keeps the device's settings from being known.
            TrustError: a signature, expiry or version of the metadata does not hold.
            StoreError: the store is out of reach; the channel or profile is not published.
            UsageError: the profile named by hand is not in the channel.
            FitError: no profile of the channel is for this machine.
        """
        with self._alone():
            return self._look(installed)

    def _look(self, installed: Release | None) -> Offer:
        device = self._settings()
        _, trusted = self._open()
        trusted.refresh()
        channel = trusted.channel(device.name, device.channel)
        profile = self._profile or device.profile
        found = detection.match(self._hardware, detection.candidates(channel), profile)
        manifest = trusted.manifest(channel.name, channel.version, found.profile)
        release = Release.of(manifest)
        free_mib, size = None, 0
        if release != installed:
            inactive = other(self._home.current())
            free_mib, size = self._room(manifest, self._home.replaced(inactive))
        refusals = (
            *fit.check(manifest.fit, self._hardware, free_mib, size, self._beside_mib(manifest)),
            *fit.check_serving(manifest.serving, running_image()),
        )
        # Read here: keys that are damaged are the store's fault and not this release's.
        return Offer(manifest, release, found, refusals, trusted.proof_keys())

    def places(self) -> tuple[Standing, ...]:
        """How the store and its mirrors have done; empty without mirrors, or before a look."""
        from forge.store.mirrors import Mirrors

        objects = self._opened[0].objects if self._opened else None
        return objects.standings() if isinstance(objects, Mirrors) else ()

    def fetch(self, offer: Offer, slot: SlotName, active: SlotName | None) -> Transfer:
        """Fill a slot with a bundle: only chunks that no slot holds are downloaded.

        When it returns, the slot is complete, verified and durable; until then `Home.restore`
        brings its old content back, unless the disk was too small for both.

        Raises:
            StoppedError: nobody wants it any more; the next fetch goes on from what came.
            TrustError: a proof or a path in the tree is wrong; nothing of this bundle may run.
            StoreError: the store is out of reach or damaged, or the disk is full.
        """
        try:
            with self._alone():
                return self._fetch(offer, slot, active)
        except (OSError, StoreError) as error:
            # Half a bundle is worth keeping, but not a disk so full that nothing can be noted.
            if self._home.free_mib() < LEAST_FREE_MIB:
                self._home.discard(slot)
            if isinstance(error, OSError):
                raise self._disk(error) from None
            raise

    def heal(self, slot: SlotName, release: Release) -> Transfer:
        """Make a slot's tree whole again: only chunks that are damaged or missing are downloaded.

        Raises:
            TrustError: the release is not what was signed.
            StoreError: the store is out of reach or damaged, the disk is full, or an update is
                being looked for or fetched.
        """
        try:
            with self._alone():
                return self._heal(slot, release)
        except OSError as error:
            raise self._disk(error) from None

    def _heal(self, slot: SlotName, release: Release) -> Transfer:
        store, _ = self._open()
        manifest = self._home.manifest(slot)
        if manifest is None or Release.of(manifest) != release:
            manifest = self._published(release)
        document = store.tree(manifest.tree.digest).encode()
        seeds = [self._home.tree(name) for name in (slot, other(slot))]
        new = self._home.replacement(slot)
        moved = store.unpack(manifest.tree.digest, new, seeds=seeds)
        self._home.adopt(slot)
        self._home.seal(slot, manifest, document)
        return moved

    def _room(self, manifest: Manifest, gone: tuple[Path, ...]) -> tuple[int, int]:
        """Free disk once these folders are gone, MiB, and bytes of the bundle to be stored then."""
        free_mib = self._home.free_mib() + space.reclaimable(gone) // 2**20
        size = manifest.tree.size + manifest.proofs.size
        if free_mib < fit.disk_mib(manifest.fit, size):  # the list of files is asked for only then
            size -= self._linked_bytes(manifest)
        return free_mib, size

    def _linked_bytes(self, manifest: Manifest) -> int:
        """Bytes of the bundle that the active slot holds: these files will be links."""
        from forge.store.trees import parse

        active = self._home.current()
        held = self._home.manifest(active) if active else None
        document = self._home.tree_document(active) if active else b""
        if held is None or not document:
            return 0
        try:
            tree = parse(document, held.tree.digest, str(self._home.path))
        except (CorruptedError, TrustError):
            return 0
        store, _ = self._open()
        return space.linked_bytes(store.tree(manifest.tree.digest), tree)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One use of the store and its metadata at a time: a slot is not healed during a pull."""
        if not self._used.acquire(blocking=False):
            raise StoreError("The store is being read for an update", hint="it is tried again")
        try:
            yield
        finally:
            self._used.release()

    def _beside_mib(self, manifest: Manifest) -> int:
        """Memory of what serves while this one starts; its own again if nothing needs more.

        The next version of a bundle starts beside this one: a device without room for two refuses
        it at once, and not first when it is updated.
        """
        if manifest.serving.activation == "swap":
            return 0
        active = self._home.current()
        serving = self._home.manifest(active) if active else None
        return max(manifest.fit.memory_mib, serving.fit.memory_mib if serving else 0)

    def _published(self, release: Release) -> Manifest:
        _, trusted = self._open()
        trusted.refresh()
        manifest = trusted.manifest(release.name, release.version, release.profile)
        if Release.of(manifest) != release:
            message = f"The manifest of {release} is another one now"
            raise TrustError(message, hint="install what the channel offers: forge device run")
        return manifest

    def _fetch(self, offer: Offer, slot: SlotName, active: SlotName | None) -> Transfer:
        from forge.trust import proofs

        store, _ = self._open()
        manifest, tree, folder = offer.manifest, self._home.tree(slot), self._home.proofs(slot)
        old = self._home.empty(slot)
        free_mib, size = self._room(manifest, (self._home.slot(slot),))
        if free_mib < fit.disk_mib(manifest.fit, size):
            # The update goes before the way back while it is fetched, and before spared downloads.
            self._home.forget(slot)
        seeds = [*([self._home.tree(active)] if active else []), *old]
        store.unpack(manifest.proofs.digest, folder)
        proofs.verify_provenance(folder, manifest, offer.keys)  # before the bundle's bytes move
        document = store.tree(manifest.tree.digest).encode()
        moved = store.unpack(manifest.tree.digest, tree, seeds=seeds)
        proofs.verify_model_signature(folder, tree, offer.keys, work=self._home.tmp)
        self._home.seal(slot, manifest, document)
        self._home.forget(slot)
        return moved

    def _open(self) -> tuple[Store, TrustedStore]:
        if isinstance(self._device, ForgeError):
            raise self._device
        if self._opened is None:
            from forge.store import open_store
            from forge.trust.client import TrustedStore

            store = open_store(
                self._device.store_url,
                environment=os.environ,
                cache=self._home.tmp,
                mirrors=self._device.mirrors,
                limit_rate=self._device.limit_rate,
            )
            _require_folder(store)
            self._opened = store, TrustedStore(store.objects, self._home.tuf, self._root)
        return self._opened

    def _settings(self) -> Provisioned:
        if isinstance(self._device, ForgeError):
            raise self._device
        return self._device

    def _disk(self, error: OSError) -> StoreError:
        free = self._home.free_mib()
        message = f"The bundle cannot be written to {self._home.path}"
        hint = f"{free} MiB are free there: make room; the active slot is untouched"
        return StoreError(message, why=str(error), hint=hint)


def _require_folder(store: Store) -> None:
    """A folder that is not there is a disk that is not mounted, not a store without metadata."""
    from forge.store.directory import DirectoryObjects

    if isinstance(store.objects, DirectoryObjects) and not Path(store.url).is_dir():
        message = f"There is no store at {store.url}"
        hint = "mount it, or name another: forge device provision --store URL …"
        raise StoreError(message, hint=hint)
