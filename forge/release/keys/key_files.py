"""Create, encrypt and open private key files; check their folder."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from forge.errors import ForgeError, UsageError
from forge.files import write_durably
from forge.release.keys.model import KeyEntry, Role, read_capped
from forge.release.keys.pkcs8 import encrypt, is_encrypted, is_private
from forge.store.backends.open import local_folder

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

__all__ = ["WrongPassphraseError", "check_folder", "decrypt", "generate"]

_GIT_TIMEOUT_S: Final = 10


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


def decrypt(path: Path, passphrase: bytes) -> PrivateKeyTypes:
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


def check_folder(folder: Path, store_url: str | None = None) -> None:
    """Refuse a keys folder that would be published: inside the store, or tracked by git.

    Args:
        folder: the keys folder; it need not exist.
        store_url: URL of the store; None if it is not known.

    Raises:
        UsageError: the folder is inside the store, git would track it, or git cannot tell.
        ForgeError: git does not answer.
    """
    resolved = folder.resolve()
    store = local_folder(store_url) if store_url else None
    if store is not None and _inside(resolved, store.resolve()):
        raise UsageError(
            f"Keys must not be inside the store: {folder}",
            why="everything in a store is readable by every device",
            hint="choose a folder outside it, for example ~/.config/forge/keys",
        )
    parent = resolved
    while not parent.is_dir():
        parent = parent.parent
    if _git_would_track(parent, resolved / "online.pem"):
        raise UsageError(
            f"Keys must not be tracked by git: {folder}",
            why="it is in a git checkout and no ignore rule covers it",
            hint="add it to .gitignore, or choose a folder outside the checkout",
        )


def _inside(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def _git_would_track(folder: Path, path: Path) -> bool:
    # Without this git exits with 128 in a checkout of another owner, as outside any checkout.
    command = ["git", "-c", "safe.directory=*", "-C", str(folder)]
    command += ["check-ignore", "--quiet", "--", str(path)]
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        result = subprocess.run(
            command, check=False, capture_output=True, text=True, env=environment,
            timeout=_GIT_TIMEOUT_S,
        )  # fmt: skip
    except FileNotFoundError:
        return False  # git is not installed: nothing here is tracked
    except subprocess.TimeoutExpired:
        raise ForgeError(f"git did not answer in {_GIT_TIMEOUT_S} s", why=str(folder)) from None
    # git-check-ignore(1): 0 is ignored, 1 is not ignored, 128 is an error.
    if result.returncode not in {0, 1} and "not a git repository" not in result.stderr:
        raise UsageError(
            f"Cannot determine whether git would track {folder}",
            why=result.stderr.strip()[-300:] or f"git exited with {result.returncode}",
            hint="repair that checkout, or choose a folder outside it",
        )
    return result.returncode == 1


def write_public(folder: Path, name: str, pem: str) -> None:
    """Write a public key file, for other tools that verify OpenSSF Model Signing."""
    write_durably(folder / f"{name}.pub.pem", pem.encode())


def _write(path: Path, key: Ed25519PrivateKey | EllipticCurvePrivateKey, passphrase: bytes) -> None:
    write_durably(path, encrypt(key, passphrase), mode=0o600)
