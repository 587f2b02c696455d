"""Disk space of an update, in numbers."""

from __future__ import annotations

import os
from pathlib import Path

from forge.device.update.disk_space import linked_bytes, reclaimable
from forge.store.formats.tree import Tree, TreeEntry

MIB = 2**20


def write(path: Path, mib: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(os.urandom(mib * MIB))
        file.flush()
        os.fsync(file.fileno())  # before, a disk may not have allocated it yet
    return path


def entry(path: str, digit: str, size: int, *, executable: bool = False) -> TreeEntry:
    return TreeEntry(path=path, mode=0o755 if executable else 0o644, size=size, sha256=digit * 64)


def test_a_folder_gives_back_what_is_allocated_and_not_what_a_file_is_to_become(
    tmp_path: Path,
) -> None:
    part = write(tmp_path / "slot" / ".tree.parts" / "weights", 2)
    with part.open("r+b") as file:
        file.truncate(100 * MIB)
    assert reclaimable([tmp_path / "slot"]) // MIB == 2


def test_a_file_that_the_other_slot_has_too_gives_nothing_back(tmp_path: Path) -> None:
    active = write(tmp_path / "a" / "weights", 3)
    (tmp_path / "b").mkdir()
    os.link(active, tmp_path / "b" / "weights")
    write(tmp_path / "b" / "own", 2)
    assert reclaimable([tmp_path / "b"]) // MIB == 2


def test_a_file_with_two_names_within_counts_once(tmp_path: Path) -> None:
    file = write(tmp_path / "slot" / "weights", 3)
    (tmp_path / "seed").mkdir()
    os.link(file, tmp_path / "seed" / "weights")
    assert reclaimable([tmp_path / "slot", tmp_path / "seed"]) // MIB == 3
    assert reclaimable([tmp_path / "slot"]) == 0
    assert reclaimable([tmp_path / "none"]) == 0


def test_files_of_the_active_slot_are_linked_if_their_mode_is_the_same() -> None:
    held = Tree(entries=(entry("old", "1", 100), entry("tool", "2", 30)))
    new = Tree(
        entries=(
            entry("new", "3", 7),
            entry("renamed", "1", 100),
            entry("tool", "2", 30, executable=True),
        )
    )
    assert linked_bytes(new, held) == 100
