"""Select the private keys that sign proofs: keys of this folder that devices trust.

An interrupted rotation leaves keys that the signed list of proof keys does not contain yet, or no
longer contains. No device would install what they sign, so the list decides, not the age of a file.
"""

from __future__ import annotations

from forge.errors import UsageError
from forge.release.keys.keyring import Keyring
from forge.release.keys.model import KeyEntry
from forge.trust.proof_keys import ProofKeys

__all__ = ["build_key", "model_key"]

_HINT = (
    "copy keys.json and the newest key into the folder; if another machine rotated the key, run "
    "'forge keys refresh' with the newest folder"
)


def build_key(keyring: Keyring, trusted: ProofKeys) -> KeyEntry:
    """Return the newest trusted key for provenance whose private key is available.

    Raises:
        UsageError: no private key of a trusted key is available.
    """
    here = {entry.keyid: entry for entry in keyring.entries("bundles") if keyring.has(entry)}
    for key in trusted.build:
        if key.keyid in here:
            return here[key.keyid]
    raise UsageError(
        f"{keyring.folder} has no build key that devices trust",
        why="provenance is signed with a key of the role bundles that keys/proofs.json lists",
        hint=_HINT,
    )


def model_key(keyring: Keyring, trusted: ProofKeys) -> KeyEntry:
    """Return the newest trusted key for engines whose private key is available.

    Raises:
        UsageError: no private key of a trusted key is available.
    """
    here = {entry.public: entry for entry in keyring.entries("model") if keyring.has(entry)}
    for pem in trusted.model:
        if pem in here:
            return here[pem]
    raise UsageError(
        f"{keyring.folder} has no model key that devices trust",
        why="engines are signed with a model key that keys/proofs.json lists",
        hint=_HINT,
    )
