"""Read small files of /proc, /sys and /etc: of a machine, or of a capture of one.

Files are read by os.read: Python's buffered read returns None where the kernel says EAGAIN.
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Protocol

__all__ = [
    "MAX_FILE_BYTES",
    "RootFiles",
    "SystemFiles",
    "numbered",
    "read_bytes",
    "read_text",
    "text_of",
]

MAX_FILE_BYTES: Final = 256 * 1024


class SystemFiles(Protocol):
    """The files of a machine, by their paths without the leading slash: `proc/meminfo`."""

    def read(self, path: str, most: int = MAX_FILE_BYTES) -> bytes:
        """Return at most `most` bytes of a file. Raises OSError with the kernel's errno."""

    def names(self, folder: str, pattern: str) -> list[str]:
        """Return the names in a folder that a glob matches, sorted. Raises OSError."""


class RootFiles:
    """The files below a folder: `/`, or another one in tests and in containers.

    Args:
        root: where /proc, /sys and /etc are.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def read(self, path: str, most: int = MAX_FILE_BYTES) -> bytes:
        """Return at most `most` bytes of a file. Raises OSError with the kernel's errno."""
        return read_bytes(self._root / path, most)

    def names(self, folder: str, pattern: str) -> list[str]:
        """Return the names in a folder that a glob matches, sorted. Raises OSError."""
        found = (path.name for path in (self._root / folder).iterdir())
        return sorted(name for name in found if fnmatchcase(name, pattern))


def read_bytes(path: Path, most: int = MAX_FILE_BYTES) -> bytes:
    """Read a small file of /proc or /sys; never waits for a file that has nothing to say now.

    Raises OSError with the kernel's errno.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        parts, left = [], most
        while left and (part := os.read(descriptor, left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def read_text(path: Path, most: int = MAX_FILE_BYTES) -> str | None:
    """Read a small file of /proc or /sys as text without blanks around it; None if that fails."""
    try:
        return read_bytes(path, most).decode(errors="replace").strip()
    except OSError:
        return None


def text_of(files: SystemFiles, path: str, most: int = MAX_FILE_BYTES) -> str | None:
    """Read a small file of a machine as text without blanks around it; None if that fails."""
    try:
        return files.read(path, most).decode(errors="replace").strip()
    except OSError:
        return None


def numbered(parent: Path, prefix: str, most: int) -> list[Path]:
    """Return the entries of a folder of /sys that are a prefix and a number, in their order."""
    try:
        found = [path for path in parent.iterdir() if path.name.startswith(prefix)]
    except OSError:
        return []
    return sorted(found, key=lambda path: (len(path.name), path.name))[:most]
