"""Check a `.forge` file without a device: every byte, the signatures, the proofs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from forge.canonical import Json
from forge.errors import NotInStoreError, TrustError
from forge.release.bundle_reader import BundlePart, SignedBundle, read_bundle, verify_proofs
from forge.release.export import ShowProgress
from forge.store import Store
from forge.store.backends.archive import ArchiveObjects
from forge.store.maintenance.check import Problem, check_store
from forge.trust import layout
from forge.trust.client import TrustedStore

__all__ = ["ArchiveReport", "check_archive"]

_SIGNED: Final = "tuf/"


@dataclass(frozen=True, slots=True)
class ArchiveReport:
    """Result of a check.

    Attributes:
        objects: number of objects that were read.
        bytes: their bytes.
        problems: damaged objects; with any, nothing else was checked.
        bundles: what can be installed from the file.
        channels: channels that a device may follow with it, sorted.
        expires: until when devices install from it; None: not known, because of the problems.
    """

    objects: int
    bytes: int
    problems: tuple[Problem, ...] = ()
    bundles: tuple[BundlePart, ...] = ()
    channels: tuple[str, ...] = ()
    expires: datetime | None = None

    def as_json(self) -> dict[str, Json]:
        """Return the report as JSON, for `--json`."""
        bundles: list[Json] = [
            {"name": one.name, "version": one.version, "profile": one.profile}
            for one in self.bundles
        ]
        return {
            "ok": not self.problems,
            "objects": self.objects,
            "bytes": self.bytes,
            "problems": [{"name": one.name, "reason": one.reason} for one in self.problems],
            "bundles": bundles,
            "channels": list(self.channels),
            "expires": f"{self.expires:%Y-%m-%dT%H:%M:%SZ}" if self.expires else None,
        }


def check_archive(
    path: Path, root: bytes, show: ShowProgress, *, now: datetime | None = None
) -> ArchiveReport:
    """Read every byte of a file, then verify signatures and proofs from a root that is trusted.

    Args:
        path: the file.
        root: the root metadata to trust.
        show: shows the progress.
        now: current time; None: the clock of this machine.

    Raises:
        CorruptedError: the file is cut off or changed outside of its objects.
        TrustError: a signature, an expiry or a proof is not valid.
        StoreError: the file cannot be read, or lacks an object.
    """
    objects = ArchiveObjects(path)
    sizes = {one.name: one.size for one in objects.entries("")}
    total = sum(sizes.values())
    problems: list[Problem] = []
    done = 0
    with show("Reading") as progress:
        for name, size in sizes.items():
            if not objects.has_recorded_digest(name):
                problems.append(Problem(name, "its bytes do not have the recorded digest"))
            done += size
            progress(done, total)
    with TemporaryDirectory(prefix="forge-verify-") as cache:
        store = Store(objects, cache=Path(cache))
        if not problems:
            with show("Verifying") as progress:
                problems += check_store(store, progress=progress).problems
        if problems:
            return ArchiveReport(len(sizes), total, tuple(problems))
        found = [_verify(store, root, part, now) for part in _parts(objects, root, now)]
    signed = {name for one in found for name in one.documents}
    extra = [name for name in sizes if name.startswith(_SIGNED) and name not in signed]
    if not found:
        raise TrustError(
            f"{path} has no bundle that can be installed",
            why="none of the published manifests is in it",
            hint="make it again with 'forge bundle export'",
        )
    return ArchiveReport(
        len(sizes),
        total,
        tuple(Problem(name, "nothing signed refers to it") for name in extra),
        tuple(_part(one) for one in found),
        tuple(sorted({channel for one in found for channel in one.channels})),
        min(one.expires for one in found),
    )


def _parts(objects: ArchiveObjects, root: bytes, now: datetime | None) -> Iterator[BundlePart]:
    """Yield the published manifests that are in the file."""
    with TemporaryDirectory(prefix="forge-trusted-") as folder:
        trusted = TrustedStore(objects, Path(folder), root, now)
        trusted.refresh()
        for path, target in trusted.targets(layout.BUNDLES).items():
            object_name = layout.target_name(path, target.hashes.get("sha256", ""))
            if objects.size(object_name) is not None:
                _, name, version, file = path.split("/")  # as the delegation's pattern says
                yield BundlePart(name, version, file.removesuffix(".json"))


def _verify(store: Store, root: bytes, part: BundlePart, now: datetime | None) -> SignedBundle:
    found = read_bundle(store.objects, root, part, now)
    if not found.channels:
        raise NotInStoreError(
            f"No channel in {store.url} points to {part}",
            hint="make the file again with 'forge bundle export'",
        )
    verify_proofs(store, found.manifest, found.keys)
    store.tree(found.manifest.tree.digest)
    return found


def _part(found: SignedBundle) -> BundlePart:
    return BundlePart(found.manifest.name, found.manifest.version, found.manifest.profile)
