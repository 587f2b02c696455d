"""Where signed things lie in a store, and how large a reader lets each of them be.

tuf/metadata/<version>.<role>.json       never changed once written
tuf/metadata/timestamp.json              the one object that is replaced
tuf/targets/<folder>/<sha256>.<file>     never changed once written
"""

from __future__ import annotations

from typing import Final

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

# The caps of python-tuf 7.0.1's UpdaterConfig, so that nothing is published that no client reads.
_MAX_BYTES: Final = {"root": 512_000, "timestamp": 16_384, "snapshot": 2_000_000}
_MAX_TARGETS_BYTES: Final = 5_000_000


def metadata_name(role: str, version: int) -> str:
    """Object name of one version of a role's metadata; the timestamp has TIMESTAMP_NAME."""
    return f"{METADATA_PREFIX}{version}.{role}.json"


def target_name(path: str, sha256: str) -> str:
    """Object name of a target, its digest in front of its file name."""
    folder, slash, file = path.rpartition("/")
    return f"{TARGETS_PREFIX}{folder}{slash}{sha256}.{file}"


def max_metadata_bytes(role: str) -> int:
    """The largest metadata of `role` any reader accepts, bytes."""
    return _MAX_BYTES.get(role, _MAX_TARGETS_BYTES)
