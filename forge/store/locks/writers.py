"""Mutual exclusion of writers and garbage collection.

Each first writes its own lease and then checks for the other's, so that of two that start at the
same moment at least one sees the other and stops. Any number of writers may run in parallel.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from typing import Final

from forge.errors import ConflictError, NotInStoreError
from forge.store.backends.protocol import Objects
from forge.store.locks.leases import MAX_LEASE_BYTES, Clock, Lease, LeaseRecord, hold, live

__all__ = ["COLLECTOR", "collecting", "writing"]

COLLECTOR: Final = "leases/gc"
_WRITERS: Final = "writers/"


@contextlib.contextmanager
def writing(objects: Objects, owner: str, clock: Clock, ttl_s: float = 60.0) -> Iterator[Lease]:
    """Hold a writer's lease during the body. Raises ConflictError during garbage collection."""
    name = f"{_WRITERS}{secrets.token_hex(8)}"
    with hold(objects, name, owner=owner, ttl_s=ttl_s, clock=clock) as lease:
        other = _live(objects, COLLECTOR, clock)
        if other is not None:
            raise ConflictError(
                f"Garbage collection is running in {objects.url}",
                why=f"started by {other.owner}",
                hint="run the command again in a minute",
            )
        yield lease


@contextlib.contextmanager
def collecting(objects: Objects, owner: str, clock: Clock, ttl_s: float = 60.0) -> Iterator[Lease]:
    """Hold the collector's lease during the body. Raises ConflictError while a writer is active."""
    with hold(
        objects, COLLECTOR.removeprefix("leases/"), owner=owner, ttl_s=ttl_s, clock=clock
    ) as lease:
        for entry in objects.entries(f"leases/{_WRITERS}"):
            other = _live(objects, entry.name, clock)
            if other is not None:
                raise ConflictError(
                    f"Another process is writing to {objects.url}",
                    why=f"started by {other.owner}",
                    hint="run the command again when that run has finished",
                )
        yield lease


def _live(objects: Objects, name: str, clock: Clock) -> LeaseRecord | None:
    try:
        return live(objects.read(name, max_bytes=MAX_LEASE_BYTES).data, clock.now())
    except NotInStoreError:
        return None
