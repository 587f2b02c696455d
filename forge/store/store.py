"""The store: content-addressed trees, step results, and leases.

One class for all backends. Thread-safe.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from forge import canonical
from forge.bundle import TreeReference
from forge.errors import CorruptedError, NotInStoreError, UsageError
from forge.store.backends.open import cache_folder, open_objects
from forge.store.backends.protocol import Objects, read_attempts
from forge.store.download.downloader import Downloader, Transfer
from forge.store.formats.action import MAX_ACTION_BYTES, ActionResult, action_name
from forge.store.formats.action import parse as parse_action
from forge.store.formats.names import ACTIONS, is_object, signed_name, tree_name
from forge.store.formats.signed_result import MAX_SIGNED_BYTES
from forge.store.formats.tree import MAX_TREE_BYTES, SMALL, Found, Tree, scan
from forge.store.formats.tree import parse as parse_tree
from forge.store.locks import leases, writers
from forge.store.locks.leases import Clock, Lease, Waiting
from forge.store.progress import Moved, Progress
from forge.store.upload.chunk_index import ChunkIndex, index_path
from forge.store.upload.uploader import PutReport, Uploader

__all__ = ["Store", "open_store"]

_UPLOADS: Final = 3
_READERS: Final = 8
_log = logging.getLogger(__name__)


def open_store(
    url: str,
    *,
    environment: Mapping[str, str] | None = None,
    cache: Path | None = None,
    mirrors: Sequence[str] = (),
    limit_rate: int | None = None,
) -> Store:
    """Open the store at a path, `file:///path`, `s3://…` or `https://…`, without connecting.

    Args:
        url: location of the store.
        environment: environment variables. Default: those of this process.
        cache: folder of the chunk index. Default: FORGE_CACHE or the user's cache folder.
        mirrors: URLs of copies of the store; with mirrors it is read-only.
        limit_rate: maximum bytes per second for reading.

    Raises:
        ConfigurationError: the URL is not valid.
    """
    environment = os.environ if environment is None else environment
    objects = open_objects(url, environment=environment, mirrors=mirrors, limit_rate=limit_rate)
    return Store(objects, cache=cache or cache_folder(environment))


class Store:
    """Trees by digest, step results by key.

    Every method raises StoreError if the store is unreachable.
    """

    def __init__(self, objects: Objects, *, cache: Path, clock: Clock | None = None) -> None:
        self.objects = objects
        self._index = index_path(cache, objects.url)
        self.clock = clock or Clock()
        self._lock = threading.Lock()
        self._fresh = False
        self._writer: Lease | None = None

    @property
    def url(self) -> str:
        """Return the location of the store, without credentials."""
        return self.objects.url

    def put_tree(self, folder: Path, *, progress: Progress | None = None) -> TreeReference:
        """Store a folder and return its reference; see `put`."""
        return self.put(folder, progress=progress).reference

    def put(self, folder: Path, *, progress: Progress | None = None) -> PutReport:
        """Store a folder. Writes only chunks that the store lacks, and the tree document last.

        Args:
            folder: the folder; it must not change during the call.
            progress: called with (bytes done, bytes in total).

        Raises:
            ConfigurationError: the folder contains something that a tree cannot store.
            ConflictError: garbage collection is running.
            StoreError: the store or the disk failed; the store has at most some unused objects.
        """
        found = scan(folder)
        with self.as_writer() as lease, self._put(found, progress) as put:
            return put.run(found, lease.check)

    def put_files(self, found: Sequence[Found]) -> None:
        """Store files without a tree document. Raises as `put` does."""
        with self.as_writer(), self._put(found, None) as put:
            put.files(found)

    def tree(self, digest: str) -> Tree:
        """Return the tree with a digest.

        Raises:
            NotInStoreError: no such tree.
            CorruptedError: its document is damaged.
            TrustError: it has a path that is not safe to create.
        """
        name, data = tree_name(digest), b""
        for _ in read_attempts(self.objects, name):
            data = self.objects.read(name, max_bytes=MAX_TREE_BYTES).data
            if canonical.sha256(data) == digest:
                break
        return parse_tree(data, digest, self.url)

    def has_tree(self, digest: str) -> bool:
        """Return whether the tree document exists and is valid. Does not read its files."""
        name = tree_name(digest)
        try:
            for _ in read_attempts(self.objects, name):
                data = self.objects.read(name, max_bytes=MAX_TREE_BYTES).data
                if canonical.sha256(data) == digest:
                    return True
        except NotInStoreError:
            return False
        except CorruptedError:
            pass
        _log.warning("%s in %s is damaged and ignored.", name, self.url)
        return False

    def unpack(
        self,
        digest: str,
        destination: Path,
        *,
        seeds: Sequence[Path] = (),
        progress: Progress | None = None,
        moved: Moved | None = None,
    ) -> Transfer:
        """Unpack a stored folder to `destination`.

        Every byte is verified and synced before `destination` appears. After a failure or a kill,
        `.NAME.partial` next to it may keep what was downloaded; the next call uses and deletes it.

        Args:
            digest: digest of the tree.
            destination: a path that does not exist, or an empty folder.
            seeds: folders whose equal files are hard-linked (copied if links are not possible), so
                treat both as read-only, and whose equal chunks are copied.
            progress: called with (bytes done, bytes in total), from several threads.
            moved: called before it with the bytes that were downloaded, as they are in the files;
                what seeds had is not among them.

        Raises:
            ConfigurationError: `destination` is not empty.
            ConflictError: another process is filling it.
            NotInStoreError: no such tree.
            CorruptedError: stored bytes are damaged or missing; the message names them.
            TrustError: the tree has a path that is not safe to create.
            StoreError: the store is unreachable, or the disk is full.
        """
        work = Downloader(self.objects, self.tree(digest), progress, moved)
        return work.run(destination, seeds)

    def read_file(self, digest: str, path: str, *, max_bytes: int) -> bytes:
        """Return the content of one file of a tree.

        Raises:
            NotInStoreError: no such tree, or no such file in it.
            CorruptedError: the file is damaged.
            UsageError: the file is larger than `max_bytes`.
        """
        entry = next((one for one in self.tree(digest).entries if one.path == path), None)
        if entry is None:
            raise NotInStoreError(f"No file {path} in the tree {digest} of {self.url}")
        if entry.size > max_bytes:
            raise UsageError(f"{path} is {entry.size} bytes, more than {max_bytes}")
        return Downloader(self.objects, Tree(entries=(entry,)), None).read(entry)

    def action(self, key: str) -> ActionResult | None:
        """Return the result of a key; None if there is none or (with a warning) it is damaged."""
        try:
            data = self.objects.read(action_name(key), max_bytes=MAX_ACTION_BYTES).data
        except NotInStoreError:
            return None
        except CorruptedError as error:
            _log.warning("%s. The step runs again.", error.what)
            return None
        return parse_action(data, key, self.url)

    def put_action(self, result: ActionResult) -> None:
        """Store a result, replacing an earlier one of the same key."""
        self.objects.write(action_name(result.key), result.encode())

    def signed_result(self, builder: str, key: str) -> bytes | None:
        """Return the envelope of the result that a trusted builder signed; None if there is none.

        Raises CorruptedError if it is larger than such an envelope can be.
        """
        try:
            return self.objects.read(signed_name(builder, key), max_bytes=MAX_SIGNED_BYTES).data
        except NotInStoreError:
            return None

    def put_signed_result(self, builder: str, key: str, envelope: bytes) -> None:
        """Store the envelope of a result, replacing an earlier one of the same builder and key."""
        self.objects.write(signed_name(builder, key), envelope)

    def recent_actions(self, limit: int = 200) -> list[ActionResult]:
        """Return the newest results, newest first. Reads each of them."""
        entries = sorted(self.objects.entries(ACTIONS), key=lambda one: -one.modified)
        good = [
            entry.name.removeprefix(ACTIONS).removesuffix(".json")
            for entry in entries
            if is_object(entry.name)
        ][:limit]
        with ThreadPoolExecutor(_READERS) as pool:
            return [result for result in pool.map(self.action, good) if result is not None]

    def lease(
        self,
        name: str,
        *,
        owner: str,
        ttl_s: float = 60.0,
        wait_s: float = 0.0,
        cancelled: threading.Event | None = None,
        waiting: Waiting | None = None,
    ) -> AbstractContextManager[Lease]:
        """Hold a lease during the body; see `forge.store.locks.leases.hold`."""
        return leases.hold(
            self.objects, name, owner=owner, ttl_s=ttl_s, wait_s=wait_s, clock=self.clock,
            cancelled=cancelled, waiting=waiting,
        )  # fmt: skip

    @contextlib.contextmanager
    def writing(self, owner: str) -> Iterator[Lease]:
        """Prevent garbage collection during the body. `put_tree` does so itself if necessary.

        Raises:
            ConflictError: garbage collection is running.
        """
        with writers.writing(self.objects, owner, self.clock) as lease:
            before, self._writer = self._writer, lease
            try:
                yield lease
            finally:
                self._writer = before

    @contextlib.contextmanager
    def as_writer(self) -> Iterator[Lease]:
        """Hold a writer's lease during the body: that of `writing`, or a new one.

        Raises:
            ConflictError: garbage collection is running.
        """
        if self._writer is not None:
            yield self._writer
        else:
            with writers.writing(self.objects, leases.owner(), self.clock) as lease:
                yield lease

    @contextlib.contextmanager
    def _put(self, found: Sequence[Found], progress: Progress | None) -> Iterator[Uploader]:
        large = any(one.size > SMALL for one in found)  # small files do not use the index
        with (
            ChunkIndex(self._index if large else None) as index,
            ThreadPoolExecutor(_UPLOADS) as pool,
        ):
            if large:
                self._refresh(index)
            yield Uploader(self.objects, index, pool, now=self.clock.now(), progress=progress)

    def _refresh(self, index: ChunkIndex) -> None:
        with self._lock:
            if not self._fresh:
                index.refresh(self.objects)
                self._fresh = True
