"""Read the channel, decide whether its bundle may run here, and put it into a slot, verified.

Nothing is downloaded but signed metadata until the bundle is known to fit.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forge.bundle import Channel, Manifest
from forge.container import running_image
from forge.device.hardware import fit, profile_match
from forge.device.hardware.fit import Refusal
from forge.device.hardware.inventory import Hardware
from forge.device.hardware.profile_match import Detection, ProfileRequest
from forge.device.hardware.watch import HardwareWatch
from forge.device.shared.release import Release, SlotName, other
from forge.device.state.directory import StateDirectory
from forge.device.state.seen_versions import SeenVersions
from forge.device.state.settings import DeviceSettings
from forge.device.update import disk_space
from forge.device.update.resource_pressure import LEAST_FREE_MIB
from forge.device.update.system_fit import SystemFit, Unfit
from forge.errors import CorruptedError, ForgeError, StoreError, TrustError

if TYPE_CHECKING:
    from forge.store import Store, Transfer
    from forge.store.backends.mirrors import Standing
    from forge.store.progress import Moved, Progress
    from forge.trust.client import TrustedStore
    from forge.trust.proof_keys import ProofKeys

__all__ = ["Offer", "Updater"]


@dataclass(frozen=True, slots=True)
class Offer:
    """What the channel offers to this machine.

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
        home: the state directory.
        device: what it was provisioned with; or why that is not known, which every check raises.
        root_bytes: the root metadata all trust starts from.
        watch: says what this machine is; asked at each check.
        profile: a profile named by hand; overrides the provisioned one.
        gpu: a GPU named by hand; overrides the provisioned one.
        decided: gets each decision about the profile with its reasons, also that there is none.
    """

    def __init__(
        self,
        home: StateDirectory,
        device: DeviceSettings | ForgeError,
        root_bytes: bytes,
        watch: HardwareWatch,
        profile: str | None = None,
        gpu: str | None = None,
        decided: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._home = home
        self._device = device
        self._root = root_bytes
        self._watch = watch
        self._profile = profile
        self._decided = decided
        named = device.gpu if isinstance(device, DeviceSettings) else None
        self.system = SystemFit(home, watch, gpu or named)
        self._opened: tuple[Store, TrustedStore] | None = None
        self._used = threading.Lock()

    def check_channel(self, installed: Release | None = None) -> Offer:
        """Read what the channel points to. Downloads metadata only.

        Args:
            installed: what serves now; its disk space is its own already.

        Raises:
            ForgeError: the device's settings cannot be read.
            TrustError: a signature, expiry or version of the metadata is not valid.
            StoreError: the store cannot be reached; the channel or profile is not published.
            UsageError: the profile or the GPU named by hand is not there.
            FitError: no profile of the channel is for this machine, or that is not known now.
        """
        with self._alone():
            return self._check(installed)

    def unfit(self, installed: Release | None) -> Unfit:
        """Return whether what serves fits this machine as it last said; no store is read."""
        return self.system.check(installed, self._watch.current()) if installed else Unfit()

    def _check(self, installed: Release | None) -> Offer:
        hardware = self._watch.look()  # first: it is asked at each check, also without a store
        device = self._settings()
        _, trusted = self._open()
        trusted.refresh()
        channel = trusted.channel(device.name, device.channel)
        request = self._request(channel, device, installed)
        found = self._detect(hardware, channel, request)
        offer = self._offer(trusted, channel, found, hardware, installed)
        if not offer.refusals or installed is None:
            return offer
        unfit = self.system.check(installed, hardware)
        return self._fitting(trusted, channel, request, hardware, installed, unfit) or offer

    def _fitting(
        self,
        trusted: TrustedStore,
        channel: Channel,
        request: ProfileRequest,
        hardware: Hardware,
        installed: Release,
        unfit: Unfit,
    ) -> Offer | None:
        """Return what fits instead, where it is known that what serves does not any more."""
        if not unfit.certain:
            return None
        profiles = profile_match.candidates(channel)
        why = f"{installed} no longer fits ({unfit}), and the bundle of this profile does"
        for found in profile_match.others(hardware, profiles, request, why):
            offer = self._offer(trusted, channel, found, hardware, installed)
            if not offer.refusals:
                self._decided(str(found))
                return offer
        return None

    def _offer(
        self,
        trusted: TrustedStore,
        channel: Channel,
        found: Detection,
        hardware: Hardware,
        installed: Release | None,
    ) -> Offer:
        """Return what the channel has for a profile."""
        gpu = self.system.gpu
        manifest = trusted.channel_manifest(channel, found.profile)
        SeenVersions(self._home.path).check(manifest)
        release = Release.of(manifest)
        free_mib, size = None, 0
        if release != installed:
            inactive = other(self._home.current())
            free_mib, size = self._room(manifest, self._home.slots.replaced(inactive))
        serving_mib, served = self._serving_mib(manifest), trusted.served_memory(manifest)
        refusals = (
            *fit.check(manifest.fit, hardware, free_mib, size, serving_mib, gpu, served),
            *fit.check_serving(manifest.serving, running_image()),
        )
        # Read here: keys that are damaged are the store's fault and not this release's.
        return Offer(manifest, release, found, refusals, trusted.proof_keys())

    def _request(
        self, channel: Channel, device: DeviceSettings, installed: Release | None
    ) -> ProfileRequest:
        return ProfileRequest(
            profile=self._profile or device.profile,
            gpu=self.system.gpu,
            serving=installed.profile if installed else None,
            fallback=channel.fallback,
        )

    def _detect(self, hardware: Hardware, channel: Channel, request: ProfileRequest) -> Detection:
        """Choose the profile, and tell every decision with its reasons. Raises as `match`."""
        try:
            found = profile_match.match(hardware, profile_match.candidates(channel), request)
        except ForgeError as error:
            self._decided(str(error))
            raise
        self._decided(str(found))
        return found

    def places(self) -> tuple[Standing, ...]:
        """Return the state of store and mirrors; empty without mirrors or before a check."""
        from forge.store.backends.mirrors import Mirrors

        objects = self._opened[0].objects if self._opened else None
        return objects.standings() if isinstance(objects, Mirrors) else ()

    def fetch(
        self,
        offer: Offer,
        slot: SlotName,
        active: SlotName | None,
        progress: Progress | None = None,
        moved: Moved | None = None,
    ) -> Transfer:
        """Fill a slot with a bundle: only chunks that no slot holds are downloaded.

        When it returns, the slot is complete, verified and durable; until then
        `Slots.restore` brings its old content back, unless the disk was too small.

        Args:
            offer: what to fetch.
            slot: where to.
            active: the slot that serves; its files are not downloaded again.
            progress: called with (bytes done, bytes in total), from several threads.
            moved: called before it with the bytes that were downloaded.

        Raises:
            CancelledError: it was cancelled; the next fetch continues from what came.
            TrustError: a proof or a path in the tree is wrong; nothing of this bundle may run.
            StoreError: the store cannot be reached or is damaged, or the disk is full.
        """
        try:
            with self._alone():
                return self._fetch(offer, slot, active, progress, moved)
        except (OSError, StoreError) as error:
            # Half a bundle is worth keeping, but not a disk so full that nothing can be noted.
            if self._home.free_mib() < LEAST_FREE_MIB:
                self._home.slots.discard(slot)
            if isinstance(error, OSError):
                raise self._disk(error) from None
            raise

    def repair(self, slot: SlotName, release: Release) -> Transfer:
        """Repair a slot's tree: only chunks that are damaged or missing are downloaded.

        Raises:
            TrustError: the release is not what was signed.
            StoreError: the store cannot be reached or is damaged, the disk is full, or an update is
                being checked for or fetched.
        """
        try:
            with self._alone():
                return self._repair(slot, release)
        except OSError as error:
            raise self._disk(error) from None

    def _repair(self, slot: SlotName, release: Release) -> Transfer:
        store, _ = self._open()
        manifest = self._home.slots.manifest(slot)
        if manifest is None or Release.of(manifest) != release:
            manifest = self._published(release)
        document = store.tree(manifest.tree.digest).encode()
        seeds = [self._home.slots.tree(name) for name in (slot, other(slot))]
        new = self._home.slots.staged(slot)
        moved = store.unpack(manifest.tree.digest, new, seeds=seeds)
        self._home.slots.install(slot)
        self._home.slots.mark_complete(slot, manifest, document)
        return moved

    def _room(self, manifest: Manifest, gone: tuple[Path, ...]) -> tuple[int, int]:
        """Free disk once these folders are gone, MiB, and bytes of the bundle to be stored then."""
        free_mib = self._home.free_mib() + disk_space.reclaimable(gone) // 2**20
        size = manifest.tree.size + manifest.proofs.size
        if free_mib < fit.disk_mib(manifest.fit, size):  # the list of files is asked for only then
            size -= self._linked_bytes(manifest)
        return free_mib, size

    def _linked_bytes(self, manifest: Manifest) -> int:
        """Bytes of the bundle that the active slot holds: these files will be links."""
        from forge.store.formats.tree import parse

        active = self._home.current()
        held = self._home.slots.manifest(active) if active else None
        document = self._home.slots.tree_document(active) if active else b""
        if held is None or not document:
            return 0
        try:
            tree = parse(document, held.tree.digest, str(self._home.path))
        except (CorruptedError, TrustError):
            return 0
        store, _ = self._open()
        return disk_space.linked_bytes(store.tree(manifest.tree.digest), tree)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One use of the store and its metadata at a time: a slot is not repaired during a pull."""
        if not self._used.acquire(blocking=False):
            raise StoreError("The store is being read for an update", hint="it is retried")
        try:
            yield
        finally:
            self._used.release()

    def _serving_mib(self, manifest: Manifest) -> int:
        """Return the memory in use while this bundle starts; at least its own.

        The next version of a bundle starts while this one serves: a device without memory for two
        rejects it at once, and not only at the next update.
        """
        if manifest.serving.activation == "swap":
            return 0
        active = self._home.current()
        serving = self._home.slots.manifest(active) if active else None
        return max(manifest.fit.memory_mib, serving.fit.memory_mib if serving else 0)

    def _published(self, release: Release) -> Manifest:
        _, trusted = self._open()
        trusted.refresh()
        manifest = trusted.manifest(release.name, release.version, release.profile)
        if Release.of(manifest) != release:
            message = f"The manifest of {release} is another one now"
            raise TrustError(message, hint="install what the channel offers: forge device run")
        return manifest

    def _fetch(
        self,
        offer: Offer,
        slot: SlotName,
        active: SlotName | None,
        progress: Progress | None,
        moved: Moved | None,
    ) -> Transfer:
        from forge.trust import proofs

        store, _ = self._open()
        slots, manifest = self._home.slots, offer.manifest
        tree, folder = slots.tree(slot), slots.proofs(slot)
        old = slots.set_aside(slot)
        free_mib, size = self._room(manifest, (slots.folder(slot),))
        if free_mib < fit.disk_mib(manifest.fit, size):
            # The update goes before the way back while it is fetched, and before spared downloads.
            slots.drop_backup(slot)
        seeds = [*([slots.tree(active)] if active else []), *old]
        store.unpack(manifest.proofs.digest, folder)
        proofs.verify_provenance(folder, manifest, offer.keys)  # before the bundle's bytes move
        proofs.verify_accuracy(folder, manifest, offer.keys)
        document = store.tree(manifest.tree.digest).encode()
        transfer = store.unpack(
            manifest.tree.digest, tree, seeds=seeds, progress=progress, moved=moved
        )
        proofs.verify_model_signature(folder, tree, offer.keys)
        slots.mark_complete(slot, manifest, document)
        slots.drop_backup(slot)
        return transfer

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

    def _settings(self) -> DeviceSettings:
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
    from forge.store.backends.directory import DirectoryObjects

    if isinstance(store.objects, DirectoryObjects) and not Path(store.url).is_dir():
        message = f"No store at {store.url}"
        hint = "mount it, or name another: forge device provision --store URL …"
        raise StoreError(message, hint=hint)
