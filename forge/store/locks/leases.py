"""`leases/<name>`: a lock with one holder at a time, until it is released or expires.

It uses only conditional writes of the store, so it works between machines. Expiry compares the
clocks of two machines, which must agree to well under the time to live (one minute), as signed
metadata requires anyway.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge import canonical
from forge.errors import ConflictError, CorruptedError, NotInStoreError, StoreError
from forge.store.backends.protocol import Objects, Stored

__all__ = [
    "MAX_LEASE_BYTES",
    "Clock",
    "Lease",
    "LeaseCancelledError",
    "LeaseRecord",
    "Waiting",
    "hold",
    "live",
    "owner",
]

MAX_LEASE_BYTES: Final = 4096
_POLL_S: Final = 0.5
_log = logging.getLogger(__name__)

Waiting = Callable[[str, float], None]  # holder, expiry (seconds since the epoch)


class LeaseCancelledError(StoreError):
    """Waiting for a lease was cancelled."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Time source of leases; `now` returns seconds since the epoch."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


class LeaseRecord(BaseModel):
    """The stored record. The token makes each record unique."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    owner: str
    expires: Annotated[float, Field(allow_inf_nan=False)]
    token: str = ""

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return canonical.dumps(self.model_dump(mode="json"))


class Lease:
    """A lease, renewed in the background while it is held."""

    def __init__(self, objects: Objects, name: str, owner: str, ttl_s: float, clock: Clock) -> None:
        self.name = name
        self._objects = objects
        self._owner = owner
        self._ttl_s = ttl_s
        self._clock = clock
        self._token = secrets.token_hex(8)
        self._etag = ""
        self._until = -math.inf
        self._lost = False
        self._stop = threading.Event()
        self._renewer = threading.Thread(target=self._renew, name=f"lease {name}", daemon=True)

    def held(self) -> bool:
        """Return whether the lease cannot have been taken over."""
        return not self._lost and self._clock.now() < self._until

    def check(self) -> None:
        """Raise ConflictError if the lease is no longer held."""
        if not self.held():
            raise ConflictError(
                f"The lease {self.name} in {self._objects.url} was lost",
                why="it was not renewed in time, or taken over",
                hint="check the connection to the store and the clock, then run the command again",
            )

    def acquire(
        self,
        wait_s: float,
        cancelled: threading.Event | None = None,
        waiting: Waiting | None = None,
    ) -> None:
        """Acquire the lease, waiting at most `wait_s` seconds; see `hold`."""
        deadline = self._clock.now() + wait_s
        while not self._try():
            left = deadline - self._clock.now()
            if left <= 0:
                raise self._taken()
            if waiting is not None and (record := self._holder()) is not None:
                waiting(record.owner, record.expires)
                waiting = None
            self._pause(min(_POLL_S, left), cancelled)
        self._renewer.start()

    def _pause(self, seconds: float, cancelled: threading.Event | None) -> None:
        if cancelled is None:
            self._clock.sleep(seconds)
        elif cancelled.wait(seconds):
            what = f"Cancelled while waiting for the lease {self.name} in {self._objects.url}"
            raise LeaseCancelledError(what, hint="run the command again to resume")

    def release(self) -> None:
        """Release the lease. Never raises: a lease that cannot be deleted expires."""
        self._stop.set()
        self._renewer.join()
        # A live lease cannot be taken over, so this deletes our own record.
        if not self._lost and self._clock.now() < self._until - min(1.0, self._ttl_s / 10):
            try:
                self._objects.delete(self.name)
            except StoreError as error:
                _log.warning(
                    "The lease %s was not released and will expire: %s", self.name, error.what
                )

    def _try(self) -> bool:
        stored = _read(self._objects, self.name)
        now = self._clock.now()
        if stored is not None and (record := live(stored.data, now)) is not None:
            return self._adopt(stored, record)
        with contextlib.suppress(ConflictError):
            return self._write(stored.etag if stored else None, now)
        return False

    def _write(self, etag: str | None, now: float) -> bool:
        until = now + self._ttl_s
        data = LeaseRecord(owner=self._owner, expires=until, token=self._token).encode()
        if etag is None:
            self._etag = self._objects.write_new(self.name, data)
        else:
            self._etag = self._objects.write_if(self.name, data, etag)
        self._until = until
        return True

    def _adopt(self, stored: Stored, record: LeaseRecord) -> bool:
        """Return whether the record is ours, written by a request whose response was lost."""
        if record.token != self._token:
            return False
        self._etag, self._until = stored.etag, record.expires
        return True

    def _renew(self) -> None:
        while not self._stop.wait(self._ttl_s / 3):
            try:
                self._renew_once()
            except ConflictError:
                self._lost = True
                return
            except StoreError as error:  # retried until the lease expires
                _log.warning("The lease %s was not renewed: %s", self.name, error.what)

    def _renew_once(self) -> None:
        try:
            self._write(self._etag, self._clock.now())
        except ConflictError:
            stored = _read(self._objects, self.name)
            record = live(stored.data, self._clock.now()) if stored else None
            if stored is None or record is None or not self._adopt(stored, record):
                raise

    def _holder(self) -> LeaseRecord | None:
        stored = _read(self._objects, self.name)
        return live(stored.data, self._clock.now()) if stored else None

    def _taken(self) -> ConflictError:
        record = self._holder()
        why = "another process was faster"
        if record is not None:
            expires = datetime.fromtimestamp(record.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            why = f"held by {record.owner} until {expires}"
        message = f"The lease {self.name} in {self._objects.url} is taken"
        hint = "wait for the other run; the lease of a killed run expires"
        return ConflictError(message, why=why, hint=hint)


@contextlib.contextmanager
def hold(  # noqa: PLR0913  each has a default but the first three
    objects: Objects,
    name: str,
    *,
    owner: str,
    ttl_s: float = 60.0,
    wait_s: float = 0.0,
    clock: Clock | None = None,
    cancelled: threading.Event | None = None,
    waiting: Waiting | None = None,
) -> Iterator[Lease]:
    """Hold `leases/<name>` during the body.

    Args:
        objects: the store.
        name: name without the folder.
        owner: name of this process, for the messages of others.
        ttl_s: seconds until the lease of a killed holder expires; renewed at a third of it.
        wait_s: seconds to wait for another holder.
        clock: time and sleep.
        cancelled: when set, waiting ends immediately.
        waiting: called once with the holder and its expiry before waiting.

    Raises:
        ConflictError: another process holds it; the message names owner and expiry.
        LeaseCancelledError: `cancelled` was set while waiting.
        StoreError: the store is unreachable.
    """
    lease = Lease(objects, f"leases/{name}", owner, ttl_s, clock or Clock())
    lease.acquire(wait_s, cancelled, waiting)
    try:
        yield lease
    finally:
        lease.release()


def owner() -> str:
    """Return the name of this process: `host:pid`."""
    return f"{socket.gethostname()}:{os.getpid()}"


def live(data: bytes, now: float) -> LeaseRecord | None:
    """Parse a lease; None if it has expired or is damaged."""
    try:
        record = LeaseRecord.model_validate_json(data)
    except ValidationError:
        return None
    return record if record.expires > now else None


def _read(objects: Objects, name: str) -> Stored | None:
    try:
        return objects.read(name, max_bytes=MAX_LEASE_BYTES)
    except NotInStoreError:
        return None
    except CorruptedError:  # too large to be a lease
        objects.delete(name)
        return None
