"""Download a tree: content that a seed has is linked or copied, the rest is fetched.

Nothing is trusted: each chunk is verified before it counts, and each file when it is complete. The
folder is filled next to its destination and renamed when it is complete and fsynced. Bytes are
written as they arrive, to the places that `forge.store.download.resume` defines: after a kill, the
next run keeps everything written and requests only the rest of incomplete chunks.
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
from forge.store.backends.protocol import Objects
from forge.store.disk_errors import disk_errors
from forge.store.download.out_of_order_file import OutOfOrderFile
from forge.store.download.ranges import Piece, Range, coalesce, every_piece
from forge.store.download.reader import Reader, WrongFileError
from forge.store.download.resume import Partial, check_space, full_disk, resume_chunks, staging
from forge.store.download.seeds import Seeds
from forge.store.download.workers import Workers
from forge.store.formats import chunk_list
from forge.store.formats.chunk_list import ChunkList
from forge.store.formats.names import files_name
from forge.store.formats.tree import SMALL, Tree, TreeEntry
from forge.store.progress import Moved, Progress

__all__ = ["WINDOW", "WORKERS", "Downloader", "Transfer"]

WORKERS: Final = 6
# Chunks whose locations are in memory at once: about 50 MB, for 17 GB of a file.
WINDOW: Final = 2**18


@dataclass(frozen=True, slots=True)
class Transfer:
    """Cost of a download.

    Attributes:
        fetched_bytes: bytes read from the store, chunk lists included.
        reused_bytes: bytes taken from seeds or left by an earlier run.
        requests: number of requests to the store.
    """

    fetched_bytes: int
    reused_bytes: int
    requests: int


@dataclass(slots=True)
class _Job:
    """A larger file and its reference count: the planner, and each range in progress."""

    entry: TreeEntry
    file: OutOfOrderFile
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
        """Drop a reference and return whether it was the last one."""
        with self.lock:
            self.holders -= 1
            return self.holders == 0


class Downloader:
    """Download of one tree."""

    def __init__(
        self, objects: Objects, tree: Tree, progress: Progress | None, moved: Moved | None = None
    ) -> None:
        self._objects = objects
        self._reader = Reader(objects, self._came)
        self._tree = tree
        self._progress = progress or (lambda _done, _all: None)
        self._tell_moved = moved or (lambda _moved: None)
        self._moved = 0
        self._size = tree.size
        self._lock = threading.Lock()
        self._fetched = 0
        self._reused = 0
        self._requests = 0
        self._done = 0

    def run(self, destination: Path, seeds: Sequence[Path]) -> Transfer:
        """Fill `destination`.

        Raises:
            ConfigurationError: it exists and is not empty.
            ConflictError: another process is filling it.
            CorruptedError: stored bytes are damaged; the message names them.
            StoreError: the store is unreachable, or the disk is full.
        """
        with disk_errors(f"{destination} cannot be written", destination):
            if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
                hint = "delete it, or use another folder"
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
        """Return the content of one file. Raises as `run` does."""
        if entry.size == 0:
            return b""
        if entry.size <= SMALL:
            return self._reader.small(entry)
        while True:
            ranges = coalesce(every_piece(self._reader.chunk_list(entry)))
            data = b"".join(part for one in ranges for _, part in self._reader.pieces(one, entry))
            if canonical.sha256(data) == entry.sha256:
                return data
            if not self._report_bad_list(entry):
                raise WrongFileError(entry, self._objects.url)

    def _made(self, destination: Path, seeds: Sequence[Path]) -> bool:
        """Return whether the tree is complete; if not, a chunk list was wrong: try another copy."""
        try:
            with staging(destination) as where:
                more = [where.leftover, *where.other_partials(self._tree.entries)]
                self._fill(where, Seeds([*seeds, *more]))
                where.folder.replace(destination)
                fsync_directory(destination.parent)
        except WrongFileError as error:
            if self._report_bad_list(error.entry):
                return False
            raise
        return True

    def _report_bad_list(self, entry: TreeEntry) -> bool:
        """Report the chunk list of a file as a bad copy; return whether another place has one."""
        name = files_name(entry.sha256)
        with contextlib.suppress(NotInStoreError, CorruptedError):
            # A bad copy is reported for what this thread read last, so read the list here.
            self._objects.read(name, max_bytes=chunk_list.max_encoded(entry.size))
            return self._objects.report_bad_copy(name)
        return False

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
        """Link the files that a seed has completely; return the others."""
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
        file = OutOfOrderFile(path, entry)
        try:
            file.write(0, data)
            self._finish(file, entry, path)
            self._count(done=len(data))
        finally:
            file.close()

    def _job(self, entry: TreeEntry, where: Partial, workers: Workers) -> _Job:
        part = where.part(entry)
        part.parent.mkdir(parents=True, exist_ok=True)
        return _Job(entry, OutOfOrderFile(part, entry), where.folder / entry.path, workers)

    def _large(self, job: _Job, seeds: Seeds) -> None:
        chunks = self._reader.chunk_list(job.entry)
        for start in range(0, len(chunks), WINDOW):
            self._window(job, seeds, chunks, start)
        job.workers.submit(lambda: self._release(job))

    def _window(self, job: _Job, seeds: Seeds, chunks: ChunkList, start: int) -> None:
        """Get the chunks from number `start` on, up to the memory limit."""

        def pieces() -> Iterator[Piece]:
            return itertools.islice(every_piece(chunks), start, start + WINDOW)

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
            """Yield each chunk that is still missing, once, in file order."""
            return (one for one in pieces() if wanted.get(one.chunk.digest) == one.position)

        def resumed(length: int) -> None:
            self._count(reused=length)

        heads = resume_chunks(job.file, missing(), wanted, resumed) if job.file.resumed else {}
        seeds.chunks(job.entry, wanted, use)
        begun = (replace(one, head=heads.get(one.chunk.digest, b"")) for one in missing())
        for one in coalesce(begun if heads else missing()):
            job.hold()
            job.workers.submit(lambda one=one: self._range(one, job))  # type: ignore[misc]  # as above

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

    def _finish(self, file: OutOfOrderFile, entry: TreeEntry, target: Path) -> None:
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
            self._moved += done
            self._tell_moved(self._moved)
            self._progress(self._done, self._size)


def _link(source: Path, target: Path, entry: TreeEntry) -> bool:
    """Hard-link a file of a seed, or copy it if links fail; return whether it is correct."""
    try:
        if source.stat().st_mode & 0o777 == entry.mode:
            link_or_copy(source, target)
        else:
            clone_or_copy(source, target)
    except FileNotFoundError:  # the seed was deleted
        target.unlink(missing_ok=True)
        return False
    if (
        target.stat().st_mode & 0o777 != entry.mode
    ):  # only for copies: the mode of a linked seed must not change
        target.chmod(entry.mode)
    with target.open("rb") as file:  # a link as well: a killed run may not have synced it
        os.fsync(file.fileno())
    return True
