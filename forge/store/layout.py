"""Names of objects. The same in a directory and in S3."""

from __future__ import annotations

import re
from typing import Final

from forge.errors import UsageError

__all__ = ["FILES", "PACKS", "TREES", "check_digest", "files_name", "pack_name", "tree_name"]

PACKS: Final = "packs/"
FILES: Final = "files/"
TREES: Final = "trees/"
_DIGEST = re.compile(r"[0-9a-f]{64}")


def check_digest(digest: str) -> str:
    """Return `digest` if it is 64 hexadecimal digits, else raise UsageError."""
    if not _DIGEST.fullmatch(digest):
        raise UsageError(f"{digest!r} is not a digest", hint="a digest is 64 hexadecimal digits")
    return digest


def pack_name(digest: str) -> str:
    """Object name of a pack, or of a small file."""
    return f"{PACKS}{check_digest(digest)[:2]}/{digest}"


def files_name(digest: str) -> str:
    """Object name of the chunk list of a file."""
    return f"{FILES}{check_digest(digest)}"


def tree_name(digest: str) -> str:
    """Object name of a tree."""
    return f"{TREES}{check_digest(digest)}.json"
