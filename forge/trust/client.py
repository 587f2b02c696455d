"""The TUF client: read verified channels and manifests from a store.

    trusted = TrustedStore(objects, state_dir, root_bytes)
    trusted.refresh()
    channel = trusted.channel("demo", "stable")
    manifest = trusted.channel_manifest(channel, "development")

Only one process at a time may use a state folder; the device's agent holds a lock for it.
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
    parse_manifest_digests,
)
from forge.canonical import sha256
from forge.errors import (
    CorruptedError,
    NotInStoreError,
    StoreError,
    TrustError,
    UsageError,
    not_found,
)
from forge.files import fsync_directory, write_durably
from forge.memory.formula import ServedMemory
from forge.memory.signed import parse_served_memory
from forge.store.backends.protocol import Objects, read_attempts
from forge.trust import layout
from forge.trust.clock import TOLERANCE, LowerBound, believable, moment
from forge.trust.proof_keys import (
    MAX_PROOF_KEYS_BYTES,
    ProofKeys,
    parse_proof_keys,
)
from forge.trust.tuf_errors import tuf_errors

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile
    from tuf.ngclient.fetcher import FetcherInterface
    from tuf.ngclient.updater import Updater

__all__ = ["TrustedStore"]

_log = logging.getLogger(__name__)


class TrustedStore:
    """Verified channels, manifests and keys of a store.

    Args:
        objects: the store.
        state_dir: folder for trusted metadata between runs, which detects rollback attacks.
        root_bytes: the root metadata that this device was provisioned with, the root of trust.
        now: current time; None: the clock of this machine at each refresh.
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
        self._requested: list[str] = []  # name of the object read last
        self._updater: Updater | None = None

    def refresh(self) -> None:
        """Read and verify the newest metadata; may be called again at any time.

        Raises:
            TrustError: a signature, an expiry, a version or a digest is not valid.
            StoreError: the store is unreachable, or the state folder cannot be written.
        """
        clock = self._now or datetime.now(UTC)
        with _disk_errors(self._dir):
            while True:
                now = max(clock, self._bound.read())
                updater = self._new_updater(now)
                try:
                    self._refresh(updater)
                except TrustError:
                    if not self._should_retry(updater):
                        raise
                else:
                    break
            self._raise_time_bound(updater, clock, now)
        self._updater = updater

    def _refresh(self, updater: Updater) -> None:
        with tuf_errors(self._objects.url):
            try:
                updater.refresh()
            finally:
                _make_durable(self._dir)

    def _should_retry(self, updater: Updater) -> bool:
        """Return whether to retry: the time bound was wrong, or another mirror may be correct."""
        if self._bound.outdated(_timestamp_keys(updater)):
            self._bound.forget()
            return True
        return any(self._objects.report_bad_copy(name) for name in self._requested)

    def _raise_time_bound(self, updater: Updater, clock: datetime, now: datetime) -> None:
        """Raise the lower bound of the time to that of the timestamp's signature, if it is later.

        A signing time that is not plausible is ignored: then this machine's clock is used.
        """
        signed_at = _signed_at(updater)
        if signed_at is None:
            return
        if not believable(signed_at, clock, now):
            _log.warning(
                "Metadata was signed on %s, but this machine's clock is at %s. Expiry is checked "
                "against this machine's clock; check both its clock and the publisher's.",
                f"{signed_at:%Y-%m-%d}", f"{clock:%Y-%m-%d}",
            )  # fmt: skip
            return
        if clock < signed_at - TOLERANCE:
            _log.warning(
                "This machine's clock is at %s, but metadata was signed on %s: set the clock "
                "('timedatectl set-ntp true').", f"{clock:%Y-%m-%d}", f"{signed_at:%Y-%m-%d}",
            )  # fmt: skip
        trusted = updater._trusted_set  # noqa: SLF001  as in _new_updater
        trusted.reference_time = max(now, signed_at)
        for role in trusted:
            if role.is_expired(trusted.reference_time):
                raise TrustError(
                    f"The release metadata in {self._objects.url} has expired",
                    why=f"{role.type} expired before the timestamp was signed",
                    hint="the publisher must run 'forge keys refresh'; nothing was changed",
                )
        self._bound.raise_to(signed_at, _timestamp_keys(updater))

    def channel(self, name: str, channel: str) -> Channel:
        """Return a channel. Raises NotInStoreError, TrustError, StoreError."""
        path = channel_path(check_name(name, "Bundle"), check_name(channel, "Channel"))
        found = parse_channel(self._target(path, MAX_DOCUMENT_BYTES))
        if (found.name, found.channel) != (name, channel):
            raise _misplaced(path, f"{found.name}/{found.channel}")
        return found

    def channel_manifest(self, channel: Channel, profile: str) -> Manifest:
        """Return the manifest that a channel offers to one profile.

        The promotion key signs its digest with the channel, so the build key alone cannot put other
        content on a channel. A channel of a version of Forge before that names no digests.

        Raises as `manifest`, and TrustError if it is not the one that the channel names.
        """
        path = channel_path(channel.name, channel.channel)
        named = parse_manifest_digests(self._signed(path).unrecognized_fields.get("custom"), path)
        found = self.manifest(channel.name, channel.version, profile)
        if named is None:
            return found
        signed = self._signed(manifest_path(channel.name, channel.version, profile))
        if named.get(profile) != signed.hashes["sha256"]:
            raise TrustError(
                f"{channel.name} {channel.version} for {profile} is not what channel "
                f"{channel.channel} names",
                why="the channel names another manifest, and only the build key signed this one",
                hint="do not use this bundle; tell its publisher that the build key may be stolen",
            )
        return found

    def channels(self) -> dict[str, list[str]]:
        """Return the names of all channels by bundle, after `channel` was called; sorted."""
        return self._listed(layout.CHANNELS)

    def manifest(self, name: str, version: str, profile: str) -> Manifest:
        """Return the manifest of one profile. Raises NotInStoreError, TrustError, StoreError."""
        path = manifest_path(
            check_name(name, "Bundle"), check_version(version), check_name(profile, "Profile")
        )
        found = parse_manifest(self._target(path, MAX_DOCUMENT_BYTES))
        if (found.name, found.version, found.profile) != (name, version, profile):
            raise _misplaced(path, f"{found.name} {found.version} {found.profile}")
        return found

    def served_memory(self, manifest: Manifest) -> ServedMemory | None:
        """Return how the memory of a release was computed, which is signed with its manifest.

        None where its publisher did not say. Raises as `manifest`.
        """
        path = manifest_path(manifest.name, manifest.version, manifest.profile)
        return parse_served_memory(self._signed(path).unrecognized_fields.get("custom"))

    def targets(self, role: str) -> dict[str, TargetFile]:
        """Return what is signed about each target of `bundles` or `channels`, by path.

        Raises as `manifest`.
        """
        if self._updater is None:
            raise UsageError("call TrustedStore.refresh() before reading")
        # python-tuf reads the metadata of a role when it looks for a path of it.
        any_path = "*/*/*.json" if role == layout.BUNDLES else "*/*.json"
        with tuf_errors(self._objects.url), _disk_errors(self._dir):
            self._info(self._updater, f"{role}/{any_path}")
        found = self._updater._trusted_set.get(role)  # noqa: SLF001  as in _listed
        if found is None:
            raise TrustError(f"The release metadata in {self._objects.url} lacks the role {role}")
        return dict(sorted(getattr(found, "targets", {}).items()))

    def proof_keys(self) -> ProofKeys:
        """Return the keys that verify proofs. Raises as `manifest`."""
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
                fetcher=_fetcher(self._objects, self._requested),
                bootstrap=self._root,
            )
        # python-tuf has no argument for the time; all of its checks read this attribute.
        updater._trusted_set.reference_time = now  # noqa: SLF001
        return updater

    def _target(self, path: str, max_bytes: int) -> bytes:
        info = self._signed(path)
        if info.length > max_bytes:
            raise TrustError(f"{path} is larger than {max_bytes} bytes")
        with tuf_errors(self._objects.url), _disk_errors(self._dir):
            return self._cached(path, info.hashes["sha256"], info.length)

    def _signed(self, path: str) -> TargetFile:
        """Return what is signed about a target, with its SHA-256."""
        if self._updater is None:
            raise UsageError("call TrustedStore.refresh() before reading")
        with tuf_errors(self._objects.url), _disk_errors(self._dir):
            info = self._info(self._updater, path)
        if info is None:
            raise self._unpublished(path)
        if "sha256" not in info.hashes:
            raise TrustError(f"{path} is signed without a SHA-256")
        return info

    def _unpublished(self, path: str) -> NotInStoreError:
        """Return the error for a target that does not exist, with the name probably meant."""
        kind, name, *_ = path.split("/")
        known = self._listed(kind)
        if kind == layout.CHANNELS and name in known:
            channel = Path(path).stem
            what = f"{name} has no channel {channel!r} in {self._objects.url}"
            hint = not_found(what, channel, known[name]).hint
        else:
            what = f"{path} is not published in {self._objects.url}"
            hint = not_found(what, name, sorted(known)).hint if name not in known else ""
        return NotInStoreError(what, hint=hint or "run 'forge bundle list' where it is published")

    def _listed(self, kind: str) -> dict[str, list[str]]:
        """Return the documents of a role that was verified, by bundle; both are sorted."""
        found: dict[str, list[str]] = {}
        # python-tuf has no method that lists targets; it has just verified this metadata.
        role = self._updater._trusted_set.get(kind) if self._updater else None  # noqa: SLF001
        for path in sorted(getattr(role, "targets", ())):
            _, name, *_, file = path.split("/")
            found.setdefault(name, []).append(file.removesuffix(".json"))
        return found

    def _info(self, updater: Updater, path: str) -> TargetFile | None:
        """Return the signed length and digest of a target, trying other mirrors on bad metadata."""
        from tuf.api.exceptions import RepositoryError

        while True:
            try:
                return updater.get_targetinfo(path)
            except RepositoryError:
                if not any(self._objects.report_bad_copy(name) for name in self._requested):
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
        for _ in read_attempts(self._objects, name):
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
    """Return the ids of the timestamp keys in root."""
    return list(updater._trusted_set.root.roles["timestamp"].keyids)  # noqa: SLF001  no public API


