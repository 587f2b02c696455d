"""Names of signed objects in a store, and the maximum size of each.

tuf/metadata/<version>.<role>.json       never changed once written; <role> is percent-encoded
tuf/metadata/timestamp.json              the one object that is replaced
tuf/targets/<folder>/<sha256>.<file>     never changed once written
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

__all__ = [
    "BUNDLES",
    "CHANNELS",
    "METADATA_PREFIX",
    "PROOF_KEYS_PATH",
    "TARGETS_PREFIX",
    "TIMESTAMP_NAME",
    "max_metadata_bytes",
    "metadata_name",
    "target_name",
]

METADATA_PREFIX: Final = "tuf/metadata/"
TARGETS_PREFIX: Final = "tuf/targets/"
TIMESTAMP_NAME: Final = "tuf/metadata/timestamp.json"
PROOF_KEYS_PATH: Final = "keys/proofs.json"
BUNDLES: Final = "bundles"
CHANNELS: Final = "channels"

# Limits of python-tuf 7.0.1's UpdaterConfig, so that every published object can be read.
_MAX_BYTES: Final = {"root": 512_000, "timestamp": 16_384, "snapshot": 2_000_000}
_MAX_TARGETS_BYTES: Final = 5_000_000


def metadata_name(role: str, version: int) -> str:
    """Return the object name of a version of a role's metadata, except the timestamp's.

    A role may have any name. It is percent-encoded here, once, as python-tuf's client does before
    it asks for an object (the client's fetcher passes on what it gets); `/` and `..` in it are then
    no folders. How a backend writes an object name into a URL or a key is another matter: the web
    backend encodes the `%` of the object name again.
    """
    return f"{METADATA_PREFIX}{version}.{quote(role, safe='')}.json"


def target_name(path: str, sha256: str) -> str:
    """Return the object name of a target, with its digest before the file name.

    Backends refuse the name of a path that is not relative or has `..` in it.
    """
    folder, slash, file = path.rpartition("/")
    return f"{TARGETS_PREFIX}{folder}{slash}{sha256}.{file}"


def max_metadata_bytes(role: str) -> int:
    """Return the maximum size of the metadata of `role` in bytes."""
    return _MAX_BYTES.get(role, _MAX_TARGETS_BYTES)
