"""Which private keys sign proofs: those of this folder that devices are told to believe.

A rotation that was broken off leaves keys that no signed list names yet, or names no longer. What
they sign nobody could install, so the list decides and not the age of a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from forge.errors import UsageError
from forge.release.keyring import KeyEntry, Keyring, read_capped
from forge.trust.proof_keys import ProofKeys

__all__ = ["build_key", "model_key"]

_HINT = (
    "bring the newest key into the folder; if another machine rotated it, run 'forge keys refresh' "
    "with the newest folder"
)


def build_key(ring: Keyring, believed: ProofKeys) -> KeyEntry:
    """The newest believed key for provenance that is at hand. Raises UsageError."""
    here = {entry.keyid: entry for entry in ring.entries("bundles") if ring.has(entry)}
    for key in believed.build:
        if key.keyid in here:
            return here[key.keyid]
    raise UsageError(
        f"{ring.folder} has no build key that devices believe",
        why="provenance is signed with a key of the role bundles in keys/proofs.json",
        hint=_HINT,
    )


def model_key(ring: Keyring, believed: ProofKeys) -> Path:
    """The newest believed key for engines that is at hand. Raises UsageError."""
    here = {_public(ring, path): path for path in _model_keys(ring)}
    for pem in believed.model:
        if pem in here:
            return here[pem]
    raise UsageError(
        f"{ring.folder} has no model key that devices believe",
        why="engines are signed with a model key in keys/proofs.json",
        hint=_HINT,
    )


def _model_keys(ring: Keyring) -> Iterator[Path]:
    found = [ring.path(ring.file.model_uri), *sorted(ring.folder.glob("model*.pem"))]
    return (path for path in found if path.is_file() and not path.name.endswith(".pub.pem"))


def _public(ring: Keyring, private: Path) -> str:
    public = private.with_suffix(".pub.pem")
    if public.is_file():
        return read_capped(public).decode(errors="replace")

    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from forge.release.private_keys import decrypt

    key = decrypt(private, ring.passphrase()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
