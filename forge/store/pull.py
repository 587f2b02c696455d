"""Getting a tree out of the store: what a seed has is linked or copied, the rest is fetched.

Nothing is believed: each chunk is checked before it is written, each file after. The folder is made
beside its final place as `.NAME.partial` and renamed when it is whole and fsynced. A partial folder
that a killed or failed run left is a seed of the next one, so no chunk is fetched twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from forge import canonical
from forge.errors import ConfigurationError, ConflictError, CorruptedError, NotInStoreError
from forge.files import fsync_directory, link_or_copy
from forge.store import chunklist
from forge.store.chunklist import ChunkList
from forge.store.disk import DiskError, disk_errors
from forge.store.layout import files_name, pack_name
from forge.store.objects import Objects
from forge.store.outfile import OutFile
from forge.store.put import Progress
from forge.store.ranges import Piece, Range, coalesce, every_piece
from forge.store.seeds import Seeds
from forge.store.trees import SMALL, Tree, TreeEntry
from forge.store.workers import Workers

__all__ = ["Pull", "Transfer"]

_WORKERS: Final = 6
_SPARE_BYTES: Final = 4 * 1024 * 1024  # left free beside the tree


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a pull cost.

    Attributes:
        fetched_bytes: read from the store, chunk lists included.
        reused_bytes: taken from seeds.
        requests: reads of the store.
    """

    fetched_bytes: int
    reused_bytes: int
    requests: int


@dataclass(slots=True)
class _Job:
    """A larger file and how many holders it has: the planner, and each range under way."""

    entry: TreeEntry
    file: OutFile
    repeats: list[tuple[int, int, int]]  # source, position, length inside the file
    holders: int = 1
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hold(self) -> None:
        with self.lock:
            self.holders += 1

    def release(self) -> bool:
        """Whether this was the last holder."""
        with self.lock:
            self.holders -= 1
            return self.holders == 0


