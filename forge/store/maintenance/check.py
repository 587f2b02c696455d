"""Read every object of a store and check its digest and references.

A repair deletes damaged objects and those that refer to them, so that they are not cache hits and
the next build or publication writes them again. Files found in given folders are stored again
first. Objects that Forge did not write are reported and never deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from forge.errors import CorruptedError, NotInStoreError, TrustError
from forge.files import sha256_file
from forge.store.backends.protocol import Entry
from forge.store.download.ranges import coalesce, every_piece
from forge.store.formats import chunk_list
from forge.store.formats.action import MAX_ACTION_BYTES, action_name, parse
from forge.store.formats.chunk_list import MAX_PACK_BYTES, ChunkList
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
from forge.store.formats.tree import SMALL, Found, TreeEntry
from forge.store.progress import Progress

if TYPE_CHECKING:
    from forge.store.formats.action import ActionResult
    from forge.store.store import Store

__all__ = ["Problem", "Verifier", "VerifyReport", "check_store", "forget_result"]

_BLOCK: Final = 8 * 1024 * 1024
_ROUNDS: Final = 3
_KINDS: Final = (PACKS, FILES, TREES, ACTIONS, SIGNED)


@dataclass(frozen=True, slots=True)
class Problem:
    """An object that is damaged, incomplete, or not written by Forge."""

    name: str
    reason: str
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """Result of a verification.

    Attributes:
        objects: objects read.
        bytes: bytes read.
        problems: damaged objects, in the order found.
        remaining: problems left after a repair.
        deleted: names that the repair deleted and did not restore.
        restored: number of files that were stored again from a folder; `healed` in JSON.
    """

    objects: int
    bytes: int
    problems: tuple[Problem, ...]
    remaining: tuple[Problem, ...] = ()
    deleted: tuple[str, ...] = ()
    restored: int = 0

    @property
    def ok(self) -> bool:
        """Return whether there are no problems."""
        return not self.problems

    def as_json(self) -> dict[str, object]:
        """Return the report as a JSON object, for `--json`."""
        return {
            "ok": self.ok,
            "objects": self.objects,
            "bytes": self.bytes,
            "problems": [{"name": one.name, "reason": one.reason} for one in self.problems],
            "remaining": [{"name": one.name, "reason": one.reason} for one in self.remaining],
            "deleted": list(self.deleted),
            "healed": self.restored,
        }


@dataclass(slots=True)
class _Seen:
    packs: dict[bytes, int] = field(default_factory=dict)  # intact packs and their sizes
    files: dict[str, int] = field(
        default_factory=dict
    )  # intact chunk lists and the sizes of their files


_Check = Callable[[Entry], str]  # returns the problem, or an empty text


class Verifier:
    """One verification of a store."""

    def __init__(self, store: Store, progress: Progress | None) -> None:
        self._store = store
        self._objects = store.objects
        self._progress = progress or (lambda _done, _all: None)
        self._seen = _Seen()
        self._problems: list[Problem] = []
        self._bytes = 0
        self._count = 0
        self._total = 0

    def run(self) -> VerifyReport:
        """Check packs, chunk lists, trees, results, in that order. Raises StoreError."""
        return self._run({kind: list(self._objects.entries(kind)) for kind in _KINDS})

    def tree(self, digest: str) -> VerifyReport:
        """Check one tree and everything it refers to. Raises StoreError."""
        listed: dict[str, list[Entry]] = {kind: [] for kind in _KINDS}
        for kind, names in self._parts(digest).items():
            found = [self._objects.entry(name) for name in sorted(names)]
            listed[kind] = [entry for entry in found if entry is not None]
        return self._run(listed)

    def _parts(self, digest: str) -> dict[str, set[str]]:
        """Return the names of the objects that a tree refers to, as far as they can be read."""
        parts: dict[str, set[str]] = {TREES: {tree_name(digest)}, FILES: set(), PACKS: set()}
        with contextlib.suppress(CorruptedError, TrustError, NotInStoreError):
            for entry in self._store.tree(digest).entries:
                if entry.size > SMALL:
                    parts[FILES].add(files_name(entry.sha256))
                    parts[PACKS] |= self._packs_of(entry)
                elif entry.size:
                    parts[PACKS].add(pack_name(entry.sha256))
        return parts

    def _packs_of(self, entry: TreeEntry) -> set[str]:
        name = files_name(entry.sha256)
        try:
            data = self._objects.read(name, max_bytes=chunk_list.max_encoded(entry.size)).data
            packs = chunk_list.decode(data, size=entry.size, name=name).packs
        except (CorruptedError, NotInStoreError):
            return set()
        return {pack_name(pack.hex()) for pack in packs}

    def _run(self, listed: dict[str, list[Entry]]) -> VerifyReport:
        self._total = sum(entry.size for entries in listed.values() for entry in entries)
        checks = (self._pack, self._file, self._tree, self._action, self._signed)
        for kind, check in zip(_KINDS, checks, strict=True):
            for entry in listed[kind]:
                if is_object(entry.name):
                    self._check(entry, check)
                else:
                    reason = "not written by Forge: move it out of the store"
                    self._problems.append(Problem(entry.name, reason, foreign=True))
        return VerifyReport(self._count, self._bytes, tuple(self._problems))

    def _check(self, entry: Entry, check: _Check) -> None:
        try:
            reason = check(entry)
        except NotInStoreError:
            return  # deleted since the listing
        except (CorruptedError, TrustError) as error:
            reason = error.why or error.what
        if reason:
            self._problems.append(Problem(entry.name, reason))
        self._count += 1
        self._bytes += entry.size
        self._progress(self._bytes, self._total)

    def _pack(self, entry: Entry) -> str:
        digest = _name(entry)
        if entry.size > MAX_PACK_BYTES:
            return f"it is larger than {MAX_PACK_BYTES} bytes"
        if entry.name != pack_name(digest):
            return "it is in the wrong folder for its name"
        hasher = hashlib.sha256()
        for start in range(0, entry.size, _BLOCK):
            length = min(_BLOCK, entry.size - start)
            hasher.update(self._objects.read_range(entry.name, start, length))
        if hasher.hexdigest() != digest:
            return f"its bytes hash to {hasher.hexdigest()}"
        self._seen.packs[bytes.fromhex(digest)] = entry.size
        return ""

    def _file(self, entry: Entry) -> str:
        digest = _name(entry)
        data = self._objects.read(entry.name, max_bytes=chunk_list.MAX_LIST_BYTES).data
        chunks = chunk_list.decode(data, size=None, name=entry.name)
        for chunk in chunks:
            if chunk.offset + chunk.length > self._seen.packs.get(chunk.pack, 0):
                return f"its pack {chunk.pack.hex()} is damaged or missing"
        actual = self._content(chunks)
        if actual != digest:
            return f"its chunks make a file with the digest {actual}"
        self._seen.files[digest] = chunks.size
        return ""

    def _content(self, chunks: ChunkList) -> str:
        """Return the digest of the file that the chunks make."""
        hasher = hashlib.sha256()
        for one in coalesce(every_piece(chunks)):
            name = pack_name(one.pack.hex())
            data = memoryview(self._objects.read_range(name, one.start, one.length))
            for piece in one.pieces:
                part = one.cut(data, piece)
                if hashlib.sha256(part).digest() != piece.chunk.digest:
                    why = f"chunk {piece.chunk.digest.hex()} is not in {name}"
                    raise CorruptedError("A chunk is not at its recorded location", why=why)
                hasher.update(part)
        return hasher.hexdigest()

    def _tree(self, entry: Entry) -> str:
        tree = self._store.tree(_name(entry))
        for one in tree.entries:
            if one.size == 0:
                continue
            if one.size <= SMALL:
                if self._seen.packs.get(bytes.fromhex(one.sha256)) != one.size:
                    return f"{one.path}: its pack {one.sha256} is damaged or missing"
            elif self._seen.files.get(one.sha256) != one.size:
                return f"{one.path}: its chunk list {one.sha256} is damaged or missing"
        return ""

    def _action(self, entry: Entry) -> str:
        data = self._objects.read(entry.name, max_bytes=MAX_ACTION_BYTES).data
        return "" if parse(data, _name(entry), self._store.url) else "it is not a valid step result"

    def _signed(self, entry: Entry) -> str:
        """Check the form of a signed result; who may sign it is known to the project only."""
        data = self._objects.read(entry.name, max_bytes=MAX_SIGNED_BYTES).data
        found = unverified_result(data, entry.name)
        return "" if found.key == _name(entry) else f"it contains the result of {found.key}"


def check_store(
    store: Store,
    *,
    repair: bool = False,
    repair_from: Sequence[Path] = (),
    progress: Progress | None = None,
) -> VerifyReport:
    """Read and check every object of a store.

    Args:
        store: the store.
        repair: delete damaged objects, so that they are built or published again.
        repair_from: folders that may contain damaged files; these are stored again first.
        progress: called with (bytes done, bytes in total).

    Raises:
        ConflictError: with `repair`, during garbage collection.
    """
    if not repair:
        return Verifier(store, progress).run()
    with store.as_writer():
        return _repair(store, Verifier(store, progress).run(), repair_from)


def forget_result(store: Store, key: str, signed: ActionResult | None = None) -> tuple[str, ...]:
    """Delete a step's result and the damaged objects of its outputs, so that the step runs again.

    Reads the output trees completely, because the next `put_tree` would reuse damaged objects.

    Args:
        store: the store.
        key: digest of the step's key.
        signed: a result of the key that a builder signed; it stays, its damaged objects do not.

    Returns:
        Names of the deleted objects.

    Raises:
        ConflictError: garbage collection is running.
    """
    results = [one for one in (store.action(key), signed) if one is not None]
    deleted: list[str] = []
    with store.as_writer():
        for digest in sorted({tree.digest for one in results for tree in one.outputs.values()}):
            deleted += _drop_damaged(store, digest)
        if store.objects.size(action_name(key)) is not None:
            store.objects.delete(action_name(key))
            deleted.append(action_name(key))
    return tuple(deleted)


def _repair(store: Store, report: VerifyReport, folders: Sequence[Path]) -> VerifyReport:
    """Delete damaged objects, after restoring files from the folders.

    Args:
        store: the store; the caller holds a writer's lease.
        report: the current report of a `Verifier`.
        folders: folders that may contain lost files.
    """
    deleted: list[str] = []
    restored = 0
    latest = report
    for round_number in range(_ROUNDS):
        # Trees in the last round only: their files may be restored from the folders before.
        to_delete = [
            one.name
            for one in latest.problems
            if not one.foreign and (round_number or not _is_tree(one.name))
        ]
        for name in to_delete:
            store.objects.delete(name)
        deleted += to_delete
        if not round_number:
            restored = _restore_files(store, [one.name for one in latest.problems], folders)
        latest = Verifier(store, None).run()
        if all(one.foreign for one in latest.problems):
            break
    gone = tuple(name for name in deleted if store.objects.size(name) is None)
    return replace(report, remaining=latest.problems, deleted=gone, restored=restored)


def _drop_damaged(store: Store, digest: str) -> list[str]:
    """Delete the damaged objects of one tree, and the tree if it is incomplete; return the names.

    Args:
        store: the store; the caller holds a writer's lease.
        digest: digest of the tree.
    """
    names = [one.name for one in Verifier(store, None).tree(digest).problems]
    for name in names:
        store.objects.delete(name)
    return names


def _restore_files(store: Store, names: Sequence[str], folders: Sequence[Path]) -> int:
    """Store the lost files of incomplete trees that are in the folders; return their number."""
    lost: dict[str, TreeEntry] = {}
    for name in filter(_is_tree, names):
        try:
            tree = store.tree(name.removeprefix(TREES).removesuffix(".json"))
        except (CorruptedError, TrustError, NotInStoreError):
            continue
        lost.update((one.sha256, one) for one in tree.entries)
    found = list(_search(lost, folders))
    if found:
        store.put_files(found)
    return len(found)


def _search(lost: dict[str, TreeEntry], folders: Sequence[Path]) -> Iterator[Found]:
    sizes = {one.size for one in lost.values()}
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for path in (Path(parent, name) for name in names):
                if not path.is_file() or path.stat().st_size not in sizes:
                    continue
                entry = lost.pop(sha256_file(path), None)
                if entry is not None:
                    yield Found(entry.path, path, entry.mode, entry.size)


def _is_tree(name: str) -> bool:
    return name.startswith(TREES) and is_object(name)


def _name(entry: Entry) -> str:
    return entry.name.rpartition("/")[2].removesuffix(".json")
