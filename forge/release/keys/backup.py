"""Back up a keys folder to one file, and restore it.

The file is a tar archive: without Forge, `tar -xf FILE -C FOLDER` restores it, and `sha256sum -c
BACKUP.sha256` checks it. Private keys in it are encrypted as in the folder.
"""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from forge import canonical
from forge.errors import ConfigurationError, ForgeError, UsageError
from forge.files import check_relative_path, fsync_directory
from forge.release.keys.folder_files import FolderFile, check_new, read_files, write_files
from forge.release.keys.keyring import Keyring, read_keys
from forge.release.keys.model import KeysFile
from forge.release.keys.pkcs8 import is_encrypted
from forge.release.keys.places import check_folder
from forge.store.backends.open import local_folder
from forge.store.disk_errors import disk_errors

__all__ = ["backup_keys", "restore_keys"]

_MAX_FILES: Final = 10_000
_MAX_BYTES: Final = 64 * 1024 * 1024
_SUMS: Final = "BACKUP.sha256"


def backup_keys(folder: Path, file: Path, store_url: str | None = None) -> list[str]:
    """Write all files of a keys folder to a new file that only its owner can read.

    Args:
        folder: the keys folder.
        file: the file to create; never replaced.
        store_url: URL of the store, which must not contain `file`.

    Returns:
        Names of the private keys that are not in the folder, and so not in the backup.

    Raises:
        UsageError: the folder has no keys or an unencrypted one, or the file exists or is in the
            store.
        ForgeError: what was read again differs.
        StoreError: the disk is full or read-only, or permission is denied.
    """
    read_keys(folder)
    store = local_folder(store_url) if store_url else None
    if store is not None and store.resolve() in file.resolve().parents:
        why = "everything in a store is readable by every device"
        raise UsageError(f"A backup of keys must not be inside the store: {file}", why=why)
    with disk_errors(f"The backup {file} cannot be written", file):
        files = read_files(folder)
        _write_new(file, _archive(files))
        if _read(file) != files:
            hint = "check that disk, delete the file and run the command again"
            raise ForgeError(f"The backup {file} is not what was written", hint=hint)
    ring = Keyring(folder, str)
    inside = {folder / one.path for one in files}
    return [
        entry.name
        for entry in ring.file.keys
        if not entry.uri.startswith("file:") or ring.path(entry.uri) not in inside
    ]


def restore_keys(file: Path, folder: Path, store_url: str | None = None) -> KeysFile:
    """Create a keys folder from a backup.

    Args:
        file: made by `backup_keys`.
        folder: a folder that does not exist or is empty.
        store_url: URL of the store, which must not contain `folder`.

    Returns:
        The contents of `keys.json`.

    Raises:
        UsageError: the folder is not empty, or is in a checkout or the store.
        ConfigurationError: the file is not a backup of keys.
        StoreError: the disk is full or read-only, or permission is denied.
    """
    check_new(folder)
    check_folder(folder, store_url)
    with disk_errors(f"The keys cannot be restored to {folder}", folder):
        files = _read(file)
        if not any(one.path == "keys.json" for one in files):
            raise ConfigurationError(f"{file} is not a backup of keys", why="it has no keys.json")
        write_files(folder, files)
    return read_keys(folder)


def _archive(files: Sequence[FolderFile]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for one in (FolderFile(_SUMS, 0o644, _sums(files)), *files):
            info = tarfile.TarInfo(one.path)
            info.mode, info.size = one.mode, len(one.data)
            archive.addfile(info, io.BytesIO(one.data))
    return buffer.getvalue()


def _sums(files: Sequence[FolderFile]) -> bytes:
    return "".join(f"{canonical.sha256(one.data)}  {one.path}\n" for one in files).encode()


def _write_new(file: Path, data: bytes) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise UsageError(f"{file} exists", why="a backup is never overwritten") from None
    try:
        with os.fdopen(descriptor, "wb") as out:
            os.fchmod(out.fileno(), 0o600)  # with any umask
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
        raise
    fsync_directory(file.absolute().parent)


def _read(file: Path) -> tuple[FolderFile, ...]:
    """Return the files of a backup, sorted. Raises ConfigurationError if it is none, or damaged."""
    found: list[FolderFile] = []
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise ConfigurationError(f"{file} is larger than {_MAX_BYTES} bytes")
        with tarfile.open(file, mode="r:") as archive:
            for info in archive:
                if not info.isreg() or len(found) == _MAX_FILES:
                    raise ConfigurationError(f"{file} is not a backup of keys", why=info.name)
                content = archive.extractfile(info)
                data = content.read() if content else b""
                found.append(FolderFile(check_relative_path(info.name), info.mode & 0o644, data))
    except (tarfile.TarError, EOFError) as error:
        raise ConfigurationError(f"{file} is not a backup of keys", why=str(error)) from None
    sums, files = found[:1], sorted(found[1:], key=lambda one: Path(one.path))
    if [one.path for one in sums] != [_SUMS]:
        raise ConfigurationError(f"{file} is not a backup of keys", why=f"it has no {_SUMS}")
    if sums[0].data != _sums(files):
        hint = "use another copy of the backup"
        raise ConfigurationError(f"{file} is damaged", why="a SHA-256 differs", hint=hint)
    if plain := [one.path for one in files if not is_encrypted(one.data)]:
        raise ConfigurationError(
            f"{file} is not a backup of keys", why=f"{plain[0]}: not encrypted"
        )
    return tuple(files)
