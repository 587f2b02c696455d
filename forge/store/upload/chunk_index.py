"""The chunk index: a local SQLite cache of the chunks that the store has.

It may be behind the store, or ahead of it after garbage collection, and can be rebuilt by reading
`files/`. Therefore the user of a location checks that its pack still exists, and a database that
fails (a damaged page, a full disk) is dropped and replaced by one in memory until the run ends.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self, TypeVar

from forge import canonical
from forge.errors import CorruptedError, NotInStoreError
from forge.store.backends.protocol import Entry, Objects
from forge.store.formats import chunk_list
from forge.store.formats.names import FILES, is_object

__all__ = ["ChunkIndex", "Location", "index_path"]

# For a chunk list that cannot be read, the column `size` is -1 minus the bytes of the object, so
# that the object is read again only after it was replaced.
_SCHEMA: Final = """
create table if not exists lists (digest text primary key, size integer) without rowid;
create table if not exists packs (id integer primary key, digest blob unique);
create table if not exists chunks (
    digest blob primary key, pack integer, start integer, length integer
) without rowid;
"""
_INSERT: Final = "insert or replace into chunks values (?, ?, ?, ?)"
_VERSION: Final = 1
_READERS: Final = 8
_BATCH_BYTES: Final = (
    32 * 1024 * 1024
)  # limit for the lists in memory at once; a larger list is read alone
_IN_USE: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_T = TypeVar("_T")
_log = logging.getLogger(__name__)

Location = tuple[bytes, int, int]  # digest of the pack, offset, length


class ChunkIndex:
    """Map from chunk digest to location. A context manager, for one thread."""

    def __init__(self, path: Path | None) -> None:
        """Open the index at `path`, or an empty one in memory for None."""
        self._path = path
        self._database = _open(path) if path else _connect(":memory:")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(
            sqlite3.Error
        ):  # rows that were not written are read again next time
            self._database.commit()
        self._database.close()

    def find(self, chunk: bytes) -> Location | None:
        """Return the last known location of a chunk, or None."""
        query = (
            "select p.digest, c.start, c.length from chunks c join packs p on p.id = c.pack"
            " where c.digest = ?"
        )
        row: Location | None = self._do(lambda at: at.execute(query, (chunk,)).fetchone())
        return row

    def has_size(self, size: int) -> bool:
        """Return whether any file with a chunk list has this size in bytes."""
        query = "select 1 from lists where size = ? limit 1"
        return self._do(lambda at: at.execute(query, (size,)).fetchone()) is not None

    def add(self, pack: bytes, rows: Sequence[tuple[bytes, int, int]]) -> None:
        """Add the (chunk digest, offset, length) rows of a stored pack."""

        def write(database: sqlite3.Connection) -> None:
            number = _pack(database, pack)
            database.executemany(_INSERT, ((digest, number, *place) for digest, *place in rows))
            database.commit()

        self._do(write)

    def add_list(self, digest: str, chunks: chunk_list.ChunkList) -> None:
        """Add the chunks of a file."""

        def write(database: sqlite3.Connection) -> None:
            numbers = {pack: _pack(database, pack) for pack in chunks.packs}
            rows = ((one.digest, numbers[one.pack], one.offset, one.length) for one in chunks)
            database.executemany(_INSERT, rows)
            _put_list(database, digest, chunks.size)

        self._do(write)

    def forget(self, pack: bytes) -> None:
        """Remove a pack that is no longer in the store."""

        def write(database: sqlite3.Connection) -> None:
            query = "delete from chunks where pack = (select id from packs where digest = ?)"
            database.execute(query, (pack,))
            database.commit()

        self._do(write)

    def refresh(self, objects: Objects) -> None:
        """Read the chunk lists that were added since the last call. Raises StoreError."""
        stored = {
            entry.name.removeprefix(FILES): entry
            for entry in objects.entries(FILES)
            if is_object(entry.name)
        }
        known = self._do(lambda at: _known(at, stored))
        unseen = (entry for digest, entry in stored.items() if digest not in known)
        with ThreadPoolExecutor(_READERS) as pool:
            for batch in _batches(unseen):
                found = pool.map(lambda one: _read(objects, one), batch)
                for entry, chunks in zip(batch, found, strict=True):
                    self._remember(entry, chunks)

    def _remember(self, entry: Entry, chunks: chunk_list.ChunkList | None) -> None:
        digest = entry.name.removeprefix(FILES)
        if chunks is not None:
            self.add_list(digest, chunks)
        else:
            self._do(lambda at: _put_list(at, digest, -1 - entry.size))

    def _do(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            return work(self._database)
        except sqlite3.Error as error:
            if self._path is None:
                raise
            self._drop(self._path, error)
            return work(self._database)

    def _drop(self, path: Path, error: sqlite3.Error) -> None:
        _log.warning("The chunk index %s failed (%s) and is rebuilt in memory.", path, error)
        with contextlib.suppress(sqlite3.Error):
            self._database.close()
        code: int = getattr(
            error, "sqlite_errorcode", 0
        )  # errors of the sqlite3 module itself have no code
        if code & 0xFF not in _IN_USE:  # the low byte is the primary code
            _unlink(path)
        self._path = None
        self._database = _connect(":memory:")


def index_path(cache: Path, url: str) -> Path:
    """Return the path of the index of the store at `url`."""
    return cache / f"chunks-{canonical.sha256(url.encode())[:16]}-{_VERSION}.sqlite"


def _known(database: sqlite3.Connection, stored: dict[str, Entry]) -> set[str]:
    """Return the lists that are indexed, after removing those that are no longer in the store."""
    rows = database.execute("select digest, size from lists").fetchall()
    gone = [(digest,) for digest, _ in rows if digest not in stored]
    database.executemany("delete from lists where digest = ?", gone)
    database.commit()
    return {
        digest
        for digest, size in rows
        if digest in stored and (size >= 0 or size == -1 - stored[digest].size)
    }


def _put_list(database: sqlite3.Connection, digest: str, size: int) -> None:
    database.execute("insert or replace into lists values (?, ?)", (digest, size))
    database.commit()


def _pack(database: sqlite3.Connection, digest: bytes) -> int:
    database.execute("insert or ignore into packs (digest) values (?)", (digest,))
    query = "select id from packs where digest = ?"
    number: int = database.execute(query, (digest,)).fetchone()[0]
    return number


def _batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Yield batches of entries whose lists fit into the memory limit."""
    batch: list[Entry] = []
    for entry in entries:
        if batch and sum(one.size for one in batch) + entry.size > _BATCH_BYTES:
            yield batch
            batch = []
        batch.append(entry)
        if len(batch) == 4 * _READERS:
            yield batch
            batch = []
    if batch:
        yield batch


def _read(objects: Objects, entry: Entry) -> chunk_list.ChunkList | None:
    try:
        data = objects.read(entry.name, max_bytes=chunk_list.MAX_LIST_BYTES).data
        return chunk_list.decode(data, size=None, name=entry.name)
    except NotInStoreError:  # deleted since the listing
        return None
    except CorruptedError as error:  # its chunks are stored again if they are needed
        _log.warning("%s", error)
        return None


def _open(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _connect(str(path))
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # read-only or full disk, or locked
            _log.warning("The chunk index %s is not used: %s", path, error)
            return _connect(":memory:")
        _unlink(path)  # damaged, and only a cache
        return _connect(str(path))
    except OSError as error:
        _log.warning("The chunk index %s is not used: %s", path, error)
        return _connect(":memory:")


def _unlink(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _connect(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=30.0)
    try:
        if path != ":memory:":
            database.execute("pragma journal_mode = wal")
        database.execute("pragma synchronous = normal")
        database.executescript(_SCHEMA)
    except sqlite3.Error:
        database.close()
        raise
    return database
