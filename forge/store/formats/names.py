"""Names of objects, the same in every backend."""

from __future__ import annotations

import re
from typing import Final

from forge.errors import UsageError

__all__ = [
    "ACTIONS",
    "FILES",
    "MAX_FILE_BYTES",
    "PACKS",
    "SIGNED",
    "TREES",
    "check_digest",
    "files_name",
    "is_digest",
    "is_object",
    "pack_name",
    "signed_name",
    "tree_name",
]

PACKS: Final = "packs/"
FILES: Final = "files/"
TREES: Final = "trees/"
ACTIONS: Final = "actions/"
SIGNED: Final = "signed/"
MAX_FILE_BYTES: Final = 1 << 42  # limit for one file in a tree
_DIGEST = re.compile(r"[0-9a-f]{64}")
_OBJECT = re.compile(
    r"packs/[0-9a-f]{2}/[0-9a-f]{64}|files/[0-9a-f]{64}|(trees|actions)/[0-9a-f]{64}\.json"
    r"|signed/[a-z0-9][a-z0-9_-]{0,40}/[0-9a-f]{64}\.json"
)


def is_digest(text: str) -> bool:
    """Return whether `text` is 64 lower-case hexadecimal digits."""
    return _DIGEST.fullmatch(text) is not None


def is_object(name: str) -> bool:
    """Return whether `name` is a valid name below packs/, files/, trees/, actions/ or signed/."""
    return _OBJECT.fullmatch(name) is not None


def check_digest(digest: str) -> str:
    """Return `digest` if it is 64 hexadecimal digits, else raise UsageError."""
    if not is_digest(digest):
        raise UsageError(
            f"{digest!r} is not a valid digest", hint="a digest is 64 hexadecimal digits"
        )
    return digest


def pack_name(digest: str) -> str:
    """Return the object name of a pack, or of a small file."""
    return f"{PACKS}{check_digest(digest)[:2]}/{digest}"


def files_name(digest: str) -> str:
    """Return the object name of the chunk list of a file."""
    return f"{FILES}{check_digest(digest)}"


def tree_name(digest: str) -> str:
    """Return the object name of a tree."""
    return f"{TREES}{check_digest(digest)}.json"


def signed_name(builder: str, key: str) -> str:
    """Return the object name of the result of a key that a trusted builder signed."""
    return f"{SIGNED}{builder}/{check_digest(key)}.json"
