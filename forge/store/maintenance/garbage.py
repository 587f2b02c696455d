"""Mark and sweep: delete objects that no kept tree, recent result or recent object refers to.

Marked are the given trees and results; results within the grace period, or whose outputs are all
marked; objects within the grace period; and everything that these refer to. Objects are deleted in
the order results, trees, chunk lists, packs, so that no object refers to a deleted one, even if the
collector is killed. Objects that Forge did not write are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from forge.errors import CorruptedError, NotInStoreError
from forge.store.backends.protocol import Entry
from forge.store.formats import chunk_list
from forge.store.formats.names import (
    ACTIONS,
    FILES,
    PACKS,
    SIGNED,
    TREES,
    files_name,
    is_object,
    pack_name,
    tree_name,
)
from forge.store.formats.signed_result import MAX_SIGNED_BYTES, unverified_result
from forge.store.formats.tree import SMALL
from forge.store.locks import leases, writers
from forge.store.locks.leases import MAX_LEASE_BYTES, live
from forge.store.locks.writers import COLLECTOR

if TYPE_CHECKING:
    from forge.store.formats.action import ActionResult
    from forge.store.store import Store

__all__ = ["Collector", "GarbageReport", "collect_garbage"]

_DELETERS: Final = 8
_HOUR_S: Final = 3600.0
_LEASES: Final = "leases/"
_KINDS: Final = (SIGNED, ACTIONS, TREES, FILES, PACKS, _LEASES)


@dataclass(slots=True)
class _Swept:
    objects: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class GarbageReport:
    """Result of a garbage collection.

    Attributes:
        deleted: number and bytes of deleted objects by kind.
        kept_objects: number of objects kept.
        missing: trees and chunk lists that are referred to and not in the store.
        left_overs: number of partial files and uploads of killed writers that were deleted.
        foreign: names that Forge did not write; they are kept.
        dry_run: whether nothing was deleted.
    """

    deleted: dict[str, _Swept]
    kept_objects: int
    missing: tuple[str, ...]
    left_overs: int
    foreign: tuple[str, ...]
    dry_run: bool

    @property
    def bytes(self) -> int:
        """Return the bytes of all deleted objects."""
        return sum(one.size for one in self.deleted.values())

    def as_json(self) -> dict[str, object]:
        """Return the report as a JSON object, for `--json`."""
        return {
            "deleted": {
                kind: {"objects": one.objects, "bytes": one.size}
                for kind, one in self.deleted.items()
            },
            "kept_objects": self.kept_objects,
            "missing": list(self.missing),
            "left_overs": self.left_overs,
            "foreign": list(self.foreign),
            "dry_run": self.dry_run,
        }

    def rows(self, size_text: Callable[[int], str]) -> list[tuple[str, str, str]]:
        """Return the rows (kind, objects, size) of a table."""
        return [(kind, str(one.objects), size_text(one.size)) for kind, one in self.deleted.items()]


@dataclass(slots=True)
class _Marks:
    """Names of objects to keep."""

    names: set[str] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)


def collect_garbage(
    store: Store,
    *,
    keep_trees: Iterable[str],
    keep_actions: Iterable[str] = (),
    grace_s: float,
    now: float,
    dry_run: bool = False,
) -> GarbageReport:
    """Delete objects that nothing refers to.

    Args:
        store: the store.
        keep_trees: digests of the trees to keep, in addition to those of results younger than
            `grace_s`; iterated once no writer is active.
        keep_actions: keys of the results to keep with their output trees, signed ones too;
            iterated likewise.
        grace_s: seconds; younger objects are not deleted.
        now: seconds since the epoch.
        dry_run: report objects that would be deleted, and delete nothing.

    Raises:
        ConflictError: a writer is active, or another collection is running.
        CorruptedError: a tree or chunk list to be kept is damaged.
    """
    with writers.collecting(store.objects, leases.owner(), store.clock) as lease:
        collector = Collector(store, now=now, grace_s=grace_s, dry_run=dry_run, check=lease.check)
        return collector.run(keep_trees, keep_actions)


class Collector:
    """One garbage collection.

    Args:
        store: the store.
        now: seconds since the epoch.
        grace_s: seconds; objects modified more recently are kept.
        dry_run: delete nothing.
        check: raises if the collector must stop.
    """

    def __init__(
        self,
        store: Store,
        *,
        now: float,
        grace_s: float,
        dry_run: bool,
        check: Callable[[], None],
    ) -> None:
        self._store = store
        self._objects = store.objects
        self._now = now
        self._before = now - grace_s
        self._dry_run = dry_run
        self._check = check
        self._marks = _Marks()

    def run(self, keep_trees: Iterable[str], keep_actions: Iterable[str]) -> GarbageReport:
        """Mark, then sweep. Raises CorruptedError before anything is deleted."""
        listed = {kind: list(self._objects.entries(kind)) for kind in _KINDS}
        foreign = _take_foreign(listed)
        self._mark_young(listed)
        digests = set(keep_trees) | {
            _digest(entry.name) for entry in listed[TREES] if self._young(entry)
        }
        digests |= self._mark_results(
            [*listed[ACTIONS], *listed[SIGNED]], digests, set(keep_actions)
        )
        sizes = self._mark_trees(digests)
        self._mark_files(sizes, listed[FILES])
        self._mark_leases(listed[_LEASES])
        deleted = {kind.rstrip("/"): self._sweep(listed[kind]) for kind in _KINDS}
        total = sum(len(entries) for entries in listed.values())
        # Never recent ones, even with a grace of 0: other processes write leases all the time.
        swept_before = min(self._before, self._now - _HOUR_S)
        left_overs = 0 if self._dry_run else self._objects.sweep(swept_before)
        return GarbageReport(
            deleted,
            total - sum(one.objects for one in deleted.values()),
            tuple(sorted(self._marks.missing)),
            left_overs,
            foreign,
            self._dry_run,
        )

    def _young(self, entry: Entry) -> bool:
        return entry.modified >= self._before

    def _mark_young(self, listed: dict[str, list[Entry]]) -> None:
        for entries in listed.values():
            self._marks.names.update(entry.name for entry in entries if self._young(entry))

    def _mark_results(
        self, entries: list[Entry], kept: set[str], keep_actions: set[str]
    ) -> set[str]:
        """Mark the results to keep; return the trees of recent and of named results."""
        trees: set[str] = set()
        old = []
        for entry in entries:
            result = self._result(entry)
            if result is None:
                continue
            outputs = {tree.digest for tree in result.outputs.values()}
            if self._young(entry) or _digest(entry.name) in keep_actions:
                self._marks.names.add(entry.name)
                trees |= outputs
            else:
                old.append((entry.name, outputs))
        self._marks.names.update(
            name for name, outputs in old if outputs and outputs <= kept | trees
        )
        return trees

    def _result(self, entry: Entry) -> ActionResult | None:
        """Return the result in an object, unverified; None if it is damaged."""
        if entry.name.startswith(ACTIONS):
            return self._store.action(_digest(entry.name))
        try:
            data = self._objects.read(entry.name, max_bytes=MAX_SIGNED_BYTES).data
            return unverified_result(data, entry.name)
        except (CorruptedError, NotInStoreError):
            return None

    def _mark_trees(self, digests: set[str]) -> dict[str, int]:
        """Mark trees and their small files; return the sizes of larger files by digest."""
        larger: dict[str, int] = {}
        for digest in sorted(digests):
            name = tree_name(digest)
            self._marks.names.add(name)
            try:
                tree = self._store.tree(digest)
            except NotInStoreError:
                self._marks.missing.append(name)
                continue
            for entry in tree.entries:
                if entry.size > SMALL:
                    larger[entry.sha256] = entry.size
                elif entry.size:
                    self._marks.names.add(pack_name(entry.sha256))
        return larger

    def _mark_files(self, sizes: dict[str, int], entries: list[Entry]) -> None:
        """Mark the chunk lists of kept files, and the packs of these and of recent lists."""
        young = {_digest(entry.name) for entry in entries if self._young(entry)}
        stored = {_digest(entry.name) for entry in entries}
        for digest in sorted(sizes.keys() | young):
            name = files_name(digest)
            self._marks.names.add(name)
            if digest not in stored:
                self._marks.missing.append(name)
                continue
            size = sizes.get(digest)
            limit = chunk_list.MAX_LIST_BYTES if size is None else chunk_list.max_encoded(size)
            data = self._objects.read(name, max_bytes=limit).data
            chunks = chunk_list.decode(data, size=size, name=name)
            self._marks.names.update(pack_name(pack.hex()) for pack in chunks.packs)

    def _mark_leases(self, entries: list[Entry]) -> None:
        self._marks.names.add(COLLECTOR)  # this collection's own
        for entry in entries:
            try:
                data = self._objects.read(entry.name, max_bytes=MAX_LEASE_BYTES).data
            except (CorruptedError, NotInStoreError):
                continue
            if live(data, self._now) is not None:
                self._marks.names.add(entry.name)

    def _sweep(self, entries: list[Entry]) -> _Swept:
        dead = [entry for entry in entries if entry.name not in self._marks.names]
        if not self._dry_run:
            with ThreadPoolExecutor(_DELETERS) as pool:
                for _ in pool.map(self._delete, dead):
                    pass
        return _Swept(len(dead), sum(entry.size for entry in dead))

    def _delete(self, entry: Entry) -> None:
        self._check()
        self._objects.delete(entry.name)


def _take_foreign(listed: dict[str, list[Entry]]) -> tuple[str, ...]:
    """Remove objects that Forge did not write from the lists; return their names."""
    foreign = []
    for kind in (SIGNED, ACTIONS, TREES, FILES, PACKS):
        foreign += [entry.name for entry in listed[kind] if not is_object(entry.name)]
        listed[kind] = [entry for entry in listed[kind] if is_object(entry.name)]
    return tuple(foreign)


def _digest(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".json")
