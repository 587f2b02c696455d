"""The components of bundles in a local SQLite file, so that a question does not read every SBOM.

A row belongs to the digest of a signed manifest, from which it was read: what was published once
never changes, so a row is never outdated. The file is only a cache and may be deleted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final, Self, TypeVar

from forge.release.components import BundleComponent, name_key

__all__ = ["ComponentIndex", "component_index_path", "use_index"]

_VERSION: Final = 1  # of the schema and of what is read from an SBOM
_SCHEMA: Final = """
create table if not exists manifests (id integer primary key, digest text unique not null);
create table if not exists components (
    id integer primary key, identity text unique not null, content text not null
);
create table if not exists keys (
    key text not null, component integer not null, primary key (key, component)
) without rowid;
create table if not exists parts (
    component integer not null, manifest integer not null, primary key (component, manifest)
) without rowid;
"""
_FIND: Final = """
select m.digest, c.content from keys k
    join components c on c.id = k.component
    join parts p on p.component = c.id
    join manifests m on m.id = p.manifest
    where k.key >= ? and k.key < ?
"""
_AFTER_HEX: Final = "g"  # sorts after every digest that begins with a given text
_TIMEOUT_S: Final = 5.0
_IN_USE: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


def component_index_path(cache: Path) -> Path:
    """Return the file of the index in a cache folder."""
    return cache / f"components-{_VERSION}.sqlite"


def use_index(path: Path, work: Callable[[ComponentIndex], _T]) -> _T:
    """Return what `work` makes of the index; if the file fails, it is called with an empty one.

    The file may have a damaged page, be on a full disk, or be in use by another process.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with ComponentIndex(str(path)) as index:
            return work(index)
    except (sqlite3.Error, OSError) as error:
        _log.warning("The index %s is not used: %s", path, error)
        code: int = getattr(error, "sqlite_errorcode", 0)  # the low byte is the primary code
        if isinstance(error, sqlite3.DatabaseError) and code & 0xFF not in _IN_USE:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
    with ComponentIndex(":memory:") as index:
        return work(index)


class ComponentIndex:
    """Map from manifest digest to components. A context manager, for one thread.

    Every method raises sqlite3.Error if the file fails.

    Args:
        place: path of the file, or `:memory:`.
    """

    def __init__(self, place: str) -> None:
        self._database = sqlite3.connect(place, timeout=_TIMEOUT_S)
        self._database.executescript(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with contextlib.closing(self._database):
            if kind is None:
                self._database.commit()

    def known(self) -> set[str]:
        """Return the digests of the manifests in the index."""
        return {digest for (digest,) in self._database.execute("select digest from manifests")}

    def add(self, manifest: str, components: Iterable[BundleComponent]) -> None:
        """Add the components of a manifest that is not in the index."""
        query = "insert into manifests (digest) values (?)"
        number = self._database.execute(query, (manifest,)).lastrowid
        rows = {(self._component(one), number) for one in components}
        self._database.executemany("insert into parts values (?, ?)", rows)

    def by_name(self, name: str) -> Iterator[tuple[str, BundleComponent]]:
        """Yield (manifest digest, component) of each component with this name."""
        key = f"name:{name_key(name)}"
        return self._find(key, f"{key}\0")

    def by_digest(self, start: str) -> Iterator[tuple[str, BundleComponent]]:
        """Yield (manifest digest, component) of each one with a SHA-256 that begins so."""
        return self._find(f"sha256:{start}", f"sha256:{start}{_AFTER_HEX}")

    def _find(self, first: str, after: str) -> Iterator[tuple[str, BundleComponent]]:
        for manifest, content in self._database.execute(_FIND, (first, after)):
            fields = json.loads(content)
            yield manifest, BundleComponent(**{**fields, "digests": tuple(fields["digests"])})

    def _component(self, one: BundleComponent) -> int:
        identity = one.identity()
        query = "select id from components where identity = ?"
        if row := self._database.execute(query, (identity,)).fetchone():
            return int(row[0])
        add = "insert into components (identity, content) values (?, ?)"
        number = self._database.execute(add, (identity, json.dumps(asdict(one)))).lastrowid
        assert number is not None  # noqa: S101  it was inserted
        rows = {(key, number) for key in _keys(one)}
        self._database.executemany("insert into keys values (?, ?)", rows)
        return number


def _keys(one: BundleComponent) -> Iterator[str]:
    yield f"name:{name_key(one.name)}"
    yield f"name:{name_key(one.name.rpartition('/')[2])}"  # a file is asked for without its folder
    yield from (f"sha256:{digest}" for digest in one.digests)
