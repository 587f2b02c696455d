"""Writers and garbage collection keep out of each other's way.

Each first writes its own mark and then looks for the other's, so that of two that start at the same
moment at least one sees the other and stops. Any number of writers run at once.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from typing import Final

from forge.errors import ConflictError, NotInStoreError
from forge.store.leases import MAX_LEASE_BYTES, Clock, Lease, LeaseRecord, hold, live
from forge.store.objects import Objects

__all__ = ["COLLECTOR", "collecting", "writing"]

COLLECTOR: Final = "leases/gc"
_WRITERS: Final = "writers/"


@contextlib.contextmanager
def writing(objects: Objects, owner: str, clock: Clock, ttl_s: float = 60.0) -> Iterator[Lease]:
    """Be a writer for the body. Raises ConflictError while garbage is collected."""
    name = f"{_WRITERS}{secrets.token_hex(8)}"
    with hold(objects, name, owner=owner, ttl_s=ttl_s, clock=clock) as lease:
        other = _live(objects, COLLECTOR, clock)
        if other is not None:
            raise ConflictError(
                f"Garbage is being collected in {objects.url}",
                why=f"by {other.owner}",
                hint="run the command again in a minute",
            )
        yield lease


@contextlib.contextmanager
def collecting(objects: Objects, owner: str, clock: Clock, ttl_s: float = 60.0) -> Iterator[Lease]:
    """Be the one that collects garbage. Raises ConflictError while anybody writes."""
    with hold(
        objects, COLLECTOR.removeprefix("leases/"), owner=owner, ttl_s=ttl_s, clock=clock
    ) as lease:
        for entry in objects.entries(f"leases/{_WRITERS}"):
            other = _live(objects, entry.name, clock)
            if other is not None:
                raise ConflictError(
                    f"Somebody writes to {objects.url}",
                    why=f"{other.owner} does",
                    hint="run the command again when that run has ended",
                )
        yield lease


def _live(objects: Objects, name: str, clock: Clock) -> LeaseRecord | None:
    try:
        return live(objects.read(name, max_bytes=MAX_LEASE_BYTES).data, clock.now())
    except NotInStoreError:
        return None
