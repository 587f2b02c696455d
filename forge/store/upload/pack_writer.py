"""Collect new chunks in packs of up to 64 MiB and store each while the next one fills."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self

from forge.files import sha256_file
from forge.store.backends.protocol import Objects
from forge.store.disk_errors import disk_errors
from forge.store.formats.chunk_list import MAX_PACK_BYTES
from forge.store.formats.names import pack_name

__all__ = ["OpenPack", "PackWriter"]

_WAITING: Final = 3  # limit for packs on the local disk that are not stored yet


class OpenPack:
    """A pack that is being filled or stored; its digest is known when it is stored."""

    def __init__(self, folder: Path) -> None:
        self.rows: list[tuple[bytes, int, int]] = []
        self.size = 0
        self.stored: Future[bytes] | None = None
        with disk_errors("A pack cannot be written", folder):
            # Closed by `close` or `discard`; a pack outlives any one block.
            self._file = tempfile.NamedTemporaryFile(  # noqa: SIM115
                dir=folder, prefix="pack-", delete=False
            )
        self.path = Path(self._file.name)

    @property
    def digest(self) -> bytes:
        """Return the SHA-256 of the pack, after it is stored. Raises StoreError if that failed."""
        assert self.stored is not None, "the writer was finished"  # noqa: S101
        return self.stored.result()

    def add(self, digest: bytes, data: memoryview) -> int:
        """Append a chunk and return its offset."""
        with disk_errors("A pack cannot be written", self.path):
            self._file.write(data)
        offset = self.size
        self.rows.append((digest, offset, len(data)))
        self.size += len(data)
        return offset

    def close(self) -> None:
        """Close the local file: no more chunks follow."""
        with disk_errors("A pack cannot be written", self.path):
            self._file.close()

    def discard(self) -> None:
        """Delete the local file, if it still exists."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


class PackWriter:
    """Fills packs and stores each in the background. A context manager.

    At most four packs (256 MiB on disk, not in memory) exist; a failure is raised at the next call.
    """

    def __init__(self, objects: Objects, pool: ThreadPoolExecutor) -> None:
        self._objects = objects
        self._pool = pool
        self._folder = objects.scratch()
        self._current: OpenPack | None = None
        self._sent: list[OpenPack] = []
        self._room = threading.BoundedSemaphore(_WAITING)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pack in [*self._sent, *([self._current] if self._current else [])]:
            if pack.stored is None or pack.stored.cancel() or pack.stored.done():
                pack.discard()
            else:
                with contextlib.suppress(Exception):  # the error was raised by `digest` before
                    pack.stored.result()
                pack.discard()

    def add(self, digest: bytes, data: memoryview) -> tuple[OpenPack, int]:
        """Add a chunk to the current pack; return the pack and the offset. Raises StoreError."""
        if self._current is not None and self._current.size + len(data) > MAX_PACK_BYTES:
            self._send()
        if self._current is None:
            self._current = OpenPack(self._folder)
        return self._current, self._current.add(digest, data)

    def settled(self) -> Iterator[OpenPack]:
        """Yield the packs stored since the last call. Raises StoreError if one failed."""
        done = [pack for pack in self._sent if pack.stored is not None and pack.stored.done()]
        for pack in done:
            self._sent.remove(pack)
            pack.digest  # noqa: B018  raises the error of a failed pack
            yield pack

    def finish(self) -> Iterator[OpenPack]:
        """Store the last pack, wait for all and yield them. Raises StoreError."""
        if self._current is not None:
            self._send()
        for pack in self._sent:
            pack.digest  # noqa: B018  waits
        yield from self.settled()

    def _send(self) -> None:
        pack = self._current
        if pack is None:
            return
        pack.close()
        self._room.acquire()
        self._current = None
        self._sent.append(pack)
        pack.stored = self._pool.submit(self._store, pack)

    def _store(self, pack: OpenPack) -> bytes:
        try:
            with disk_errors("A pack cannot be read back", pack.path):
                digest = sha256_file(pack.path)
            name = pack_name(digest)
            if self._objects.size(name) == pack.size:
                self._objects.touch(name)
            else:
                self._objects.write_file(name, pack.path, take=True)
            return bytes.fromhex(digest)
        finally:
            pack.discard()
            self._room.release()
