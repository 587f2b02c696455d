"""A file that is written out of order and hashed in order, while it is written."""

from __future__ import annotations

import hashlib
import heapq
import os
import threading
from pathlib import Path
from typing import Final

from forge.store.formats.tree import TreeEntry

__all__ = ["OutOfOrderFile"]

_BLOCK: Final = 1024 * 1024


class OutOfOrderFile:
    """A file that is being downloaded. Thread-safe; every method but `close` raises OSError.

    Args:
        path: the partial file; bytes that an earlier run wrote are kept, see `found`.
        entry: path, size, mode and digest of the complete file.
    """

    def __init__(self, path: Path, entry: TreeEntry) -> None:
        self._entry = entry
        self._path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(path, flags, 0o600)
        self.resumed = os.fstat(self._descriptor).st_size > 0
        os.ftruncate(self._descriptor, entry.size)
        self._hash = hashlib.sha256()
        self._hashed = 0
        self._written: list[tuple[int, int]] = []  # heap of (start, end) not hashed yet
        self._lock = threading.Lock()
        self._hashing = threading.Lock()

    def write(self, position: int, data: bytes | memoryview) -> None:
        """Write verified bytes at a position."""
        self.keep(position, data)
        self.note(position, len(data))

    def keep(self, position: int, data: bytes | memoryview) -> None:
        """Write bytes that are not verified yet at a position."""
        view = memoryview(data)
        done = 0
        while done < len(view):
            done += os.pwrite(self._descriptor, view[done:], position + done)

    def note(self, position: int, length: int) -> None:
        """Record that the bytes at a position are verified."""
        with self._lock:
            heapq.heappush(self._written, (position, position + length))
        self._advance()

    def found(self, position: int, length: int, digest: bytes) -> bytes | None:
        """Return the bytes that an earlier run wrote in a range, or None if it is complete.

        A complete range has this digest and is recorded as verified. Otherwise the result is what
        precedes the last non-zero byte, since bytes that were never written are zero. It is not
        verified: after a power cut it may be anything.
        """
        data = os.pread(self._descriptor, length, position)
        if len(data) == length and hashlib.sha256(data).digest() == digest:
            self.note(position, length)
            return None
        return data.rstrip(b"\0")[: length - 1]

    def copy(self, source: int, position: int, length: int) -> None:
        """Copy verified bytes from another position in this file."""
        self.write(position, os.pread(self._descriptor, length, source))

    def finish(self, target: Path) -> bool:
        """Return whether the file has its digest; if so, it is synced and renamed to `target`."""
        with self._hashing:
            self._hash_to(self._entry.size)
        if self._hash.hexdigest() != self._entry.sha256:
            return False
        os.fchmod(self._descriptor, self._entry.mode)
        os.fsync(self._descriptor)
        self.close()
        if target != self._path:
            self._path.rename(target)
        return True

    def close(self) -> None:
        """Close the file, complete or not."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _advance(self) -> None:
        """Hash the contiguous bytes that follow, unless another thread is doing it."""
        if not self._hashing.acquire(blocking=False):
            return
        try:
            while (end := self._next()) is not None:
                self._hash_to(end)
        finally:
            self._hashing.release()

    def _next(self) -> int | None:
        with self._lock:
            if self._written and self._written[0][0] <= self._hashed:
                return heapq.heappop(self._written)[1]
        return None

    def _hash_to(self, end: int) -> None:
        while self._hashed < end:
            length = min(_BLOCK, end - self._hashed)
            data = os.pread(self._descriptor, length, self._hashed)
            if not data:
                return
            self._hash.update(data)
            self._hashed += len(data)
