"""What Forge needs of a storage service: services that lack one thing, each found by its name.

Services that lack nothing are in tests/e2e/test_store_objects.py.
"""

# ruff: noqa: ARG002  these services ignore what they are given

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from forge.errors import ConflictError, StoreError
from forge.store.backends.memory import MemoryObjects
from forge.store.backends.protocol import Entry, Stored
from forge.store.maintenance.service_check import check_service


class IgnoresIfNoneMatch(MemoryObjects):
    """As services answered that did not know the condition."""

    def write_new(self, name: str, data: bytes) -> str:
        return self.write(name, data)


class IgnoresIfMatch(MemoryObjects):
    def write_if(self, name: str, data: bytes, etag: str) -> str:
        return self.write(name, data)


class DecidesLate(MemoryObjects):
    """Checks the condition first and writes later: two writers at once both succeed."""

    def write_new(self, name: str, data: bytes) -> str:
        if self.size(name) is not None:
            raise ConflictError(f"{name} exists")
        time.sleep(0.1)
        return self.write(name, data)


class StoresWhatItRefuses(MemoryObjects):
    def write_new(self, name: str, data: bytes) -> str:
        before = self.size(name)
        etag = self.write(name, data)
        if before is not None:
            raise ConflictError(f"{name} exists")
        return etag


class RefusesEveryCondition(MemoryObjects):
    def write_if(self, name: str, data: bytes, etag: str) -> str:
        raise StoreError("If-Match is not implemented", why="501")


class ListsLate(MemoryObjects):
    def entries(self, prefix: str) -> Iterator[Entry]:
        found = sorted(super().entries(prefix), key=lambda entry: entry.name)
        yield from found[:-1] if len(found) > 1 else found


class KeepsDeleted(MemoryObjects):
    def delete(self, name: str) -> None:
        if not name.endswith("access"):
            return
        super().delete(name)


class RefusesToDelete(MemoryObjects):
    def delete(self, name: str) -> None:
        raise StoreError("Access denied", why="403")


class RefusesToList(MemoryObjects):
    def entries(self, prefix: str) -> Iterator[Entry]:
        raise StoreError("Access denied", why="403")


class IgnoresRanges(MemoryObjects):
    def read_range(self, name: str, start: int, length: int) -> bytes:
        return self.read(name, max_bytes=64).data[:length]


class AnswersFromACache(MemoryObjects):
    """Goes on with what it read first."""

    def __init__(self) -> None:
        super().__init__()
        self._first: dict[str, Stored] = {}

    def read(self, name: str, *, max_bytes: int) -> Stored:
        return self._first.setdefault(name, super().read(name, max_bytes=max_bytes))


def needs(objects: MemoryObjects) -> dict[str, str]:
    return {
        one.need.split(" (")[0]: one.problem for one in check_service(objects).checks if one.problem
    }


@pytest.mark.parametrize(
    ("objects", "need", "problem"),
    [
        (IgnoresIfNoneMatch(), "create an object only once", "it replaced an object that exists"),
        (IgnoresIfMatch(), "replace an object only if unchanged",
         "it replaced an object that another writer had changed"),
        (DecidesLate(), "of several that create it at once, let one", "8 of 8 writers"),
        (StoresWhatItRefuses(), "create an object only once", "stored its bytes"),
        (RefusesEveryCondition(), "replace an object only if unchanged", "not implemented: 501"),
        (ListsLate(), "list an object as soon as it is written", "it listed 1 of 2 objects"),
        (RefusesToDelete(), "delete an object", "Access denied: 403"),
        (RefusesToList(), "list an object as soon as it is written", "Access denied: 403"),
        (KeepsDeleted(), "delete an object", "still has an object that was deleted"),
        (IgnoresRanges(), "read a part of an object", "other bytes"),
        (AnswersFromACache(), "read what was written", "other bytes"),
        (MemoryObjects(clock=lambda: time.time() - 3600), "state the time of an object",
         "differs from this machine's by 3600 s"),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, MemoryObjects) else "",
)  # fmt: skip
def test_what_a_service_lacks_is_named(objects: MemoryObjects, need: str, problem: str) -> None:
    assert problem in needs(objects)[need]


def test_a_service_that_cannot_be_written_is_not_tried_further() -> None:
    class ReadOnly(MemoryObjects):
        def write(self, name: str, data: bytes) -> str:
            raise StoreError("the store is read-only", why=f"{name}: {len(data)} bytes")

    with pytest.raises(StoreError, match="read-only"):
        check_service(ReadOnly())


def test_the_objects_of_a_trial_that_failed_are_deleted() -> None:
    objects = IgnoresIfMatch()
    assert needs(objects)
    assert list(objects.entries("")) == []


@pytest.mark.parametrize("objects", [RefusesToDelete(), RefusesToList(), KeepsDeleted()])
def test_objects_that_cannot_be_deleted_are_named(objects: MemoryObjects) -> None:
    assert check_service(objects).left.startswith(f"{objects.url}/leases/test-")
    assert check_service(MemoryObjects()).left == ""
