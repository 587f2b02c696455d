"""Change the passphrase of key files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from forge.errors import UsageError
from forge.files import write_durably
from forge.release.keys.key_files import WrongPassphraseError, decrypt
from forge.release.keys.keyring import Keyring
from forge.release.keys.model import KeyEntry, read_capped
from forge.release.keys.passphrases import check_strength
from forge.release.keys.pkcs8 import encrypt, uses_scrypt
from forge.store.disk_errors import disk_errors

__all__ = ["change_passphrase"]


def change_passphrase(
    keyring: Keyring, names: Iterable[str], new: str, expected: Iterable[str] = ()
) -> list[str]:
    """Encrypt key files with another passphrase, each atomically; safe to repeat.

    Every file is opened before one is written, so that a wrong passphrase changes nothing.

    Args:
        keyring: knows the present passphrases.
        names: names of the keys; empty: all whose files are in the folder.
        new: the new passphrase.
        expected: names that the passphrase must not consist of, such as the project's.

    Returns:
        Names of the keys whose files were written; the others have the new passphrase already.

    Raises:
        UsageError: there is no such key or no file of it, the present passphrase is wrong, or the
            new one is too weak.
        StoreError: the disk is full or read-only, or permission is denied.
    """
    check_strength(new, expected)
    opened = {}
    for entry in _chosen(keyring, list(names)):
        if not _is_done(keyring.path(entry.uri), new):
            opened[entry] = keyring.private_key(entry)
    with disk_errors(f"The keys in {keyring.folder} cannot be written", keyring.folder):
        for entry, key in opened.items():
            write_durably(keyring.path(entry.uri), encrypt(key, new.encode()), mode=0o600)
    return [entry.name for entry in opened]


def _chosen(keyring: Keyring, names: list[str]) -> list[KeyEntry]:
    files = [
        entry for entry in keyring.file.keys if entry.uri.startswith("file:") and keyring.has(entry)
    ]
    known = {entry.name for entry in files}
    if strange := [name for name in names if name not in known]:
        hint = f"key files in {keyring.folder}: {', '.join(sorted(known)) or 'none'}"
        raise UsageError(f"There is no key file of {strange[0]!r}", hint=hint)
    return [entry for entry in files if not names or entry.name in names]


def _is_done(path: Path, passphrase: str) -> bool:
    if not uses_scrypt(read_capped(path)):
        return False
    try:
        decrypt(path, passphrase.encode())
    except WrongPassphraseError:
        return False
    return True
