"""Canonical JSON: one byte string for each value, so that its digest identifies it.

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
    """Return the canonical bytes of a JSON value. Raises TypeError or ValueError for others."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def sha256(data: bytes | bytearray | memoryview) -> str:
    """Return the lower-case hex SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def digest(value: object) -> str:
    """Return the SHA-256 of the canonical bytes of a JSON value."""
    return sha256(dumps(value))
