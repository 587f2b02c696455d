"""Read the files of a keys folder, and write them to a new folder: whole or not at all."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from forge.errors import ForgeError, UsageError
from forge.files import check_relative_path, fsync_directory, write_durably
from forge.release.keys.model import read_capped
from forge.release.keys.pkcs8 import is_encrypted

__all__ = ["FolderFile", "check_new", "read_files", "write_files"]


@dataclass(frozen=True, slots=True)
class FolderFile:
    """A file of a keys folder.

    Attributes:
        path: relative to the folder.
        mode: its permissions; those of a private key exclude all other users.
        data: its bytes.
    """

    path: str
    mode: int
    data: bytes


def read_files(folder: Path) -> tuple[FolderFile, ...]:
    """Return all files of a keys folder, sorted by path.

    Raises:
        UsageError: a private key is not encrypted, a file is neither file nor folder, cannot be
            read or is too large.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        kind = path.lstat().st_mode
        if stat.S_ISDIR(kind):
            continue
        if not stat.S_ISREG(kind):
            raise UsageError(
                f"{path} is not a regular file",
                why="a link to a medium would be empty without it",
                hint=f"name the file in {folder}/keys.json, as file:/path, and delete the link",
            )
        data = read_capped(path)
        if not is_encrypted(data):
            raise UsageError(
                f"The private key {path} is not encrypted",
                hint=f"encrypt it: openssl pkcs8 -topk8 -scrypt -in {path} -out NEW",
            )
        mode = 0o600 if path.suffix == ".pem" and ".pub." not in path.name else 0o644
        found.append(FolderFile(path.relative_to(folder).as_posix(), mode, data))
    return tuple(found)


def check_new(folder: Path) -> None:
    """Raise UsageError if a folder has anything in it: keys are never overwritten."""
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise UsageError(
            f"{folder} is not empty",
            why="keys are never overwritten",
            hint=f"run 'forge keys status --keys {folder}' to see it, or choose another folder",
        )


def write_files(folder: Path, files: Sequence[FolderFile]) -> None:
    """Create a folder of these files, synced to disk and read again before it appears.

    Raises:
        UsageError: the folder is not empty.
        TrustError: a path leaves the folder.
        ForgeError: what was read again differs.
        OSError: the disk is full or fails.
    """
    check_new(folder)
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    building = Path(tempfile.mkdtemp(prefix=".forge-keys-", dir=folder.parent))  # mode 0700
    try:
        for one in files:
            write_durably(building / check_relative_path(one.path), one.data, one.mode)
        for parent, _, _ in os.walk(building):
            fsync_directory(Path(parent))
        _check_copy(building, files)
        building.rename(folder)  # fails if it is not empty now
        fsync_directory(folder.parent)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _check_copy(folder: Path, files: Sequence[FolderFile]) -> None:
    if read_files(folder) != tuple(sorted(files, key=lambda one: Path(one.path))):
        raise ForgeError(
            f"The copy of the keys in {folder} is not what was written",
            hint="check that disk; the keys are unchanged",
        )