def _signed_at(updater: Updater) -> datetime | None:
    """Return the signing time in the timestamp. Raises TrustError if it is not valid."""
    return moment(updater._trusted_set.timestamp.unrecognized_fields.get("signed_at"))  # noqa: SLF001


def _misplaced(path: str, found: str) -> TrustError:
    return TrustError(
        f"{path} contains another document",
        why=f"it is for {found}",
        hint="do not use this bundle; contact its publisher",
    )


def _altered(path: str, place: str) -> TrustError:
    return TrustError(
        f"{path} in {place} does not match its signature",
        why="its length or SHA-256 differs",
        hint="ask the publisher to publish it again; nothing was changed",
    )


def _sweep(folder: Path) -> None:
    """Delete the partial files of a killed process, python-tuf's and our own."""
    for left in (*folder.glob("metadata/tmp*"), *folder.rglob(".tmp-*")):
        if left.suffix != ".json":  # a role may have such a name
            left.unlink(missing_ok=True)


def _make_durable(folder: Path) -> None:
    """Sync the files that python-tuf wrote: it renames them into place without fsync."""
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
    """Raise the errors of the provisioned root as TrustError."""
    from tuf.api.exceptions import RepositoryError

    try:
        yield
    except RepositoryError as error:
        raise TrustError(
            "The root metadata of this device is not valid",
            why=str(error),
            hint="provision it with a trusted root.json (the active release keeps serving): "
            "forge device provision --store URL --root root.json --name NAME",
        ) from None


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Raise an OSError of the state folder as StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"Could not write trusted metadata to {folder}",
            why=str(error),
            hint="free disk space or fix the folder's permissions, then run the command again",
        ) from None


def _fetcher(objects: Objects, requested: list[str]) -> FetcherInterface:
    """Return a fetcher of python-tuf that reads a store and sets `requested` to the last name."""
    from tuf.api.exceptions import DownloadHTTPError, DownloadLengthMismatchError
    from tuf.ngclient.fetcher import FetcherInterface

    class StoreFetcher(FetcherInterface):
        """Fetcher that reads `Objects`, never more than the maximum length.

        What python-tuf calls a URL is an object name, as `layout.metadata_name` returns it.
        """

        def _fetch(self, url: str) -> Iterator[bytes]:
            yield self.download_bytes(url, layout.max_metadata_bytes("targets"))

        def download_bytes(self, url: str, max_length: int) -> bytes:
            requested[:] = [url]
            try:
                return objects.read(url, max_bytes=max_length).data
            except NotInStoreError as error:
                raise DownloadHTTPError(f"{url} does not exist", 404) from error
            except CorruptedError as error:
                raise DownloadLengthMismatchError(error.what) from error

    return StoreFetcher()
