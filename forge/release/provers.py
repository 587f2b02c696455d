"""Which private keys sign proofs: those of this folder that devices are told to believe.

A rotation that was broken off leaves keys that no signed list names yet, or names no longer. What
they sign nobody could install, so the list decides and not the age of a file.
"""

from __future__ import annotations

from forge.errors import UsageError
from forge.release.keyring import KeyEntry, Keyring
from forge.trust.proof_keys import ProofKeys

__all__ = ["build_key", "model_key"]

_HINT = (
    "bring keys.json and the newest key into the folder; if another machine rotated it, run "
    "'forge keys refresh' with the newest folder"
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


def model_key(ring: Keyring, believed: ProofKeys) -> KeyEntry:
    """The newest believed key for engines that is at hand. Raises UsageError."""
    here = {entry.public: entry for entry in ring.entries("model") if ring.has(entry)}
    for pem in believed.model:
        if pem in here:
            return here[pem]
    raise UsageError(
        f"{ring.folder} has no model key that devices believe",
        why="engines are signed with a model key in keys/proofs.json",
        hint=_HINT,
    )
