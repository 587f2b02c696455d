"""Canonical JSON: the one byte string for a value, so that its digest can name it.

Keys sorted, no white space, UTF-8, no NaN. Integers and strings only where a digest must be
stable across languages; floats are written as Python's shortest round-trip form.
"""

from __future__ import annotations

import hashlib
import json
from typing import TypeAlias

__all__ = ["Json", "digest", "dumps", "sha256"]

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


def dumps(value: object) -> bytes:
    """Canonical bytes of a JSON value. Raises TypeError or ValueError for anything else."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def sha256(data: bytes | bytearray | memoryview) -> str:
    """Lower-case hex SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def digest(value: object) -> str:
    """SHA-256 of the canonical bytes of a JSON value."""
    return sha256(dumps(value))
