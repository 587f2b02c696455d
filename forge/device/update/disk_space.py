"""Disk space of an update: what comes back when folders go, and what need not be written again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from forge.store.formats.tree import Tree

__all__ = ["linked_bytes", "reclaimable"]

_SECTOR = 512  # st_blocks counts in these, whatever the disk's own block


def reclaimable(folders: Iterable[Path]) -> int:
    """Bytes of disk that are free again when all these folders are removed.

    Allocated bytes, so a file that is half fetched counts by what is there of it. A file that has
    another name outside of them, as one shared with the other slot, gives nothing back.

    Args:
        folders: none inside another; may be missing.
    """
    names: dict[tuple[int, int], int] = {}
    found: dict[tuple[int, int], os.stat_result] = {}
    for status in _files(folders):
        key = status.st_dev, status.st_ino
        names[key] = names.get(key, 0) + 1
        found[key] = status
    gone = (one for key, one in found.items() if one.st_nlink <= names[key])
    return _SECTOR * sum(one.st_blocks for one in gone)


def linked_bytes(new: Tree, held: Tree) -> int:
    """Bytes of a tree whose files are those of a held one and are linked instead of written."""
    known = {(entry.sha256, entry.mode) for entry in held.entries}
    return sum(entry.size for entry in new.entries if (entry.sha256, entry.mode) in known)


def _files(folders: Iterable[Path]) -> Iterator[os.stat_result]:
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for name in names:
                try:
                    yield os.lstat(Path(parent, name))
                except FileNotFoundError:
                    continue
