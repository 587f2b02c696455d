"""Try what Forge needs of a storage service, with a few small objects that are deleted again.

A service that ignores the condition of a write answers with success: leases and metadata then have
two owners, and nothing says so until a publication is lost. So each condition is tried.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from forge.errors import ConflictError, NotInStoreError, StoreError
from forge.store.backends.protocol import Objects

__all__ = ["ServiceCheck", "ServiceTrial", "check_service"]

_PREFIX: Final = "leases/test-"  # every role of the workflows that writes may write leases
_DATA: Final = b"0123456789abcdef"
_OTHER: Final = b"another content"
_WRITERS: Final = 8
# `store gc` deletes by the age that the service states; its shortest grace period is an hour.
_MAX_CLOCK_DIFFERENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class ServiceCheck:
    """One need.

    Attributes:
        need: what Forge needs, as a phrase.
        problem: what the service did; empty if it does what is needed.
        consequence: what goes wrong without it.
    """

    need: str
    problem: str
    consequence: str


@dataclass(frozen=True, slots=True)
class ServiceTrial:
    """What a trial has found.

    Attributes:
        checks: one for each need.
        left: prefix of the objects that could not be deleted; empty if none was left.
    """

    checks: tuple[ServiceCheck, ...]
    left: str


@dataclass(frozen=True, slots=True)
class _Need:
    text: str
    consequence: str
    check: Callable[[Objects, str], str]


def check_service(objects: Objects, clock: Callable[[], float] = time.time) -> ServiceTrial:
    """Try each need with objects below `leases/test-…`, and delete them.

    Args:
        objects: the store; it must allow writing below `leases/`.
        clock: this machine's time, s since the epoch.

    Raises:
        StoreError: the store cannot be reached, or refuses to be written or read.
    """
    prefix = f"{_PREFIX}{secrets.token_hex(8)}-"
    objects.write(f"{prefix}access", _DATA)
    checks: list[ServiceCheck] = []
    try:
        objects.read(f"{prefix}access", max_bytes=len(_DATA))
        for number, one in enumerate(_needs(clock)):
            problem = _tried(one, objects, f"{prefix}{number}")
            checks.append(ServiceCheck(one.text, problem, one.consequence))
    finally:
        is_clean = _delete_all(objects, prefix)
    return ServiceTrial(tuple(checks), "" if is_clean else f"{objects.url}/{prefix}")


def _delete_all(objects: Objects, prefix: str) -> bool:
    """Delete all objects with a prefix; returns whether none is left."""
    try:
        for entry in list(objects.entries(prefix)):
            objects.delete(entry.name)
        return not any(True for _ in objects.entries(prefix))
    except StoreError:  # its check says so
        return False


def _needs(clock: Callable[[], float]) -> Iterator[_Need]:
    two_owners = "two machines publish over each other, and a version is lost"
    yield _Need("read what was written", "steps and devices read old bytes", _reads_back)
    yield _Need("read a part of an object", "an update fetches whole packs", _reads_parts)
    yield _Need("create an object only once", two_owners, _creates_once)
    yield _Need("of several that create it at once, let one", two_owners, _lets_one_create)
    yield _Need("replace an object only if unchanged", two_owners, _replaces_if_same)
    yield _Need("list an object as soon as it is written", "gc deletes too much", _lists)
    yield _Need("delete an object", "the store only grows", _deletes)
    yield _Need("state the time of an object", "gc deletes too early", _states_time(clock))


def _tried(need: _Need, objects: Objects, name: str) -> str:
    try:
        return need.check(objects, name)
    except StoreError as error:
        return f"{error.what}: {error.why}" if error.why else error.what


def _reads_back(objects: Objects, name: str) -> str:
    for data in (_DATA, _OTHER):
        objects.write(name, data)
        if objects.read(name, max_bytes=64).data != data:
            return "it answered with other bytes"
    return ""


def _reads_parts(objects: Objects, name: str) -> str:
    objects.write(name, _DATA)
    return "" if objects.read_range(name, 3, 5) == _DATA[3:8] else "it answered with other bytes"


def _creates_once(objects: Objects, name: str) -> str:
    objects.write_new(name, _DATA)
    try:
        objects.write_new(name, _OTHER)
    except ConflictError:
        same = objects.read(name, max_bytes=64).data == _DATA
        return "" if same else "it refused the second writer and stored its bytes"
    return "it replaced an object that exists"


def _lets_one_create(objects: Objects, name: str) -> str:
    def create(number: int) -> bytes | None:
        data = b"writer %d" % number
        try:
            objects.write_new(name, data)
        except ConflictError:
            return None
        return data

    with ThreadPoolExecutor(_WRITERS) as pool:
        won = [data for data in pool.map(create, range(_WRITERS)) if data is not None]
    if len(won) != 1:
        return f"{len(won)} of {_WRITERS} writers were told that they created it"
    return (
        "" if objects.read(name, max_bytes=64).data == won[0] else "another writer's bytes stayed"
    )


def _replaces_if_same(objects: Objects, name: str) -> str:
    old = objects.write(name, _DATA)
    new = objects.write_if(name, _OTHER, old)
    try:
        objects.write_if(name, _DATA, old)
    except ConflictError:
        stored = objects.read(name, max_bytes=64)
        return "" if (stored.data, stored.etag) == (_OTHER, new) else "its ETag is of other bytes"
    return "it replaced an object that another writer had changed"


def _lists(objects: Objects, name: str) -> str:
    names = [f"{name}-{number}" for number in range(3)]
    for number, one in enumerate(names):
        objects.write(one, _DATA)
        listed = {entry.name for entry in objects.entries(f"{name}-")}
        if listed != set(names[: number + 1]):
            return f"it listed {len(listed)} of {number + 1} objects"
    return ""


def _deletes(objects: Objects, name: str) -> str:
    objects.write(name, _DATA)
    objects.delete(name)
    try:
        objects.read(name, max_bytes=64)
    except NotInStoreError:
        return "" if objects.size(name) is None else "it states the size of a deleted object"
    return "it still has an object that was deleted"


def _states_time(clock: Callable[[], float]) -> Callable[[Objects, str], str]:
    def check(objects: Objects, name: str) -> str:
        objects.write(name, _DATA)
        entry = objects.entry(name)
        if entry is None:
            return "it has no entry of an object that was written"
        difference = abs(entry.modified - clock())
        if difference <= _MAX_CLOCK_DIFFERENCE_S:
            return ""
        return f"its clock differs from this machine's by {difference:.0f} s"

    return check
