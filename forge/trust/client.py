"""The TUF client over a store: what a device, or anyone, may believe of it.

    trusted = TrustedStore(objects, state_dir, root_bytes)
    trusted.refresh()
    channel = trusted.channel("demo", "stable")
    manifest = trusted.manifest("demo", channel.version, "development")

One process at a time may use a state folder; the device's agent holds a lock for that.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from forge.bundle import (
    MAX_DOCUMENT_BYTES,
    Channel,
    Manifest,
    channel_path,
    check_name,
    check_version,
    manifest_path,
    parse_channel,
    parse_manifest,
)
from forge.canonical import sha256
from forge.errors import CorruptedError, NotInStoreError, StoreError, TrustError, UsageError
from forge.files import fsync_directory, write_durably
from forge.store.objects import Objects, tries
from forge.trust import layout
from forge.trust.clock import TOLERANCE, LowerBound, believable, moment
from forge.trust.explain import tuf_errors
from forge.trust.proof_keys import (
    MAX_PROOF_KEYS_BYTES,
    ProofKeys,
    parse_proof_keys,
)

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile
    from tuf.ngclient.fetcher import FetcherInterface
    from tuf.ngclient.updater import Updater

__all__ = ["TrustedStore"]

_log = logging.getLogger(__name__)


class TrustedStore:
    """A store seen through signatures.

    Args:
        objects: where the metadata is read.
        state_dir: where trusted metadata is kept between runs, so that going back is noticed.
        root_bytes: the root metadata this device was set up with; all trust starts here.
        now: the time by this machine's clock; asked for at each refresh when None.
    """

    def __init__(
        self,
        objects: Objects,
        state_dir: Path,
        root_bytes: bytes,
        now: datetime | None = None,
    ) -> None:
        self._objects = objects
        self._dir = state_dir
        self._root = root_bytes
        self._now = now
        self._bound = LowerBound(state_dir / "time.json")
        self._asked: list[str] = []  # the object read last
        self._updater: Updater | None = None

    def refresh(self) -> None:
        """Read and verify the newest metadata; may be called again at any time.

        Raises:
            TrustError: a signature, an expiry, a version or a digest does not hold.
            StoreError: the store is out of reach, or the state folder cannot be written.
        """
        clock = self._now or datetime.now(UTC)
        with _disk_errors(self._dir):
            while True:
                now = max(clock, self._bound.read())
                updater = self._new_updater(now)
                try:
                    self._refresh(updater)
                except TrustError:
                    if not self._again(updater):
                        raise
                else:
                    break
            self._move_on(updater, clock, now)
        self._updater = updater

    def _refresh(self, updater: Updater) -> None:
        with tuf_errors(self._objects.url):
            try:
                updater.refresh()
            finally:
                _make_durable(self._dir)

    def _again(self, updater: Updater) -> bool:
        """Whether to try once more: time was wrong, or another mirror may tell the truth."""
        if self._bound.outdated(_timestamp_keys(updater)):
            self._bound.forget()
            return True
        return any(self._objects.doubt(name) for name in self._asked)

    def _move_on(self, updater: Updater, clock: datetime, now: datetime) -> None:
        """Judge expiry by the moment the timestamp was signed if that is later, and keep it.

        Unless it is not believable: then this machine's time counts, and nothing is kept.
        """
        signed_at = _signed_at(updater)
        if signed_at is None:
            return
        if not believable(signed_at, clock, now):
            _log.warning(
                "Metadata was signed on %s, this machine's clock says %s: one of them is wrong. "
                "Expiry is judged by this machine's; see to its clock and to the publisher's.",
                f"{signed_at:%Y-%m-%d}", f"{clock:%Y-%m-%d}",
            )  # fmt: skip
            return
        if clock < signed_at - TOLERANCE:
            _log.warning(
                "This machine's clock says %s, and metadata was signed on %s: set the clock "
                "('timedatectl set-ntp true').", f"{clock:%Y-%m-%d}", f"{signed_at:%Y-%m-%d}",
            )  # fmt: skip
        trusted = updater._trusted_set  # noqa: SLF001  as in _new_updater
        trusted.reference_time = max(now, signed_at)
        for role in trusted:
            if role.is_expired(trusted.reference_time):
                raise TrustError(
                    f"The release metadata in {self._objects.url} has expired",
                    why=f"{role.type} expired before the timestamp was signed",
                    hint="the publisher runs 'forge keys refresh'; nothing was changed here",
                )
        self._bound.raise_to(signed_at, _timestamp_keys(updater))

    def channel(self, name: str, channel: str) -> Channel:
        """What a channel points to. Raises NotInStoreError, TrustError, StoreError."""
        path = channel_path(check_name(name, "Bundle"), check_name(channel, "Channel"))
        found = parse_channel(self._target(path, MAX_DOCUMENT_BYTES))
        if (found.name, found.channel) != (name, channel):
            raise _misplaced(path, f"{found.name}/{found.channel}")
        return found

    def manifest(self, name: str, version: str, profile: str) -> Manifest:
        """One profile of one bundle. Raises NotInStoreError, TrustError, StoreError."""
        path = manifest_path(
            check_name(name, "Bundle"), check_version(version), check_name(profile, "Profile")
        )
        found = parse_manifest(self._target(path, MAX_DOCUMENT_BYTES))
        if (found.name, found.version, found.profile) != (name, version, profile):
            raise _misplaced(path, f"{found.name} {found.version} {found.profile}")
        return found

    def proof_keys(self) -> ProofKeys:
        """Keys for `verify_provenance` and `verify_model_signature`. Raises as `manifest`."""
        return parse_proof_keys(self._target(layout.PROOF_KEYS_PATH, MAX_PROOF_KEYS_BYTES))

    def _new_updater(self, now: datetime) -> Updater:
        from tuf.ngclient.updater import Updater

        metadata = self._dir / "metadata"
        with _root_errors(), _disk_errors(self._dir):
            _sweep(self._dir)
            metadata.mkdir(parents=True, exist_ok=True)
            updater = Updater(
                str(metadata),
                layout.METADATA_PREFIX,
                fetcher=_fetcher(self._objects, self._asked),
                bootstrap=self._root,
            )
        # python-tuf has no argument for the time; this attribute is where all its checks look.
        updater._trusted_set.reference_time = now  # noqa: SLF001
        return updater

    def _target(self, path: str, max_bytes: int) -> bytes:
        if self._updater is None:
            raise UsageError("TrustedStore.refresh() comes before reading")
        with tuf_errors(self._objects.url), _disk_errors(self._dir):
            info = self._info(self._updater, path)
            if info is None:
                hint = "forge bundle list shows what is published"
                raise NotInStoreError(f"{path} is not published in {self._objects.url}", hint=hint)
            if info.length > max_bytes:
                raise TrustError(f"{path} is larger than {max_bytes} bytes")
            digest = info.hashes.get("sha256")
            if digest is None:
                raise TrustError(f"{path} is signed without a SHA-256")
            return self._cached(path, digest, info.length)

    def _info(self, updater: Updater, path: str) -> TargetFile | None:
        """What is signed of a target; a mirror with wrong metadata is passed over."""
        from tuf.api.exceptions import RepositoryError

        while True:
            try:
                return updater.get_targetinfo(path)
            except RepositoryError:
                if not any(self._objects.doubt(name) for name in self._asked):
                    raise

    def _cached(self, path: str, digest: str, length: int) -> bytes:
        cached = self._dir / "targets" / digest
        try:
            data = cached.read_bytes() if cached.stat().st_size == length else b""
        except FileNotFoundError:
            data = b""
        if sha256(data) == digest:
            return data
        name = layout.target_name(path, digest)
        for _ in tries(self._objects, name):
            try:
                data = self._objects.read(name, max_bytes=length).data
            except CorruptedError:
                continue
            if len(data) == length and sha256(data) == digest:
                break
        else:
            raise _altered(path, self._objects.url)
        write_durably(cached, data)
        self._prune(cached)
        return data

    def _prune(self, newest: Path, keep: int = 32) -> None:
        files = sorted(newest.parent.iterdir(), key=lambda file: file.stat().st_mtime)
        for file in files[:-keep]:
            if file != newest:
                file.unlink(missing_ok=True)


def _timestamp_keys(updater: Updater) -> list[str]:
    """Ids of the keys that root names for the timestamp."""
    return list(updater._trusted_set.root.roles["timestamp"].keyids)  # noqa: SLF001  no public way


def _signed_at(updater: Updater) -> datetime | None:
    """When the timestamp says it was signed. Raises TrustError if that is no time."""
    return moment(updater._trusted_set.timestamp.unrecognized_fields.get("signed_at"))  # noqa: SLF001


def _misplaced(path: str, found: str) -> TrustError:
    return TrustError(
        f"{path} holds another document",
        why=f"it says it is {found}",
        hint="do not use this bundle; report its publisher",
    )


def _altered(path: str, place: str) -> TrustError:
    return TrustError(
        f"{path} in {place} is not what was signed",
        why="its length or SHA-256 differs",
        hint="ask the publisher to publish it again; nothing was changed here",
    )


def _sweep(folder: Path) -> None:
    """Delete what a killed process left half-written: python-tuf's files and our own."""
    for left in (*folder.glob("metadata/tmp*"), *folder.rglob(".tmp-*")):
        if left.suffix != ".json":  # a role may be called so
            left.unlink(missing_ok=True)


