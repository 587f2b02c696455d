"""A file that is written out of order and hashed in order, while it is written."""

from __future__ import annotations

import hashlib
import heapq
import os
import threading
from pathlib import Path
from typing import Final

from forge.store.trees import TreeEntry

__all__ = ["OutFile"]

_BLOCK: Final = 1024 * 1024


class OutFile:
    """A new file of a tree. Thread-safe; every method but `close` raises OSError."""

    def __init__(self, path: Path, entry: TreeEntry) -> None:
        self._entry = entry
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._descriptor, entry.size)
        self._hash = hashlib.sha256()
        self._hashed = 0
        self._written: list[tuple[int, int]] = []  # heap of (start, end) not hashed yet
        self._lock = threading.Lock()
        self._hashing = threading.Lock()

    def write(self, position: int, data: bytes | memoryview) -> None:
        """Put checked bytes in their place."""
        view = memoryview(data)
        done = 0
        while done < len(view):
            done += os.pwrite(self._descriptor, view[done:], position + done)
        with self._lock:
            heapq.heappush(self._written, (position, position + len(view)))
        self._advance()

    def copy(self, source: int, position: int, length: int) -> None:
        """Repeat bytes that stand elsewhere in this file."""
        self.write(position, os.pread(self._descriptor, length, source))

    def finish(self) -> bool:
        """Whether the file has its digest; it is durable and closed then."""
        with self._hashing:
            self._hash_to(self._entry.size)
        if self._hash.hexdigest() != self._entry.sha256:
            return False
        os.fchmod(self._descriptor, self._entry.mode)
        os.fsync(self._descriptor)
        self.close()
        return True

    def close(self) -> None:
        """Close it, as it is."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _advance(self) -> None:
        """Hash what follows without a gap, unless another thread is at it."""
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
