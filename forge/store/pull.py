"""Getting a tree out of the store: what a seed has is linked or copied, the rest is fetched.

Nothing is believed: each chunk is checked before it counts, each file when it is whole. The folder
is made beside its final place and renamed when it is whole and fsynced. Bytes are written as they
come, and `forge.store.partial` says where: a killed run loses what it had not read yet, and the
next one asks for the rest of the chunks that were under way.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from forge import canonical
from forge.errors import ConfigurationError, CorruptedError, NotInStoreError
from forge.files import clone_or_copy, fsync_directory, link_or_copy
from forge.store import chunklist
from forge.store.chunklist import ChunkList
from forge.store.disk import disk_errors
from forge.store.layout import files_name
from forge.store.objects import Objects, tries
from forge.store.outfile import OutFile
from forge.store.partial import Partial, check_space, full_disk, making
from forge.store.put import Progress
from forge.store.ranges import Piece, Range, coalesce, every_piece
from forge.store.reader import Reader, WrongFileError
from forge.store.seeds import Seeds
from forge.store.trees import SMALL, Tree, TreeEntry
from forge.store.workers import Workers

__all__ = ["WORKERS", "Pull", "Transfer"]

WORKERS: Final = 6
# Chunks whose places are in memory at once: some 50 MB, 17 GB of a file.
_WINDOW: Final = 2**18
# Bytes of chunks that were begun in memory at once; a disk may have left more than six of them.
_HEADS: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a pull cost.

    Attributes:
        fetched_bytes: read from the store, chunk lists included.
        reused_bytes: taken from seeds, and found again of an earlier run.
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
    target: Path
    workers: Workers
    repeats: list[tuple[int, int, int]] = field(default_factory=list)
    """source, position, length inside the file"""
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
        self._reader = Reader(objects, self._came)
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
            try:
                while not self._made(destination, seeds):
                    self._done = 0
            except OSError as error:
                if full := full_disk(destination, self._size, error):
                    raise full from error
                raise
        return Transfer(self._fetched, self._reused, self._requests)

    def read(self, entry: TreeEntry) -> bytes:
        """One file in memory. Raises as `run` does."""
        if entry.size == 0:
            return b""
        if entry.size <= SMALL:
            return self._reader.small(entry)
        for _ in tries(self._objects, files_name(entry.sha256)):
            ranges = coalesce(every_piece(self._reader.chunk_list(entry)))
            data = b"".join(part for one in ranges for _, part in self._reader.pieces(one, entry))
            if canonical.sha256(data) == entry.sha256:
                return data
        raise WrongFileError(entry, self._objects.url)

    def _made(self, destination: Path, seeds: Sequence[Path]) -> bool:
        """Whether it was done; else a list of chunks was wrong and another place has one."""
        try:
            with making(destination) as where:
                more = [where.leftover, *where.strangers(self._tree.entries)]
                self._fill(where, Seeds([*seeds, *more]))
                where.folder.replace(destination)
                fsync_directory(destination.parent)
        except WrongFileError as error:
            name = files_name(error.entry.sha256)
            with contextlib.suppress(NotInStoreError, CorruptedError):
                # Which place it came from is known of what this thread reads last.
                self._objects.read(name, max_bytes=chunklist.max_encoded(error.entry.size))
                if self._objects.doubt(name):
                    return False
            raise
        return True

    def _fill(self, where: Partial, seeds: Seeds) -> None:
        for folder in sorted({(where.folder / one.path).parent for one in self._tree.entries}):
            folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as opened, Workers(WORKERS) as workers:
            missing = self._from_seeds(where.folder, seeds, workers)
            first = {entry.sha256: entry for entry in reversed(missing)}
            check_space(where, first.values())
            for entry in first.values():
                if entry.size <= SMALL:
                    workers.submit(lambda entry=entry: self._small(entry, where))  # type: ignore[misc]  # mypy does not infer default arguments
                else:
                    job = self._job(entry, where, workers)
                    opened.callback(job.file.close)
                    self._large(job, seeds)
        for entry in missing:
            if first[entry.sha256] is not entry:  # the same bytes under another path
                source = where.folder / first[entry.sha256].path
                _link(source, where.folder / entry.path, entry)
                self._count(reused=entry.size)
        for parent, _, _ in os.walk(where.folder, topdown=False):
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

    def _small(self, entry: TreeEntry, where: Partial) -> None:
        data = self._reader.small(entry) if entry.size else b""
        path = where.folder / entry.path
        file = OutFile(path, entry)
        try:
            file.write(0, data)
            self._finish(file, entry, path)
            self._count(done=len(data))
        finally:
            file.close()

    def _job(self, entry: TreeEntry, where: Partial, workers: Workers) -> _Job:
        part = where.part(entry)
        part.parent.mkdir(parents=True, exist_ok=True)
        return _Job(entry, OutFile(part, entry), where.folder / entry.path, workers)

    def _large(self, job: _Job, seeds: Seeds) -> None:
        chunks = self._reader.chunk_list(job.entry)
        for start in range(0, len(chunks), _WINDOW):
            self._window(job, seeds, chunks, start)
        job.workers.submit(lambda: self._release(job))

    def _window(self, job: _Job, seeds: Seeds, chunks: ChunkList, start: int) -> None:
        """Get the chunks from number `start` on, as many as there are places for in memory."""

        def pieces() -> Iterator[Piece]:
            return itertools.islice(every_piece(chunks), start, start + _WINDOW)

        wanted: dict[bytes, int] = {}
        for piece in pieces():
            chunk = piece.chunk
            source = wanted.setdefault(chunk.digest, piece.position)
            if source != piece.position:
                job.repeats.append((source, piece.position, chunk.length))

        def use(digest: bytes, data: memoryview) -> None:
            job.file.write(wanted.pop(digest), data)
            self._count(reused=len(data))

        def missing() -> Iterator[Piece]:
            """Each chunk that is still wanted, once, in the order of the file."""
            return (one for one in pieces() if wanted.get(one.chunk.digest) == one.position)

        heads = self._begun(job, missing(), wanted) if job.file.resumed else {}
        seeds.chunks(job.entry, wanted, use)
        begun = (replace(one, head=heads.get(one.chunk.digest, b"")) for one in missing())
        for one in coalesce(begun if heads else missing()):
            job.hold()
            job.workers.submit(lambda one=one: self._range(one, job))  # type: ignore[misc]  # as above

    def _begun(
        self, job: _Job, pieces: Iterator[Piece], wanted: dict[bytes, int]
    ) -> dict[bytes, bytes]:
        """What an earlier run had of chunks it had only begun; whole ones are not wanted then."""
        heads, held = {}, 0
        for piece in pieces:
            chunk = piece.chunk
            head = job.file.found(piece.position, chunk.length, chunk.digest)
            if head is None:
                del wanted[chunk.digest]
                self._count(reused=chunk.length)
            elif head and held < _HEADS:
                heads[chunk.digest] = head
                held += len(head)
        return heads

    def _range(self, one: Range, job: _Job) -> None:
        for piece, data in self._reader.pieces(one, job.entry, job.file.keep):
            job.file.note(piece.position, len(data))
            self._count(reused=len(piece.head), done=len(data) - len(piece.head))
            if job.workers.stopping:
                return
        self._release(job)

    def _release(self, job: _Job) -> None:
        if job.release():
            for source, position, length in job.repeats:
                job.file.copy(source, position, length)
                self._count(done=length)
            self._finish(job.file, job.entry, job.target)

    def _finish(self, file: OutFile, entry: TreeEntry, target: Path) -> None:
        if not file.finish(target):
            raise WrongFileError(entry, self._objects.url)

    def _came(self, fetched: int, requests: int) -> None:
        with self._lock:
            self._fetched += fetched
            self._requests += requests

    def _count(self, *, reused: int = 0, done: int = 0) -> None:
        with self._lock:
            self._reused += reused
            self._done += reused + done
            self._progress(self._done, self._size)


def _link(source: Path, target: Path, entry: TreeEntry) -> bool:
    """Hard-link a file of a seed, or copy it where that cannot be; whether it worked."""
    try:
        if source.stat().st_mode & 0o777 == entry.mode:
            link_or_copy(source, target)
        else:
            clone_or_copy(source, target)
    except FileNotFoundError:  # the seed went away
        target.unlink(missing_ok=True)
        return False
    if target.stat().st_mode & 0o777 != entry.mode:  # never so for a link: the seed stays as it is
        target.chmod(entry.mode)
    with target.open("rb") as file:  # a linked one too: a killed run may have left it in memory
        os.fsync(file.fileno())
    return True
