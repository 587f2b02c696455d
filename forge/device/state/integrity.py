"""Check whether a slot still holds what was verified when it was fetched."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge.device.shared.release import Release, SlotName
from forge.device.state.directory import StateDirectory
from forge.device.state.weights_record import read_record
from forge.errors import CorruptedError, TrustError
from forge.files import sha256_file
from forge.store.formats.tree import Tree, TreeEntry, parse

__all__ = ["CODE_BYTES", "Damage", "before_start", "by_digest", "check_file", "kept_tree"]

CODE_BYTES: Final = 32 * 1024 * 1024
"""Files up to this size are read before each start: code, configurations, tokenizers."""


@dataclass(frozen=True, slots=True)
class Damage:
    """One file of a slot that is not what it was."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path} {self.what}"


_UNKNOWN: Final = Damage("tree.json", "is lost, so what belongs in the slot is not known here")


def before_start(home: StateDirectory, slot: SlotName, release: Release) -> tuple[Damage, ...]:
    """Return files that are missing, too many or changed; of large ones only the size is known.

    Where the tree's document is lost, only their number and sum are known, from the manifest. What
    runs, or configures what runs, is small: a changed model.py would run with the device's rights.
    Changed weights answer wrongly, which the probe and `by_digest` find. Those that were found
    damaged while the device ran (forge.device.state.weights_record), and were not repaired yet, are
    read too.
    """
    suspects = read_record(home.path).of(slot, release).damaged

    def content(entry: TreeEntry, path: Path) -> str:
        suspected = entry.size <= CODE_BYTES or entry.path in suspects
        return _other_bytes(entry, path) if suspected else ""

    found = _check(home, slot, release, content)
    return _totals(home, slot) if found == (_UNKNOWN,) else found


def by_digest(home: StateDirectory, slot: SlotName, release: Release) -> tuple[Damage, ...]:
    """Return the same for all files: every byte is read. Raises OSError."""
    return _check(home, slot, release, _other_bytes)


def kept_tree(home: StateDirectory, slot: SlotName, digest: str) -> Tree | None:
    """Return what belongs in a slot's tree; None if that is lost. Raises OSError."""
    try:
        return parse(home.slots.tree_document(slot), digest, str(home.slots.folder(slot)))
    except (CorruptedError, TrustError):
        return None


def _check(
    home: StateDirectory,
    slot: SlotName,
    release: Release,
    content: Callable[[TreeEntry, Path], str],
) -> tuple[Damage, ...]:
    manifest = home.slots.manifest(slot)
    if manifest is None or Release.of(manifest) != release:
        return (Damage("manifest.json", f"is not that of {release}"),)
    tree = kept_tree(home, slot, manifest.tree.digest)
    if tree is None:
        return (_UNKNOWN,)
    folder = home.slots.tree(slot)
    checked = ((entry.path, check_file(folder, entry, content)) for entry in tree.entries)
    found = [Damage(path, what) for path, what in checked if what]
    known = {entry.path for entry in tree.entries}
    found += [Damage(path, "does not belong here") for path in _files(folder) - known]
    return tuple(sorted(found, key=lambda one: one.path))


def _totals(home: StateDirectory, slot: SlotName) -> tuple[Damage, ...]:
    manifest, folder = home.slots.manifest(slot), home.slots.tree(slot)
    paths = _files(folder)
    size = sum((folder / path).lstat().st_size for path in paths)
    if manifest and (len(paths), size) == (manifest.tree.files, manifest.tree.size):
        return ()
    return (_UNKNOWN, Damage("tree/", f"has {len(paths)} files of {size} bytes, not what it had"))


def check_file(folder: Path, entry: TreeEntry, content: Callable[[TreeEntry, Path], str]) -> str:
    """Return what is wrong with one file of a tree; "" if nothing is.

    Args:
        folder: of the tree.
        entry: the file.
        content: says what is wrong with the bytes of a file of the right size.

    Raises:
        OSError: the disk fails otherwise than by EIO for this file.
    """
    path = folder / entry.path
    try:
        return _wrong(path, entry, content)
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return "cannot be read"  # a bad sector, which a new file does not use


def _wrong(path: Path, entry: TreeEntry, content: Callable[[TreeEntry, Path], str]) -> str:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if status.st_size != entry.size:
        return f"has {status.st_size} bytes, not {entry.size}"
    return content(entry, path)


def _other_bytes(entry: TreeEntry, path: Path) -> str:
    return "" if sha256_file(path) == entry.sha256 else "has other bytes"


def _files(folder: Path) -> set[str]:
    """Return the paths of everything but folders."""
    found = set()
    for parent, folders, names in os.walk(folder):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        found |= {Path(parent, name).relative_to(folder).as_posix() for name in (*names, *links)}
    return found