def _make_durable(folder: Path) -> None:
    """Flush what python-tuf wrote: it renames files into place but never calls fsync."""
    for parent, _, files in os.walk(folder):
        for file in files:
            path = Path(parent, file)
            if path.is_symlink():
                continue
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        fsync_directory(Path(parent))


@contextlib.contextmanager
def _root_errors() -> Iterator[None]:
    """What is wrong with the root that this machine was given, as TrustError."""
    from tuf.api.exceptions import RepositoryError

    try:
        yield
    except RepositoryError as error:
        raise TrustError(
            "The root metadata of this device is not valid",
            why=str(error),
            hint="give it a root.json from a source you trust, what serves now serves on: "
            "forge device provision --store URL --root root.json --name NAME",
        ) from None


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """OSError of the state folder as StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"Cannot keep trusted metadata in {folder}",
            why=str(error),
            hint="free disk space or fix the folder's rights, then run it again",
        ) from None


def _fetcher(objects: Objects, asked: list[str]) -> FetcherInterface:
    """python-tuf's network over a store; `asked` is made to hold the name that was read last."""
    from tuf.api.exceptions import DownloadHTTPError, DownloadLengthMismatchError
    from tuf.ngclient.fetcher import FetcherInterface

    class StoreFetcher(FetcherInterface):
        """python-tuf's network, over Objects: never reads more than the cap."""

        def _fetch(self, url: str) -> Iterator[bytes]:
            yield self.download_bytes(url, layout.max_metadata_bytes("targets"))

        def download_bytes(self, url: str, max_length: int) -> bytes:
            asked[:] = [url]
            try:
                return objects.read(url, max_bytes=max_length).data
            except NotInStoreError as error:
                raise DownloadHTTPError(f"{url} is not there", 404) from error
            except CorruptedError as error:
                raise DownloadLengthMismatchError(error.what) from error

    return StoreFetcher()
