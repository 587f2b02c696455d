"""Objects in memory: the full contract of a backend without a disk, for tests and experiments.

One instance is one store. It is thread-safe, like every other backend.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from forge import canonical
from forge.errors import ConflictError, CorruptedError, NotInStoreError
from forge.files import check_relative_path
from forge.store.backends.protocol import Entry, Stored
from forge.store.disk_errors import disk_errors, sweep_folder

__all__ = ["MemoryObjects"]


@dataclass(frozen=True, slots=True)
class _Object:
    data: bytes
    modified: float


class MemoryObjects:
    """Objects in a dictionary.

    Args:
        clock: seconds since the epoch, for `Entry.modified`.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._objects: dict[str, _Object] = {}
        self._lock = threading.Lock()
        self._scratch: Path | None = None

    @property
    def url(self) -> str:
        """Return a name for messages; it cannot be opened."""
        return f"memory:{id(self):x}"

    def read(self, name: str, *, max_bytes: int) -> Stored:
        """See `Objects.read`."""
        data = self._get(name).data
        if len(data) > max_bytes:
            raise CorruptedError(f"{name} in {self.url} is larger than {max_bytes} bytes")
        return Stored(data, canonical.sha256(data))

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """See `Objects.read_range`."""
        data = self._get(name).data[start : start + length]
        if len(data) != length:
            raise CorruptedError(f"{name} in {self.url} ends before byte {start + length}")
        return data

    def stream(self, name: str, start: int, length: int) -> Generator[bytes]:
        """See `Objects.stream`: one block."""
        yield self.read_range(name, start, length)

    def report_bad_copy(self, name: str) -> bool:  # noqa: ARG002
        """See `Objects.report_bad_copy`: there is one copy only."""
        return False

    def write(self, name: str, data: bytes) -> str:
        """See `Objects.write`."""
        with self._lock:
            return self._put(name, data)

    def write_new(self, name: str, data: bytes) -> str:
        """See `Objects.write_new`."""
        with self._lock:
            if name in self._objects:
                raise ConflictError(f"{name} already exists in {self.url}")
            return self._put(name, data)

    def write_if(self, name: str, data: bytes, etag: str) -> str:
        """See `Objects.write_if`."""
        with self._lock:
            found = self._objects.get(name)
            if found is None or canonical.sha256(found.data) != etag:
                message = f"{name} in {self.url} was changed by another process"
                raise ConflictError(message, hint="run the command again")
            return self._put(name, data)

    def write_file(self, name: str, path: Path, *, take: bool = False) -> None:
        """See `Objects.write_file`."""
        with disk_errors(f"{name} cannot be stored in {self.url}", str(path)):
            data = path.read_bytes()
        self.write(name, data)
        if take:
            path.unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        """See `Objects.delete`."""
        with self._lock:
            self._objects.pop(check_relative_path(name), None)

    def size(self, name: str) -> int | None:
        """See `Objects.size`."""
        entry = self.entry(name)
        return None if entry is None else entry.size

    def entry(self, name: str) -> Entry | None:
        """See `Objects.entry`."""
        with contextlib.suppress(NotInStoreError):
            found = self._get(name)
            return Entry(name, len(found.data), found.modified)
        return None

    def touch(self, name: str) -> None:
        """See `Objects.touch`."""
        with self._lock:
            self._put(name, self._get(name).data)

    def entries(self, prefix: str) -> Iterator[Entry]:
        """See `Objects.entries`: a snapshot taken at the first iteration."""
        for name, found in list(self._objects.items()):
            if name.startswith(prefix):
                yield Entry(name, len(found.data), found.modified)

    def scratch(self) -> Path:
        """See `Objects.scratch`: a temporary folder, deleted with this instance."""
        with self._lock:
            if self._scratch is None:
                self._scratch = Path(tempfile.mkdtemp(prefix="forge-memory-store-"))
                weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)
            return self._scratch

    def sweep(self, before: float) -> int:
        """See `Objects.sweep`."""
        return sweep_folder(self._scratch, before) if self._scratch else 0

    def _get(self, name: str) -> _Object:
        try:
            return self._objects[check_relative_path(name)]
        except KeyError:
            raise NotInStoreError(f"{name} is not in the store {self.url}") from None

    def _put(self, name: str, data: bytes) -> str:
        self._objects[check_relative_path(name)] = _Object(bytes(data), self._clock())
        return canonical.sha256(data)
