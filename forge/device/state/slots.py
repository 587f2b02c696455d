"""The two slots of the state directory: what is in them, and how their content is replaced.

slots/a, slots/b           tree/ (the bundle), tree.json (its digests), proofs/, manifest.json;
                           engine/ if it was compiled here
tmp/aside-a, tmp/aside-b   what a slot held before the fetch that is under way
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge.bundle import MAX_DOCUMENT_BYTES, Manifest, parse_manifest
from forge.device.shared.release import SlotName, other
from forge.errors import TrustError
from forge.files import fsync_directory, write_durably
from forge.store.formats.tree import MAX_TREE_BYTES

__all__ = ["Slots"]

_CONTENT: Final = ("manifest.json", "tree.json", "proofs", "engine", "tree")  # of a slot


@dataclass(frozen=True, slots=True)
class Slots:
    """Both slots of a state directory. Every write is durable when its method returns.

    Attributes:
        path: the state directory.
    """

    path: Path

    def folder(self, slot: SlotName) -> Path:
        """Return the folder of one slot."""
        return self.path / "slots" / slot

    def tree(self, slot: SlotName) -> Path:
        """Return the folder of the bundle in a slot."""
        return self.folder(slot) / "tree"

    def proofs(self, slot: SlotName) -> Path:
        """Return the folder of the proofs of the bundle in a slot."""
        return self.folder(slot) / "proofs"

    def compiled(self, slot: SlotName) -> Path:
        """Return the folder of a slot's engine where the device compiled it itself."""
        return self.folder(slot) / "engine"

    def manifest(self, slot: SlotName) -> Manifest | None:
        """Read the manifest of the bundle in a slot; None while the slot is not complete."""
        try:
            with (self.folder(slot) / "manifest.json").open("rb") as file:
                return parse_manifest(file.read(MAX_DOCUMENT_BYTES + 1))
        except (FileNotFoundError, TrustError):
            return None

    def tree_document(self, slot: SlotName) -> bytes:
        """Read what `mark_complete` kept of the tree's digests; empty if lost. Raises OSError."""
        try:
            with (self.folder(slot) / "tree.json").open("rb") as file:
                return file.read(MAX_TREE_BYTES + 1)
        except FileNotFoundError:
            return b""

    def mark_complete(self, slot: SlotName, manifest: Manifest, tree: bytes = b"") -> None:
        """Declare a slot complete; what is in it must be durable already. Raises OSError.

        Args:
            slot: which.
            manifest: of its bundle.
            tree: the tree's document, to check the slot by later.
        """
        write_durably(self.folder(slot) / "tree.json", tree)
        write_durably(self.folder(slot) / "manifest.json", manifest.encode())

    def staged(self, slot: SlotName) -> Path:
        """Return where a tree is made that is to replace the slot's; `install` does it."""
        return self.folder(slot) / "tree-new"

    def install(self, slot: SlotName) -> None:
        """Put a staged tree in the place of the slot's tree, if there is one.

        A staged tree is there only once it is whole and durable, so this is also done after a kill.
        Raises OSError.
        """
        if not self.staged(slot).is_dir():
            return
        old = self.path / "tmp" / f"damaged-{slot}"
        shutil.rmtree(old, ignore_errors=True)
        old.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self.tree(slot).rename(old)
        self.staged(slot).rename(self.tree(slot))
        fsync_directory(self.folder(slot))
        shutil.rmtree(old, ignore_errors=True)

    def set_aside(self, slot: SlotName) -> tuple[Path, ...]:
        """Empty a slot, and return folders with its old tree, good as seeds. Raises OSError.

        Its old content is a backup until `drop_backup` or the next start; `restore` brings it back.
        What an earlier, interrupted fetch left half done stays: the store continues from there,
        also where the device went back to that slot in between.
        """
        folder, aside = self.folder(slot), self._aside(slot)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        _move(folder, aside, _CONTENT[:1])  # the manifest first: a slot without it is not complete
        fsync_directory(folder)
        _move(folder, aside, _CONTENT[1:])
        for left in folder.glob("*tree-new*"):
            shutil.rmtree(left, ignore_errors=True)
        for left in self._half_fetched(other(slot)):
            with contextlib.suppress(OSError):  # it has one of its own already
                left.rename(folder / left.name)
            shutil.rmtree(left, ignore_errors=True)
        fsync_directory(folder)
        old = aside / "tree"
        return (old,) if old.is_dir() else ()

    def restore(self, slot: SlotName) -> bool:
        """Undo `set_aside`; return False if there is no backup, or none that was complete.

        Raises OSError.
        """
        folder, aside = self.folder(slot), self._aside(slot)
        if not (aside / "manifest.json").exists():
            return False
        for name in _CONTENT:
            shutil.rmtree(folder / name, ignore_errors=True)
        _move(aside, folder, _CONTENT[1:])
        fsync_directory(folder)
        _move(aside, folder, _CONTENT[:1])
        fsync_directory(folder)
        self.drop_backup(slot)
        return True

    def drop_backup(self, slot: SlotName) -> None:
        """Delete what `set_aside` kept."""
        shutil.rmtree(self._aside(slot), ignore_errors=True)

    def replaced(self, slot: SlotName) -> tuple[Path, ...]:
        """Return the folders that an update of this slot replaces, half a fetch included."""
        return self.folder(slot), self._aside(slot), *self._half_fetched(other(slot))

    def discard(self, slot: SlotName) -> None:
        """Free the disk space of a slot that is not complete."""
        for left in (self._aside(slot), self.tree(slot), *self.folder(slot).glob(".*")):
            shutil.rmtree(left, ignore_errors=True)

    def _aside(self, slot: SlotName) -> Path:
        return self.path / "tmp" / f"aside-{slot}"

    def _half_fetched(self, slot: SlotName) -> tuple[Path, ...]:
        return tuple(self.folder(slot).glob(".tree.*"))  # forge.store.download.resume


def _move(source: Path, target: Path, names: tuple[str, ...]) -> None:
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            (source / name).rename(target / name)
