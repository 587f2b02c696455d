"""A store in one file, `NAME.forge`, which `forge bundle export` writes: see `formats.archive`.

It is only read. Objects that are read as a whole are compared with the digest that the file records
for them; readers of packs verify each chunk themselves.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

from forge.canonical import sha256
from forge.errors import ConfigurationError, CorruptedError, NotInStoreError, StoreError
from forge.files import check_relative_path, fsync_directory
from forge.store.backends.protocol import Entry, Objects, Stored
from forge.store.backends.read_only import ReadOnly
from forge.store.backends.throttle import RateLimit, local_blocks
from forge.store.disk_errors import disk_error, disk_errors
from forge.store.formats import archive
from forge.store.formats.archive import END, MAX_MEMBER_BYTES, SUFFIX, SUMS, Member
from forge.store.formats.names import FILES, PACKS, TREES
from forge.store.progress import Progress

__all__ = ["ArchiveObjects", "is_archive", "write_archive"]

_HASH_BLOCK: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Index:
    """Members of one state of the file.

    Attributes:
        identity: device, inode, size and time of the file.
        members: place of each object.
        digests: SHA-256 of each object.
    """

    identity: tuple[int, int, int, int]
    members: Mapping[str, Member]
    digests: Mapping[str, str]


def is_archive(path: Path) -> bool:
    """Return whether a path names a store in a file; the file may be missing now."""
    return path.suffix == SUFFIX and not path.is_dir()


class ArchiveObjects(ReadOnly):
    """Objects of a `.forge` file. It may be replaced by another one at any time.

    Args:
        path: the file.
        limit: rate limit for reading packs: the file may be on a mount of another machine.
    """

    def __init__(self, path: Path, limit: RateLimit | None = None) -> None:
        self._path = path
        self._limit = limit
        self._lock = threading.Lock()
        self._last: _Index | None = None

    @property
    def url(self) -> str:
        """Return the path of the file."""
        return str(self._path)

    def read(self, name: str, *, max_bytes: int) -> Stored:
        """See `Objects.read`."""
        with self._opened(name) as (descriptor, index):
            member = self._find(index, name)
            if member.size > max_bytes:
                raise CorruptedError(f"{name} in {self.url} is larger than {max_bytes} bytes")
            data = _pread(descriptor, member.start, member.size)
            digest = sha256(data)
            if digest != index.digests.get(name, digest):
                raise archive.damaged(self.url, f"{name} does not have the digest in {SUMS}")
        return Stored(data, digest)

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """See `Objects.read_range`."""
        with self._opened(name) as (descriptor, index):
            member = self._find(index, name)
            data = b""
            if start + length <= member.size:
                data = _pread(descriptor, member.start + start, length)
        if len(data) != length:
            raise CorruptedError(f"{name} in {self.url} ends before byte {start + length}")
        return data

    def stream(self, name: str, start: int, length: int) -> Generator[bytes]:
        """See `Objects.stream`: one block, or smaller ones where the rate is limited."""
        return local_blocks(self._limit, partial(self.read_range, name), start, length)

    def report_bad_copy(self, name: str) -> bool:  # noqa: ARG002
        """See `Objects.report_bad_copy`: there is one place only."""
        return False

    def size(self, name: str) -> int | None:
        """See `Objects.size`."""
        entry = self.entry(name)
        return None if entry is None else entry.size

    def entry(self, name: str) -> Entry | None:
        """See `Objects.entry`; the time is the file's."""
        with self._opened(name) as (_, index):
            member = index.members.get(name) if name != SUMS else None
            return None if member is None else Entry(name, member.size, index.identity[3] / 1e9)

    def entries(self, prefix: str) -> Iterator[Entry]:
        """See `Objects.entries`."""
        with self._opened(SUMS) as (_, index):
            names = [name for name in index.digests if name.startswith(prefix)]
        modified = index.identity[3] / 1e9
        yield from (Entry(name, index.members[name].size, modified) for name in names)

    def has_recorded_digest(self, name: str) -> bool:
        """Return whether the bytes of an object have the digest that the file records for them.

        Raises NotInStoreError, StoreError.
        """
        hasher = hashlib.sha256()
        with self._opened(name) as (descriptor, index):
            member = self._find(index, name)
            for start in range(0, member.size, _HASH_BLOCK):
                length = min(_HASH_BLOCK, member.size - start)
                hasher.update(_pread(descriptor, member.start + start, length))
            return hasher.hexdigest() == index.digests.get(name)

    def _find(self, index: _Index, name: str) -> Member:
        if name not in index.digests:
            raise NotInStoreError(f"{name} is not in the store {self.url}")
        return index.members[name]

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[tuple[int, _Index]]:
        """Yield a descriptor of the file and the members of what it refers to."""
        check_relative_path(name)
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                yield descriptor, self._index(descriptor)
            finally:
                os.close(descriptor)
        except (FileNotFoundError, NotADirectoryError):
            hint = "mount its disk, or check the path given to --store"
            raise StoreError(f"No store at {self.url}", hint=hint) from None
        except OSError as error:
            raise disk_error(f"The store {self.url} cannot be used", name, error) from error

    def _index(self, descriptor: int) -> _Index:
        status = os.fstat(descriptor)
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        with self._lock:
            if self._last is None or self._last.identity != identity:
                members = archive.read_members(
                    lambda start, length: _pread(descriptor, start, length),
                    status.st_size,
                    self.url,
                )
                sums = _pread(descriptor, members[SUMS].start, members[SUMS].size)
                digests = archive.parse_sums(sums, members, self.url)
                self._last = _Index(identity, members, digests)
            return self._last

    def _refuse(self, what: str) -> NoReturn:
        message = f"The store {self.url} cannot be {what}: it is read-only"
        hint = "use the store that it was exported from, and export again"
        raise ConfigurationError(message, hint=hint)