class Pull:
    """One tree on its way out of the store."""

    def __init__(self, objects: Objects, tree: Tree, progress: Progress | None) -> None:
        self._objects = objects
        self._tree = tree
        self._progress = progress or (lambda _done, _all: None)
        self._size = tree.size
        self._lock = threading.Lock()
        self._fetched = 0
        self._reused = 0
        self._requests = 0
        self._done = 0

    def run(self, destination: Path, seeds: Sequence[Path]) -> Transfer:
        """Make `destination`.

        Raises:
            ConfigurationError: it exists and is not empty.
            ConflictError: another process is at it.
            CorruptedError: stored bytes are damaged; names them.
            StoreError: the store is out of reach, or the disk is full.
        """
        with disk_errors(f"{destination} cannot be written", destination):
            if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
                hint = "delete it, or give another folder"
                raise ConfigurationError(f"{destination} exists and is not empty", hint=hint)
            with _partial(destination) as (partial, leftover):
                self._fill(partial, Seeds([*seeds, leftover]))
                partial.replace(destination)
                fsync_directory(destination.parent)
        return Transfer(self._fetched, self._reused, self._requests)

    def read(self, entry: TreeEntry) -> bytes:
        """One file in memory. Raises as `run` does."""
        if entry.size == 0:
            return b""
        if entry.size <= SMALL:
            return self._read_small(entry)
        pieces = coalesce(every_piece(self._list(entry)))
        data = b"".join(bytes(part) for one in pieces for _, part in self._checked(one, entry))
        if canonical.sha256(data) != entry.sha256:
            raise _wrong_file(entry, self._objects.url)
        return data

    def _fill(self, partial: Path, seeds: Seeds) -> None:
        for folder in sorted({(partial / one.path).parent for one in self._tree.entries}):
            folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as opened, Workers(_WORKERS) as workers:
            missing = self._from_seeds(partial, seeds, workers)
            _check_space(partial, sum(one.size for one in missing))
            for entry in missing:
                if entry.size <= SMALL:
                    workers.submit(lambda entry=entry: self._small(entry, partial))  # type: ignore[misc]  # mypy does not infer default arguments
                else:
                    file = OutFile(partial / entry.path, entry)
                    opened.callback(file.close)
                    self._large(entry, file, seeds, workers)
        for parent, _, _ in os.walk(partial, topdown=False):
            fsync_directory(Path(parent))

    def _from_seeds(self, partial: Path, seeds: Seeds, workers: Workers) -> list[TreeEntry]:
        """Link the files that a seed has whole; return the others."""
        entries = self._tree.entries
        missing = []
        for entry, path in zip(entries, workers.map(seeds.whole, entries), strict=True):
            if path is not None and _link(path, partial / entry.path, entry):
                self._count(reused=entry.size)
            else:
                missing.append(entry)
        return missing

    def _small(self, entry: TreeEntry, partial: Path) -> None:
        data = self._read_small(entry) if entry.size else b""
        file = OutFile(partial / entry.path, entry)
        try:
            file.write(0, data)
            self._finish(file, entry)
            self._count(done=len(data))
        finally:
            file.close()

    def _read_small(self, entry: TreeEntry) -> bytes:
        """A file that is a pack of its own; read again if it came damaged."""
        name = pack_name(entry.sha256)
        for _ in range(2):
            with contextlib.suppress(CorruptedError), _missing(name, entry, self._objects.url):
                data = self._objects.read(name, max_bytes=entry.size).data
                self._count(fetched=len(data))
                if canonical.sha256(data) == entry.sha256:
                    return data
        raise _damaged(name, f"it is the file {entry.path}", self._objects.url)

    def _large(self, entry: TreeEntry, file: OutFile, seeds: Seeds, workers: Workers) -> None:
        chunks = self._list(entry)
        wanted, repeats = _places(chunks)
        job = _Job(entry, file, repeats)

        def use(digest: bytes, data: memoryview) -> None:
            file.write(wanted.pop(digest), data)
            self._count(reused=len(data))

        seeds.chunks(entry, wanted, use)
        for one in coalesce(_pieces(chunks, wanted)):
            job.hold()
            workers.submit(lambda one=one: self._range(one, job))  # type: ignore[misc]  # as above
        workers.submit(lambda: self._release(job))

    def _list(self, entry: TreeEntry) -> ChunkList:
        name = files_name(entry.sha256)
        for attempt in range(2):
            with _missing(name, entry, self._objects.url):
                data = self._objects.read(name, max_bytes=chunklist.max_encoded(entry.size)).data
            self._count(fetched=len(data))
            try:
                return chunklist.decode(data, size=entry.size, name=name)
            except CorruptedError:
                if attempt:
                    raise
        raise AssertionError

    def _range(self, one: Range, job: _Job) -> None:
        for piece, data in self._checked(one, job.entry):
            job.file.write(piece.position, data)
        self._release(job)

    def _checked(self, one: Range, entry: TreeEntry) -> list[tuple[Piece, memoryview]]:
        """The pieces of a range, read again once if one came damaged."""
        name = pack_name(one.pack.hex())
        wrong = ""
        for _ in range(2):
            with _missing(name, entry, self._objects.url):
                data = memoryview(self._objects.read_range(name, one.start, one.length))
            self._count(fetched=len(data))
            pieces = [(piece, one.cut(data, piece)) for piece in one.pieces]
            wrong = next(
                (
                    piece.chunk.digest.hex()
                    for piece, part in pieces
                    if hashlib.sha256(part).digest() != piece.chunk.digest
                ),
                "",
            )
            if not wrong:
                self._count(done=sum(piece.chunk.length for piece in one.pieces))
                return pieces
        raise _damaged(name, f"chunk {wrong} of {entry.path} is not what it was", self._objects.url)

    def _release(self, job: _Job) -> None:
        if job.release():
            for source, position, length in job.repeats:
                job.file.copy(source, position, length)
                self._count(done=length)
            self._finish(job.file, job.entry)

    def _finish(self, file: OutFile, entry: TreeEntry) -> None:
        if not file.finish():
            raise _wrong_file(entry, self._objects.url)

    def _count(self, *, fetched: int = 0, reused: int = 0, done: int = 0) -> None:
        with self._lock:
            self._fetched += fetched
            self._requests += bool(fetched)
            self._reused += reused
            self._done += reused + done
            self._progress(self._done, self._size)


