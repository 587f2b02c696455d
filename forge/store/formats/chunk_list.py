"""`files/<sha256>`: the packs that contain the chunks of one larger file.

It is not signed, so readers verify every chunk and the whole file by their digests. Layout,
integers little-endian:

    8 bytes   b"FORGECL" and the version, 1
    u64       size of the file in bytes
    u32 u32   number of chunks, number of packs
    zlib of   packs x 32 bytes    digest of each pack
              chunks x 32 bytes   digest of each chunk, in file order
              chunks x u32        length
              chunks x u32        index of the pack
              chunks x u32        offset in the pack
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from forge.errors import CorruptedError
from forge.store.formats.chunker import MAXIMUM, MINIMUM
from forge.store.formats.names import MAX_FILE_BYTES

__all__ = [
    "MAX_LIST_BYTES",
    "MAX_PACK_BYTES",
    "Chunk",
    "ChunkList",
    "ChunkListBuilder",
    "decode",
    "max_encoded",
]

MAX_PACK_BYTES: Final = 64 * 1024 * 1024
MAX_LIST_BYTES: Final = 256 * 1024 * 1024
"""Limit for reading a list without knowing the size of the file: that of a file of about 400 GB."""
# A list usually inflates by a fifth, but one of equal chunks (zeros) a thousandfold. A small object
# must not allocate much memory: above this limit, a list is read only if its size is confirmed.
_FREE_BYTES: Final = 16 * 1024 * 1024  # 380,000 chunks, 95 GB of zeros
_MAX_INFLATION: Final = 8
_MAGIC: Final = b"FORGECL\x01"
_HEADER: Final = struct.Struct("<8sQII")
_Pack = TypeVar("_Pack", bound=Hashable)
_DIGEST: Final = 32
_ROW: Final = _DIGEST + 3 * 4


@dataclass(frozen=True, slots=True)
class Chunk:
    """Location, length and digest of one chunk."""

    digest: bytes
    pack: bytes  # digest of the pack
    offset: int  # within the pack
    length: int


@dataclass(frozen=True, slots=True)
class ChunkList:
    """The chunks of one file, as columns: 44 bytes per chunk, in memory as well."""

    size: int
    packs: tuple[bytes, ...]
    digests: bytes
    lengths: array[int]
    indexes: array[int]
    offsets: array[int]

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[Chunk]:
        for row, (length, index, offset) in enumerate(
            zip(self.lengths, self.indexes, self.offsets, strict=True)
        ):
            digest = self.digests[row * _DIGEST : (row + 1) * _DIGEST]
            yield Chunk(digest, self.packs[index], offset, length)

    def encode(self) -> bytes:
        """Return the stored bytes."""
        columns = (self.lengths, self.indexes, self.offsets)
        body = b"".join([*self.packs, self.digests, *(_little(one).tobytes() for one in columns)])
        head = _HEADER.pack(_MAGIC, self.size, len(self), len(self.packs))
        return head + zlib.compress(body, 6)


class ChunkListBuilder(Generic[_Pack]):
    """Builds the list of one file while the digests of its packs may not be known yet."""

    def __init__(self) -> None:
        self._digests = bytearray()
        self._lengths = array("I")
        self._indexes = array("I")
        self._offsets = array("I")
        self._packs: dict[_Pack, int] = {}

    def add(self, digest: bytes, pack: _Pack, offset: int, length: int) -> None:
        """Append a chunk; `pack` is any hashable that identifies its pack until `build`."""
        self._digests += digest
        self._lengths.append(length)
        self._indexes.append(self._packs.setdefault(pack, len(self._packs)))
        self._offsets.append(offset)

    @property
    def packs(self) -> tuple[_Pack, ...]:
        """Return the packs referred to, in the order of their index."""
        return tuple(self._packs)

    def build(self, digests: tuple[bytes, ...]) -> ChunkList:
        """Return the list; `digests` are those of `packs`, in the same order."""
        return ChunkList(
            sum(self._lengths),
            digests,
            bytes(self._digests),
            self._lengths,
            self._indexes,
            self._offsets,
        )


def max_encoded(size: int) -> int:
    """Return an upper bound for the stored bytes of the list of a file of `size` bytes."""
    rows = _max_chunks(size)
    raw = rows * (_ROW + _DIGEST)
    return _HEADER.size + raw + raw // 1000 + 1024  # zlib: at most 5 bytes per 16 KiB block


def decode(data: bytes, *, size: int | None, name: str) -> ChunkList:
    """Parse a list and check every number.

    Args:
        data: the object.
        size: size of the file in bytes, if known; else the size in the list is used, with a limit
            on the memory that a small object may allocate.
        name: object name, for the message.

    Raises:
        CorruptedError: it is not a chunk list, or its numbers are not consistent.
    """
    if len(data) < _HEADER.size:
        raise _damaged(name, "it is truncated")
    magic, stated, rows, packs = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise _damaged(name, "it is not a chunk list of version 1")
    if size is not None and stated != size:
        raise _damaged(name, f"it is for a file of {stated} bytes, not {size}")
    if stated > MAX_FILE_BYTES or not 0 < packs <= rows <= _max_chunks(stated):
        raise _damaged(name, f"{rows} chunks in {packs} packs cannot make {stated} bytes")
    expected = packs * _DIGEST + rows * _ROW
    if size is None and expected > _FREE_BYTES + _MAX_INFLATION * len(data):
        raise _damaged(name, f"{len(data)} bytes would inflate to {expected}")
    body = _inflate(data[_HEADER.size :], expected, name)
    found = _columns(body, stated, rows, packs)
    _check(found, name)
    return found


def _inflate(data: bytes, expected: int, name: str) -> bytes:
    inflater = zlib.decompressobj()
    try:
        body = inflater.decompress(data, expected + 1)
    except zlib.error as error:
        raise _damaged(name, str(error)) from None
    if len(body) != expected or not inflater.eof:
        raise _damaged(name, f"it does not inflate to {expected} bytes")
    return body


def _columns(body: bytes, size: int, rows: int, packs: int) -> ChunkList:
    start = packs * _DIGEST
    names = tuple(body[at : at + _DIGEST] for at in range(0, start, _DIGEST))
    after = start + rows * _DIGEST
    columns = []
    for number in range(3):
        column = array("I")
        column.frombytes(body[after + number * rows * 4 : after + (number + 1) * rows * 4])
        columns.append(_little(column))
    return ChunkList(size, names, body[start:after], *columns)


def _check(found: ChunkList, name: str) -> None:
    if sum(found.lengths) != found.size:
        raise _damaged(name, "its chunks do not add up to the file")
    if not all(0 < length <= MAXIMUM for length in found.lengths):
        raise _damaged(name, f"a chunk is empty or longer than {MAXIMUM} bytes")
    if max(found.indexes) >= len(found.packs):
        raise _damaged(name, "a chunk is in a pack that is not listed")
    ends = zip(found.offsets, found.lengths, strict=True)
    if any(offset + length > MAX_PACK_BYTES for offset, length in ends):
        raise _damaged(name, f"a chunk ends past the {MAX_PACK_BYTES} bytes of a pack")


def _max_chunks(size: int) -> int:
    return size // MINIMUM + 1


def _little(column: array[int]) -> array[int]:
    if sys.byteorder == "big":
        column = array("I", column)
        column.byteswap()
    return column


def _damaged(name: str, why: str) -> CorruptedError:
    message = f"The chunk list {name} is damaged"
    return CorruptedError(message, why=why, hint="run 'forge store verify --repair'")
