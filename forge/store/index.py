"""Which chunks the store has, remembered on this machine between runs (SQLite).

A cache: it may be behind the store or ahead of it (after garbage collection), and losing it costs
re-reading `files/`. So whoever uses a location checks that its pack is still there.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self

from forge import canonical
from forge.errors import CorruptedError, NotInStoreError
from forge.store import chunklist
from forge.store.layout import FILES
from forge.store.objects import Entry, Objects

__all__ = ["ChunkIndex", "Location", "index_path"]

_SCHEMA: Final = """
create table if not exists lists (digest text primary key, size integer) without rowid;
create table if not exists packs (id integer primary key, digest blob unique);
create table if not exists chunks (
    digest blob primary key, pack integer, start integer, length integer
) without rowid;
"""
_VERSION: Final = 1
_MAX_LIST_BYTES: Final = 256 * 1024 * 1024
_READERS: Final = 8
_log = logging.getLogger(__name__)

Location = tuple[bytes, int, int]  # digest of the pack, offset, length


class ChunkIndex:
    """Chunk digest → place. Use it as a context manager, from one thread."""

    def __init__(self, path: Path | None) -> None:
        """Open the index at `path`; an empty one in memory for None."""
        self._database = _open(path) if path else _connect(":memory:")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(sqlite3.Error):  # what was not written is read again next time
            self._database.commit()
        self._database.close()

    def find(self, chunk: bytes) -> Location | None:
        """Where the chunk was last seen."""
        query = (
            "select p.digest, c.start, c.length from chunks c join packs p on p.id = c.pack"
            " where c.digest = ?"
        )
        row: Location | None = self._database.execute(query, (chunk,)).fetchone()
        return row

    def has_size(self, size: int) -> bool:
        """Whether any file with a chunk list has this many bytes."""
        query = "select 1 from lists where size = ? limit 1"
        return self._database.execute(query, (size,)).fetchone() is not None

    def add(self, pack: bytes, rows: Iterable[tuple[bytes, int, int]]) -> None:
        """Remember (chunk digest, offset, length) rows of a pack that is in the store."""
        number = self._pack(pack)
        self._database.executemany(
            "insert or replace into chunks values (?, ?, ?, ?)",
            ((digest, number, start, length) for digest, start, length in rows),
        )
        self._database.commit()

    def add_list(self, digest: str, chunks: chunklist.ChunkList) -> None:
        """Remember a file's chunks."""
        numbers = {pack: self._pack(pack) for pack in chunks.packs}
        self._database.executemany(
            "insert or replace into chunks values (?, ?, ?, ?)",
            ((one.digest, numbers[one.pack], one.offset, one.length) for one in chunks),
        )
        self._database.execute("insert or replace into lists values (?, ?)", (digest, chunks.size))
        self._database.commit()

    def forget(self, pack: bytes) -> None:
        """The pack is not in the store any more."""
        query = "delete from chunks where pack = (select id from packs where digest = ?)"
        self._database.execute(query, (pack,))
        self._database.commit()

    def refresh(self, objects: Objects) -> None:
        """Read the chunk lists that came since the last time. Raises StoreError."""
        stored = {entry.name.removeprefix(FILES): entry for entry in objects.entries(FILES)}
        known = {row[0] for row in self._database.execute("select digest from lists")}
        self._database.executemany(
            "delete from lists where digest = ?", ((one,) for one in known - stored.keys())
        )
        self._database.commit()
        unseen = [stored[one] for one in stored.keys() - known]
        with ThreadPoolExecutor(_READERS) as pool:
            for start in range(0, len(unseen), 4 * _READERS):  # bounds what waits in memory
                batch = unseen[start : start + 4 * _READERS]
                for entry, found in zip(
                    batch, pool.map(lambda one: _read(objects, one), batch), strict=True
                ):
                    if found is not None:
                        self.add_list(entry.name.removeprefix(FILES), found)

    def _pack(self, digest: bytes) -> int:
        self._database.execute("insert or ignore into packs (digest) values (?)", (digest,))
        query = "select id from packs where digest = ?"
        number: int = self._database.execute(query, (digest,)).fetchone()[0]
        return number


def index_path(cache: Path, url: str) -> Path:
    """The index of the store at `url`."""
    return cache / f"chunks-{canonical.sha256(url.encode())[:16]}-{_VERSION}.sqlite"


def _read(objects: Objects, entry: Entry) -> chunklist.ChunkList | None:
    if entry.size > _MAX_LIST_BYTES:
        return None
    try:
        data = objects.read(entry.name, max_bytes=entry.size).data
        return chunklist.decode(data, size=None, name=entry.name)
    except NotInStoreError:  # deleted since the listing
        return None
    except CorruptedError as error:  # its chunks are stored again when they are needed
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
        path.unlink(missing_ok=True)  # damaged: it is only a cache
        return _connect(str(path))
    except OSError as error:
        _log.warning("The chunk index %s is not used: %s", path, error)
        return _connect(":memory:")


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
