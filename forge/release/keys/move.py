"""Move a keys folder out of a checkout: copy, sync, compare, and only then delete."""

from __future__ import annotations

import shutil
from pathlib import Path

from forge.errors import UsageError
from forge.files import fsync_directory
from forge.release.keys.folder_files import FolderFile, read_files, write_files
from forge.release.keys.keyring import read_keys
from forge.release.keys.places import check_folder
from forge.store.disk_errors import disk_errors

__all__ = ["move_keys"]


def move_keys(source: Path, target: Path, store_url: str | None = None) -> bool:
    """Move the keys of `source` to `target`; safe to repeat after an interruption.

    Args:
        source: a keys folder.
        target: a folder that does not exist or is empty, or an earlier, complete copy of `source`.
        store_url: URL of the store, which must not contain `target`.

    Returns:
        Whether anything was moved; False: an earlier run has moved everything.

    Raises:
        UsageError: `source` has no keys, or `target` has other files or is in a checkout or store.
        StoreError: the disk is full or read-only, or permission is denied.
    """
    if source.is_symlink():
        raise UsageError(
            f"{source} is a link", why="the keys are elsewhere already",
            hint=f"export FORGE_KEYS={source.resolve()}, and delete the link",
        )  # fmt: skip
    with disk_errors(f"The keys cannot be moved to {target}", target):
        if not source.is_dir() and (target / "keys.json").is_file():
            return False
        files = read_files(source) if source.is_dir() else ()
        if not _is_copy(target, files):
            _check_uris(source)
            check_folder(target, store_url)
            write_files(target, files)
        # First what makes it a keys folder, so that an interrupted deletion leaves one folder.
        (source / "keys.json").unlink(missing_ok=True)
        fsync_directory(source)
        shutil.rmtree(source)
        fsync_directory(source.parent)
    return True


def _is_copy(target: Path, files: tuple[FolderFile, ...]) -> bool:
    """Return whether an earlier run has written `target`, and was interrupted while deleting."""
    if not files or not (target / "keys.json").is_file():
        return False
    there = {one.path: one.data for one in read_files(target)}
    return all(there.get(one.path) == one.data for one in files)


def _check_uris(source: Path) -> None:
    """Refuse key files that are named by their absolute path in the folder that is moved."""
    for entry in read_keys(source).keys:
        path = Path(entry.uri.removeprefix("file:"))
        if entry.uri.startswith("file:") and path.is_absolute() and source in path.parents:
            raise UsageError(
                f"The key {entry.name} is named by its absolute path",
                why=entry.uri,
                hint=f"write file:{path.relative_to(source)} in {source}/keys.json",
            )
