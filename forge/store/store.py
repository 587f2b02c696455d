"""The store: trees of content-addressed bytes, results of steps, and leases.

One object for a directory and for S3. Safe to use from several threads.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from forge import canonical
from forge.bundle import TreeReference
from forge.errors import CorruptedError, NotInStoreError, UsageError
from forge.store import actions, leases, trees, verify, writers
from forge.store.actions import ActionResult, action_name
from forge.store.garbage import Collector, GarbageReport
from forge.store.index import ChunkIndex, index_path
from forge.store.layout import ACTIONS, is_object, tree_name
from forge.store.leases import Clock, Lease, Waiting
from forge.store.location import cache_folder, open_objects
from forge.store.objects import Objects, tries
from forge.store.pull import Pull, Transfer
from forge.store.put import Progress, Put, PutReport
from forge.store.trees import SMALL, Found, Tree
from forge.store.verify import VerifyReport

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
    """The store at a folder's path, `file:///path`, `s3://…` or `https://…`. Contacts nothing yet.

    Args:
        url: where.
        environment: default: this process's.
        cache: folder of the chunk index. Default: FORGE_CACHE or the user's cache folder.
        mirrors: other places of the same objects; then the store can only be read.
        limit_rate: bytes a second at which bundles are read.

    Raises:
        ConfigurationError: not such a URL.
    """
    environment = os.environ if environment is None else environment
    objects = open_objects(url, environment=environment, mirrors=mirrors, limit_rate=limit_rate)
    return Store(objects, cache=cache or cache_folder(environment))


class Store:
    """Bytes by digest, results by key.

    Every method raises StoreError when the store is out of reach.
    """

    def __init__(self, objects: Objects, *, cache: Path, clock: Clock | None = None) -> None:
        self.objects = objects
        self._index = index_path(cache, objects.url)
        self._clock = clock or Clock()
        self._lock = threading.Lock()
        self._fresh = False
        self._writer: Lease | None = None

    @property
    def url(self) -> str:
        """Where the store is, without credentials."""
        return self.objects.url

    def put_tree(self, folder: Path, *, progress: Progress | None = None) -> TreeReference:
        """Store a folder; `put` without the numbers."""
        return self.put(folder, progress=progress).reference

    def put(self, folder: Path, *, progress: Progress | None = None) -> PutReport:
        """Store a folder: only chunks the store does not have are written, the tree last.

        Args:
            folder: what to store; nothing may write to it meanwhile.
            progress: called with (bytes done, bytes in all).

        Raises:
            ConfigurationError: the folder holds something a tree cannot keep.
            ConflictError: garbage is being collected.
            StoreError: the store or the disk; the store is as it was, but for unused objects.
        """
        found = trees.scan(folder)
        with self._as_writer() as lease, self._put(found, progress) as put:
            return put.run(found, lease.check)

    def put_files(self, found: Sequence[Found]) -> None:
        """Store files that some tree needs, and no tree. Raises as `put` does."""
        with self._as_writer(), self._put(found, None) as put:
            put.files(found)

    def tree(self, digest: str) -> Tree:
        """What is in a stored folder.

        Raises:
            NotInStoreError: no such tree.
            CorruptedError: its document is damaged.
            TrustError: it has a path that must not be created.
        """
        name, data = tree_name(digest), b""
        for _ in tries(self.objects, name):
            data = self.objects.read(name, max_bytes=trees.MAX_TREE_BYTES).data
            if canonical.sha256(data) == digest:
                break
        return trees.parse(data, digest, self.url)

    def has_tree(self, digest: str) -> bool:
        """Whether the tree's document is there and sound: one small read, none of its files."""
        name = tree_name(digest)
        try:
            for _ in tries(self.objects, name):
                data = self.objects.read(name, max_bytes=trees.MAX_TREE_BYTES).data
                if canonical.sha256(data) == digest:
                    return True
        except NotInStoreError:
            return False
        except CorruptedError:
            pass
        _log.warning("%s in %s is damaged and not used.", name, self.url)
        return False

    def unpack(
        self,
        digest: str,
        destination: Path,
        *,
        seeds: Sequence[Path] = (),
        progress: Progress | None = None,
    ) -> Transfer:
        """Make `destination` a copy of a stored folder.

        Every byte is verified and durable before `destination` appears. After a failure or a kill
        `.NAME.partial` beside it may keep what was fetched; the next call uses and deletes it.

        Args:
            digest: of the tree.
            destination: must not exist, or be an empty folder.
            seeds: folders whose equal files are hard-linked (copied where that cannot be), so
                treat both as read-only, and whose equal chunks are copied.
            progress: called with (bytes done, bytes in all), from several threads.

        Raises:
            ConfigurationError: `destination` is not empty.
            ConflictError: another process is filling it.
            NotInStoreError: no such tree.
            CorruptedError: stored bytes are damaged or missing; names them.
            TrustError: the tree has a path that must not be created.
            StoreError: the store is out of reach, or the disk is full.
        """
        return Pull(self.objects, self.tree(digest), progress).run(destination, seeds)

    def read_file(self, digest: str, path: str, *, max_bytes: int) -> bytes:
        """One file of a tree, whole in memory.

        Raises:
            NotInStoreError: no such tree, or no such file in it.
            CorruptedError: damaged.
            UsageError: larger than `max_bytes`.
        """
        entry = next((one for one in self.tree(digest).entries if one.path == path), None)
        if entry is None:
            raise NotInStoreError(f"There is no {path} in the tree {digest} of {self.url}")
        if entry.size > max_bytes:
            raise UsageError(f"{path} is {entry.size} bytes, more than {max_bytes}")
        return Pull(self.objects, Tree(entries=(entry,)), None).read(entry)

    def action(self, key: str) -> ActionResult | None:
        """The result of a key; None if there is none, or (with a warning) if it is damaged."""
        try:
            data = self.objects.read(action_name(key), max_bytes=actions.MAX_ACTION_BYTES).data
        except NotInStoreError:
            return None
        except CorruptedError as error:
            _log.warning("%s. The step runs again.", error.what)
            return None
        return actions.parse(data, key, self.url)

    def put_action(self, result: ActionResult) -> None:
        """Store a result; replaces an earlier one of the same key."""
        self.objects.write(action_name(result.key), result.encode())

    def forget(self, key: str) -> tuple[str, ...]:
        """Make a result a miss, so that its step runs again, and its damage with it.

        For who was refused an output: reads the output trees whole and deletes what is damaged in
        them, which the next `put_tree` would use again, and then the result.

        Returns:
            Names of what was deleted.

        Raises:
            ConflictError: garbage is being collected.
        """
        result = self.action(key)
        deleted: list[str] = []
        with self._as_writer():
            for tree in result.outputs.values() if result else ():
                deleted += verify.drop_damaged(self, tree.digest)
            if self.objects.size(action_name(key)) is not None:
                self.objects.delete(action_name(key))
                deleted.append(action_name(key))
        return tuple(deleted)

    def recent_actions(self, limit: int = 200) -> list[ActionResult]:
        """The newest results, newest first. Reads each of them."""
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
        """Hold a name for the body; see `forge.store.leases.hold`."""
        return leases.hold(
            self.objects, name, owner=owner, ttl_s=ttl_s, wait_s=wait_s, clock=self._clock,
            cancelled=cancelled, waiting=waiting,
        )  # fmt: skip

    @contextlib.contextmanager
    def writing(self, owner: str) -> Iterator[Lease]:
        """Keep garbage collection away for the body. `put_tree` does it itself if nobody did.

        Raises:
            ConflictError: garbage is being collected.
        """
        with writers.writing(self.objects, owner, self._clock) as lease:
            before, self._writer = self._writer, lease
            try:
                yield lease
            finally:
                self._writer = before

    def collect_garbage(
        self,
        *,
        keep_trees: Iterable[str],
        keep_actions: Iterable[str] = (),
        grace_s: float,
        now: float,
        dry_run: bool = False,
    ) -> GarbageReport:
        """Delete what nothing needs; see `forge.store.garbage`.

        Args:
            keep_trees: digests of the trees to keep, beside those of results younger than grace;
                asked for when it is sure that nobody writes.
            keep_actions: keys of the results to keep, with their output trees; likewise.
            grace_s: nothing younger than this many seconds is deleted.
            now: seconds since the epoch.
            dry_run: only say what would be deleted.

        Raises:
            ConflictError: somebody writes to the store, or collects already.
            CorruptedError: a tree or chunk list that is to be kept is damaged.
        """
        with writers.collecting(self.objects, leases.owner(), self._clock) as lease:
            collector = Collector(
                self, now=now, grace_s=grace_s, dry_run=dry_run, check=lease.check
            )
            return collector.run(keep_trees, keep_actions)

    def verify(
        self,
        *,
        repair: bool = False,
        repair_from: Sequence[Path] = (),
        progress: Progress | None = None,
    ) -> VerifyReport:
        """Read and check everything; see `forge.store.verify`.

        Args:
            repair: delete what is damaged, so that it is built or published again.
            repair_from: folders that may hold the lost files; they are stored again first.
            progress: called with (bytes done, bytes in all).

        Raises:
            ConflictError: `repair`, and garbage is being collected.
        """
        if not repair:
            return verify.Verifier(self, progress).run()
        with self._as_writer():
            report = verify.Verifier(self, progress).run()
            return verify.repair(self, report, repair_from)

    @contextlib.contextmanager
    def _as_writer(self) -> Iterator[Lease]:
        if self._writer is not None:
            yield self._writer
        else:
            with writers.writing(self.objects, leases.owner(), self._clock) as lease:
                yield lease

    @contextlib.contextmanager
    def _put(self, found: Sequence[Found], progress: Progress | None) -> Iterator[Put]:
        large = any(one.size > SMALL for one in found)  # small files need no index
        with (
            ChunkIndex(self._index if large else None) as index,
            ThreadPoolExecutor(_UPLOADS) as pool,
        ):
            if large:
                self._refresh(index)
            yield Put(self.objects, index, pool, now=self._clock.now(), progress=progress)

    def _refresh(self, index: ChunkIndex) -> None:
        with self._lock:
            if not self._fresh:
                index.refresh(self.objects)
                self._fresh = True
