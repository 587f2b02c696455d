"""Is what lies in a slot still what was verified when it was put there?"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge.device.journal import Release, SlotName
from forge.device.slots import Home
from forge.errors import CorruptedError, TrustError
from forge.files import sha256_file
from forge.store.trees import Tree, TreeEntry, parse

__all__ = ["Damage", "by_digest", "by_size", "kept_tree"]


@dataclass(frozen=True, slots=True)
class Damage:
    """One file of a slot that is not what it was."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path} {self.what}"


_UNKNOWN: Final = Damage("tree.json", "is lost, so what belongs in the slot is not known here")


def by_size(home: Home, slot: SlotName, release: Release) -> tuple[Damage, ...]:
    """Files that are missing, of another length, or too many: one stat for each. Raises OSError.

    Where the tree's document is lost, only their number and sum are known, from the manifest.
    """
    found = _check(home, slot, release, lambda _entry, _path: "")
    return _totals(home, slot) if found == (_UNKNOWN,) else found


def by_digest(home: Home, slot: SlotName, release: Release) -> tuple[Damage, ...]:
    """The same, and every byte is read. Raises OSError."""
    return _check(home, slot, release, _other_bytes)


def kept_tree(home: Home, slot: SlotName, digest: str) -> Tree | None:
    """What belongs in a slot's tree; None if that is lost. Raises OSError."""
    try:
        return parse(home.tree_document(slot), digest, str(home.slot(slot)))
    except (CorruptedError, TrustError):
        return None


def _check(
    home: Home, slot: SlotName, release: Release, content: Callable[[TreeEntry, Path], str]
) -> tuple[Damage, ...]:
    manifest = home.manifest(slot)
    if manifest is None or Release.of(manifest) != release:
        return (Damage("manifest.json", f"is not that of {release}"),)
    tree = kept_tree(home, slot, manifest.tree.digest)
    if tree is None:
        return (_UNKNOWN,)
    folder = home.tree(slot)
    checked = ((entry.path, _file(folder, entry, content)) for entry in tree.entries)
    found = [Damage(path, what) for path, what in checked if what]
    known = {entry.path for entry in tree.entries}
    found += [Damage(path, "does not belong here") for path in _files(folder) - known]
    return tuple(sorted(found, key=lambda one: one.path))


def _totals(home: Home, slot: SlotName) -> tuple[Damage, ...]:
    manifest, folder = home.manifest(slot), home.tree(slot)
    paths = _files(folder)
    size = sum((folder / path).lstat().st_size for path in paths)
    if manifest and (len(paths), size) == (manifest.tree.files, manifest.tree.size):
        return ()
    return (_UNKNOWN, Damage("tree/", f"has {len(paths)} files of {size} bytes, not what it had"))


def _file(folder: Path, entry: TreeEntry, content: Callable[[TreeEntry, Path], str]) -> str:
    path = folder / entry.path
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file"
    if status.st_size != entry.size:
        return f"has {status.st_size} bytes, not {entry.size}"
    return content(entry, path)


def _other_bytes(entry: TreeEntry, path: Path) -> str:
    return "" if sha256_file(path) == entry.sha256 else "has other bytes"


def _files(folder: Path) -> set[str]:
    """Paths of everything that is no folder."""
    found = set()
    for parent, folders, names in os.walk(folder):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        found |= {Path(parent, name).relative_to(folder).as_posix() for name in (*names, *links)}
    return found
