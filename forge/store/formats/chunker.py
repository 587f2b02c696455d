"""Cut a file into chunks, and hash each chunk and the file.

FastCDC 2020 (normalised chunking, level 1) by `pyfastcdc`, 16/64/256 KiB: an edit changes only the
chunks around it. The file is read in windows and never mapped: memory stays bounded, and a file
that is truncated during the read causes a short read and not a SIGBUS. Reading, hashing the file
and hashing the chunks release the GIL, so that two cores are used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pyfastcdc import FastCDC

__all__ = ["AVERAGE", "MAXIMUM", "MINIMUM", "FileCutter"]

MINIMUM: Final = 16 * 1024
AVERAGE: Final = 64 * 1024
MAXIMUM: Final = 256 * 1024
_WINDOW: Final = 4 * 1024 * 1024


class FileCutter:
    """Iterator over the chunks of one file, with the size and SHA-256 of the bytes read.

    Iterate it once. The memory of a chunk is valid until the next chunk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """Return the digest of all bytes read so far."""
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[tuple[bytes, memoryview]]:
        """Yield (SHA-256 digest, bytes) of each chunk. Raises OSError."""
        buffer = memoryview(bytearray(MAXIMUM + _WINDOW))
        cutter = _cutter()
        carried = 0
        last = False
        with self._path.open("rb", buffering=0) as file, ThreadPoolExecutor(1) as hasher:
            while not last:
                end = carried + _fill(file, buffer[carried:])
                last = end < len(buffer)
                whole = hasher.submit(self._hash.update, buffer[carried:end])
                used = 0
                for data in _cut(cutter, buffer[:end], last=last):
                    used += len(data)
                    yield hashlib.sha256(data).digest(), data
                whole.result()
                self.size += used
                carried = end - used
                buffer[:carried] = buffer[used:end]


def _fill(file: FileIO, buffer: memoryview) -> int:
    """Read until the buffer is full or the file ends; return the number of bytes."""
    done = 0
    while done < len(buffer) and (count := file.readinto(buffer[done:])):
        done += count
    return done


def _cut(cutter: FastCDC, view: memoryview, *, last: bool) -> Iterator[memoryview]:
    """Yield the chunks whose end does not depend on following bytes (all, in the last window)."""
    for chunk in cutter.cut_buf(view):
        if not last and len(view) - chunk.offset < MAXIMUM:
            return
        yield chunk.data


def _cutter() -> FastCDC:
    from pyfastcdc import FastCDC

    return FastCDC(avg_size=AVERAGE, min_size=MINIMUM, max_size=MAXIMUM)
