"""Create a signing key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from forge.release.keys.key_files import generate, write_public
from forge.release.keys.model import KeyEntry, Role

__all__ = ["make_key"]


def make_key(
    folder: Path, name: str, role: Role, passphrase: Callable[[], bytes], uri: str | None = None
) -> KeyEntry:
    """Create a key file, or register a key that a KMS or HSM already holds.

    Args:
        folder: the keys folder.
        name: name of the key in `keys.json`.
        role: what the key signs.
        passphrase: returns the passphrase that encrypts a new key file, or the PIN of an HSM.
        uri: URI of an existing KMS or HSM key; None creates a key file.

    Returns:
        The entry of the key for `keys.json`.

    Raises:
        UsageError: the key at `uri` cannot be used.
        ConfigurationError: the packages for a KMS key are not installed.
    """
    from forge.release.keys.kms import enrol

    if uri is None:
        return generate(folder, name, role, passphrase())
    entry = enrol(uri, name, role, lambda: passphrase().decode())
    if role == "model":
        write_public(folder, name, entry.public)
    return entry
