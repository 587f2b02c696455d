"""What Forge asks of a place that keeps bytes: a directory or an S3 bucket, one Protocol.

Names are relative POSIX paths (`actions/<key>.json`). Every write is atomic: a reader sees the old
bytes or the new ones, never a part. `ETag` is opaque and changes whenever the bytes do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["Entry", "Objects", "Stored"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One object in a listing."""

    name: str
    size: int
    modified: float  # seconds since the epoch, by the store's clock


@dataclass(frozen=True, slots=True)
class Stored:
    """Bytes as read and the ETag to hand back for a conditional write."""

    data: bytes
    etag: str


class Objects(Protocol):
    """Named immutable-or-replaced byte strings.

    Every method raises StoreError (or a subclass) with the store's URL in its message and a hint;
    network faults are retried with back-off and a limit before that.
    """

    @property
    def url(self) -> str:
        """Where this is, without credentials."""

    def read(self, name: str, *, max_bytes: int) -> Stored:
        """Whole object. NotInStoreError; CorruptedError if larger than `max_bytes`."""

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Exactly `length` bytes from `start`. NotInStoreError; CorruptedError if shorter."""

    def write(self, name: str, data: bytes) -> str:
        """Create or replace; returns the ETag. Durable when it returns."""

    def write_new(self, name: str, data: bytes) -> str:
        """Create; ConflictError if the name exists."""

    def write_if(self, name: str, data: bytes, etag: str) -> str:
        """Replace the bytes that have this ETag; ConflictError if they changed or are gone."""

    def write_file(self, name: str, path: Path, *, take: bool = False) -> None:
        """Create or replace from a local file of any size (multipart where it is S3).

        With `take` the caller gives the file away: it may be moved instead of copied, and is gone
        afterwards or still there.
        """

    def delete(self, name: str) -> None:
        """Delete; no error if it is not there."""

    def size(self, name: str) -> int | None:
        """Bytes of an object, None if it is not there. One cheap look-up."""

    def entry(self, name: str) -> Entry | None:
        """Size and age of an object, None if it is not there. As cheap as `size`."""

    def touch(self, name: str) -> None:
        """Make `modified` now, so that garbage collection's grace period starts anew."""

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Every object whose name starts with `prefix`, in no order."""

    def scratch(self) -> Path:
        """A local folder for files that are about to be handed to `write_file`."""

    def sweep(self, before: float) -> int:
        """Delete what killed writers left half-written before this time; how many."""
