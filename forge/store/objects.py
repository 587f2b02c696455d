"""What Forge asks of a place that keeps bytes: a folder, a bucket, a web server; one Protocol.

Names are relative POSIX paths (`actions/<key>.json`). Every write is atomic: a reader sees the old
bytes or the new ones, never a part. `ETag` is opaque and changes whenever the bytes do.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from forge.errors import StoreError

__all__ = ["BrokenOffError", "BusyError", "Entry", "Objects", "Stored", "tries"]


class BrokenOffError(StoreError):
    """A stream ended early; the next one may come from elsewhere, so ask for the rest again."""


class BusyError(StoreError):
    """A place that asks to be left alone for a while.

    Attributes:
        after_s: seconds, 0 if it did not say.
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

    def stream(self, name: str, start: int, length: int) -> Generator[bytes]:
        """The same bytes as they come, in blocks; close it if you stop early.

        Raises as `read_range`, and BrokenOffError where the rest may be had by asking again.
        """

    def doubt(self, name: str) -> bool:
        """What this thread read last of an object was wrong: read it elsewhere next time.

        Returns:
            Whether there is such a place that was not doubted, too.
        """

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


def tries(objects: Objects, name: str) -> Iterator[None]:
    """One turn for each place that may have an object right, and one more.

    The caller ends the loop when it has right bytes. Wrong ones may have been damaged on the way,
    so that a single place is read twice, too.
    """
    elsewhere = True
    yield
    while elsewhere:
        elsewhere = objects.doubt(name)
        yield
