"""The Protocol of a storage backend: a folder, a bucket, a web server.

Names are relative POSIX paths (`actions/<key>.json`). Every write is atomic: a reader sees the old
bytes or the new ones, never a mixture. `ETag` is opaque and changes whenever the bytes do.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from forge.errors import StoreError

__all__ = ["BrokenOffError", "Entry", "Objects", "StoreBusyError", "Stored", "read_attempts"]


class BrokenOffError(StoreError):
    """A stream ended early. Request the rest again: it may come from another place."""


class StoreBusyError(StoreError):
    """A server that is overloaded or failing.

    Attributes:
        after_s: seconds of its Retry-After header; 0 without one.
    """

    def __init__(self, what: str, *, why: str = "", hint: str = "", after_s: float = 0.0) -> None:
        super().__init__(what, why=why, hint=hint)
        self.after_s = after_s


@dataclass(frozen=True, slots=True)
class Entry:
    """One object in a listing."""

    name: str
    size: int
    modified: float  # seconds since the epoch, by the store's clock


@dataclass(frozen=True, slots=True)
class Stored:
    """The bytes of an object and its ETag, for a conditional write."""

    data: bytes
    etag: str


class Objects(Protocol):
    """Named byte strings, each immutable or replaced as a whole.

    Every method raises StoreError (or a subclass) with the store's URL in its message and a hint;
    network faults are retried with back-off and a limit before that.
    """

    @property
    def url(self) -> str:
        """Return the location, without credentials."""

    def read(self, name: str, *, max_bytes: int) -> Stored:
        """Return an object.

        Raises NotInStoreError, and CorruptedError if it is larger than `max_bytes`.
        """

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Return exactly `length` bytes from `start`.

        Raises NotInStoreError, and CorruptedError if the object ends before.
        """

    def stream(self, name: str, start: int, length: int) -> Generator[bytes]:
        """Yield `length` bytes from `start` in blocks as they arrive; close it to stop early.

        Raises as `read_range`, and BrokenOffError if another request may return the rest.
        """

    def report_bad_copy(self, name: str) -> bool:
        """Report that the bytes this thread last read of an object have a wrong digest.

        The next read uses another place, if there is one.

        Returns:
            Whether there is another place whose copy was not reported.
        """

    def write(self, name: str, data: bytes) -> str:
        """Create or replace an object and return its ETag. Durable when it returns."""

    def write_new(self, name: str, data: bytes) -> str:
        """Create an object and return its ETag. Raises ConflictError if the name exists."""

    def write_if(self, name: str, data: bytes, etag: str) -> str:
        """Replace the object that has this ETag and return the new one.

        Raises ConflictError if it was changed or deleted.
        """

    def write_file(self, name: str, path: Path, *, take: bool = False) -> None:
        """Create or replace an object from a local file of any size (multipart upload on S3).

        With `take`, the file may be moved instead of copied, so it may not exist afterwards.
        """

    def delete(self, name: str) -> None:
        """Delete an object. A missing object is not an error."""

    def size(self, name: str) -> int | None:
        """Return the size of an object in bytes, or None if it does not exist. Cheap."""

    def entry(self, name: str) -> Entry | None:
        """Return size and time of an object, or None if it does not exist. As cheap as `size`."""

    def touch(self, name: str) -> None:
        """Set `modified` to now, which restarts the grace period of garbage collection."""

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Yield every object whose name starts with `prefix`, in no particular order."""

    def scratch(self) -> Path:
        """Return a local folder for files that will be passed to `write_file`."""

    def sweep(self, before: float) -> int:
        """Delete partial writes of killed processes from before this time; return their number."""


def read_attempts(objects: Objects, name: str) -> Iterator[None]:
    """Yield once for each place that may have a correct copy of an object, and once more.

    The caller leaves the loop when the bytes are correct. Bytes may be damaged in transit, so a
    single place is read twice as well.
    """
    elsewhere = True
    yield
    while elsewhere:
        elsewhere = objects.report_bad_copy(name)
        yield
