"""Export one bundle for one profile into a `.forge` file, and unpack one for other tools.

The trees are unpacked and stored again, so that the file has the chunks of this bundle only, in
packs of its own: packs of the store hold chunks of other versions too. The signed metadata is
copied as it is.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from forge.bundle import Manifest, TreeReference
from forge.canonical import Json
from forge.errors import CorruptedError, UsageError
from forge.release.bundle_reader import BundlePart, SignedBundle, read_bundle, verify_proofs
from forge.store import Store
from forge.store.backends.archive import write_archive
from forge.store.backends.directory import DirectoryObjects
from forge.store.disk_errors import disk_errors
from forge.store.formats.archive import SUFFIX
from forge.store.progress import Progress

__all__ = ["Exported", "ShowProgress", "export_bundle", "pull_bundle"]

ShowProgress = Callable[[str], AbstractContextManager[Progress]]
"""Returns a context that shows the progress of what it is named after."""

_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Exported:
    """Result of an export.

    Attributes:
        file: the file.
        size: its bytes.
        part: what is in it.
        channels: channels that a device may follow with it.
        expires: until when devices install from it.
    """

    file: Path
    size: int
    part: BundlePart
    channels: tuple[str, ...]
    expires: datetime

    def as_json(self) -> dict[str, Json]:
        """Return the result as JSON, for `--json`."""
        return {
            "file": str(self.file),
            "bytes": self.size,
            "name": self.part.name,
            "version": self.part.version,
            "profile": self.part.profile,
            "channels": list(self.channels),
            "expires": f"{self.expires:{_TIME}}",
        }


def export_bundle(
    store: Store,
    root: bytes,
    part: BundlePart,
    output: Path,
    show: ShowProgress,
    *,
    now: datetime | None = None,
) -> Exported:
    """Write a `.forge` file that a device can install from without a network.

    Args:
        store: the store.
        root: the root metadata to trust.
        part: what to export.
        output: the file; an older one is replaced.
        show: shows the progress of each phase.
        now: current time; None: the clock of this machine.

    Raises:
        UsageError: no channel points to the version, or the file has another suffix.
        NotInStoreError: it is not published, or its trees are gone.
        TrustError: a device would refuse it.
        StoreError: the store is unreachable or damaged, or the disk is full.
    """
    if output.suffix != SUFFIX:
        hint = f"a device opens only such files as a store: -o {output.stem or 'bundle'}{SUFFIX}"
        raise UsageError(f"{output} does not end with {SUFFIX}", hint=hint)
    found = read_bundle(store.objects, root, part, now)
    if not found.channels:
        raise UsageError(
            f"No channel of {part.name} points to {part.version}",
            why="a device follows a channel, so it could not install from this file",
            hint=f"forge promote {part.version} CHANNEL --name {part.name}",
        )
    verify_proofs(store, found.manifest, found.keys)
    with TemporaryDirectory(prefix="forge-export-") as folder:
        objects = DirectoryObjects(Path(folder, "objects"))
        _copy_trees(store, Store(objects, cache=Path(folder, "cache")), found, Path(folder), show)
        with show("Writing") as progress:
            size = write_archive(output, objects, found.documents, progress=progress)
    return Exported(output, size, part, found.channels, found.expires)


def pull_bundle(
    store: Store,
    root: bytes,
    part: BundlePart,
    folder: Path,
    show: ShowProgress,
    *,
    now: datetime | None = None,
) -> Manifest:
    """Unpack the files of a bundle after verifying it as a device does; return its manifest.

    Args:
        store: the store.
        root: the root metadata to trust.
        part: what to unpack.
        folder: a path that does not exist, or an empty folder.
        show: shows the progress.
        now: current time; None: the clock of this machine.

    Raises:
        ConfigurationError: the folder is not empty.
        NotInStoreError, TrustError, StoreError: as `export_bundle`.
    """
    found = read_bundle(store.objects, root, part, now)
    verify_proofs(store, found.manifest, found.keys)
    with show("Unpacking") as progress:
        store.unpack(found.manifest.tree.digest, folder, progress=progress)
    return found.manifest


def _copy_trees(
    source: Store, target: Store, found: SignedBundle, work: Path, show: ShowProgress
) -> None:
    for reference in (found.manifest.proofs, found.manifest.tree):
        folder = work / "tree"
        with show("Reading") as progress:
            source.unpack(reference.digest, folder, progress=progress)
        with show("Packing") as progress:
            _check_same(target.put_tree(folder, progress=progress), reference, source.url)
        with disk_errors(f"{folder} cannot be deleted", folder):
            shutil.rmtree(folder)


def _check_same(stored: TreeReference, reference: TreeReference, where: str) -> None:
    """Raise CorruptedError for a tree that is not what a folder with its files makes."""
    if stored != reference:
        raise CorruptedError(
            f"The tree {reference.digest} in {where} cannot be exported",
            why=f"its files make the tree {stored.digest}",
            hint="publish it again with this version of Forge",
        )
