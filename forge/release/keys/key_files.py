"""Create, encrypt and open private key files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from forge.errors import UsageError
from forge.files import write_durably
from forge.release.keys.model import KeyEntry, Role, read_capped
from forge.release.keys.pkcs8 import encrypt, is_encrypted, is_private

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

__all__ = ["WrongPassphraseError", "decrypt", "generate"]


class WrongPassphraseError(UsageError):
    """An encrypted key file that the passphrase does not open."""


def generate(folder: Path, name: str, role: Role, passphrase: bytes) -> KeyEntry:
    """Create a key and write its private part, encrypted, to `folder`.

    The model key is EC P-256, which OpenSSF Model Signing requires; all other keys are Ed25519.

    Args:
        folder: the keys folder.
        name: name of the key and of its file.
        role: what the key signs.
        passphrase: encrypts the file.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from securesystemslib.signer import SSlibKey

    model = role == "model"
    private = generate_private_key(SECP256R1()) if model else Ed25519PrivateKey.generate()
    _write(folder / f"{name}.pem", private, passphrase)
    key = SSlibKey.from_crypto(private.public_key())
    if model:
        write_public(folder, name, key.keyval["public"])
    return KeyEntry(
        name=name,
        role=role,
        uri=f"file:{name}.pem",
        keyid=key.keyid,
        keytype=key.keytype,
        scheme=key.scheme,
        public=key.keyval["public"],
    )


def decrypt(path: Path, passphrase: bytes | None) -> PrivateKeyTypes:
    """Return the private key in a PEM file.

    Raises:
        WrongPassphraseError: it has another passphrase.
        UsageError: the file cannot be read, is not a private key, or other users may open it.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = read_capped(path, private=True)
    encrypted = is_private(data) and is_encrypted(data)
    try:
        return load_pem_private_key(data, passphrase)
    except (ValueError, TypeError) as error:
        raise (WrongPassphraseError if encrypted else UsageError)(
            f"Cannot open the key {path}",
            why=str(error),
            hint="check the passphrase (prompt, FORGE_PASSPHRASE_FILE or FORGE_PASSPHRASE)",
        ) from None


def write_public(folder: Path, name: str, pem: str) -> None:
    """Write a public key file, for other tools that verify OpenSSF Model Signing."""
    write_durably(folder / f"{name}.pub.pem", pem.encode())


def _write(path: Path, key: Ed25519PrivateKey | EllipticCurvePrivateKey, passphrase: bytes) -> None:
    write_durably(path, encrypt(key, passphrase), mode=0o600)