def _places(chunks: ChunkList) -> tuple[dict[bytes, int], list[tuple[int, int, int]]]:
    """Position of the first of each chunk, and (source, position, length) of its repetitions."""
    first: dict[bytes, int] = {}
    repeats = []
    position = 0
    for chunk in chunks:
        source = first.setdefault(chunk.digest, position)
        if source != position:
            repeats.append((source, position, chunk.length))
        position += chunk.length
    return first, repeats


def _pieces(chunks: ChunkList, wanted: dict[bytes, int]) -> Iterator[Piece]:
    """Each chunk that is still wanted, once, in the order of the file."""
    for piece in every_piece(chunks):
        if wanted.get(piece.chunk.digest) == piece.position:
            yield piece


def _link(source: Path, target: Path, entry: TreeEntry) -> bool:
    """Hard-link a file of a seed, or copy it where that cannot be; whether it worked."""
    try:
        if source.stat().st_mode & 0o777 == entry.mode:
            link_or_copy(source, target)
        else:
            shutil.copyfile(source, target)
    except FileNotFoundError:  # the seed went away
        target.unlink(missing_ok=True)
        return False
    if target.stat().st_mode & 0o777 != entry.mode:  # never so for a link: the seed stays as it is
        target.chmod(entry.mode)
    with target.open("rb") as file:  # a linked one too: a killed run may have left it in memory
        os.fsync(file.fileno())
    return True


@contextlib.contextmanager
def _partial(destination: Path) -> Iterator[tuple[Path, Path]]:
    """The folder to fill and what an earlier run left; both are gone after success.

    After a full disk too: what is left must not keep it full.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = destination.parent / f".{destination.name}.partial"
    leftover = destination.parent / f".{destination.name}.leftover"
    if partial.is_dir():
        with _locked(partial):
            shutil.rmtree(leftover, ignore_errors=True)
            partial.rename(leftover)
    partial.mkdir()
    with _locked(partial):
        try:
            yield partial, leftover
        except (OSError, DiskError):
            shutil.rmtree(partial, ignore_errors=True)
            shutil.rmtree(leftover, ignore_errors=True)
            raise
    shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        hint = "wait for it, or unpack to another folder"
        raise ConflictError(f"Another process is filling {folder}", hint=hint) from None
    finally:
        os.close(descriptor)


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE_BYTES:
        why = f"{needed >> 20} MiB are needed and {free >> 20} MiB are free"
        raise DiskError(f"{folder.parent} is too full", why=why, hint="free some space there")


@contextlib.contextmanager
def _missing(name: str, entry: TreeEntry, url: str) -> Iterator[None]:
    """Say what a missing object means: a damaged store, not a wrong name."""
    try:
        yield
    except NotInStoreError as error:
        why = f"{name} is missing, which {entry.path} needs"
        hint = "run 'forge store verify --repair', then build or publish it again"
        raise CorruptedError(f"The store {url} is incomplete", why=why, hint=hint) from error


def _damaged(name: str, why: str, url: str) -> CorruptedError:
    hint = "run 'forge store verify --repair', then build or publish it again"
    return CorruptedError(f"{name} in {url} is damaged", why=why, hint=hint)


def _wrong_file(entry: TreeEntry, url: str) -> CorruptedError:
    why = f"{entry.path} does not have the digest {entry.sha256}"
    hint = "run 'forge store verify --repair', then build or publish it again"
    return CorruptedError(f"A file in {url} is damaged", why=why, hint=hint)