def write_archive(
    path: Path,
    objects: Objects,
    documents: Mapping[str, bytes],
    *,
    progress: Progress | None = None,
) -> int:
    """Write a `.forge` file durably; equal content gives equal bytes. Replaces an older one.

    Args:
        path: the file.
        objects: packs, chunk lists and trees, all of which are written.
        documents: other objects by name.
        progress: called with (bytes done, bytes in total).

    Returns:
        Its size in bytes.

    Raises:
        StoreError: an object is damaged, or the disk failed.
    """
    sizes = {one.name: one.size for kind in (FILES, PACKS, TREES) for one in objects.entries(kind)}

    def content(name: str) -> bytes:
        if name in documents:
            return documents[name]
        return objects.read(name, max_bytes=min(sizes[name], MAX_MEMBER_BYTES)).data

    names = sorted({*sizes, *documents})
    digests = {
        name: name.rpartition("/")[2] if name.startswith(PACKS) else sha256(content(name))
        for name in names
    }
    with disk_errors(f"{path} cannot be written", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                sums = archive.encode_sums(digests)
                file.write(archive.encode_header(SUMS, len(sums)) + sums)
                file.write(archive.padding(len(sums)))
                total = sum(sizes.values()) + sum(map(len, documents.values()))
                done = 0
                for name in names:
                    data = content(name)
                    if sha256(data) != digests[name]:
                        raise CorruptedError(f"{name} in {objects.url} is damaged")
                    file.write(archive.encode_header(name, len(data)))
                    file.write(data)
                    file.write(archive.padding(len(data)))
                    done += len(data)
                    if progress:
                        progress(done, total)
                file.write(END)
                size = file.tell()
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)
        fsync_directory(path.parent)
    return size


def _pread(descriptor: int, start: int, length: int) -> bytes:
    """Return the bytes of a file from an offset; fewer at its end."""
    data = os.pread(descriptor, length, start)
    while len(data) < length and (
        more := os.pread(descriptor, length - len(data), start + len(data))
    ):
        data += more
    return data
