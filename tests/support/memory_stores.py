"""Stores in memory: on a clock that the test moves, and with failures that the test chooses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path

from forge.errors import StoreError
from forge.store import Entry, Store, Stored
from forge.store.backends.memory import MemoryObjects
from tests.support.stores import Hands

__all__ = ["Place", "memory_store", "names"]


class Place(MemoryObjects):
    """A store that records what it is asked for and fails or damages bytes as it is told.

    Attributes:
        asked: (method, object) of every read, in order.
        failure: raised by every read while it is set.
        damaged: object to the number of its next reads that return a wrong first byte.
        block: bytes of one block of a stream.
        breaks_after: bytes of a stream after which `break_error` is raised, once for each.
    """

    def __init__(self, url: str = "memory:place", clock: Callable[[], float] | None = None) -> None:
        super().__init__(clock or (lambda: 0.0))
        self._url = url
        self.asked: list[tuple[str, str]] = []
        self.failure: StoreError | None = None
        self.damaged: Counter[str] = Counter()
        self.block = 1 << 20
        self.breaks_after: list[int] = []
        self.break_error = StoreError("the connection broke")

    @property
    def url(self) -> str:
        return self._url

    def read(self, name: str, *, max_bytes: int) -> Stored:
        self._ask("read", name)
        stored = super().read(name, max_bytes=max_bytes)
        return Stored(self._spoil(name, stored.data), stored.etag)

    def read_range(self, name: str, start: int, length: int) -> bytes:
        self._ask("read_range", name)
        return self._spoil(name, super().read_range(name, start, length))

    def stream(self, name: str, start: int, length: int) -> Generator[bytes]:
        self._ask("stream", name)
        data = self._spoil(name, super().read_range(name, start, length))
        limit = self.breaks_after.pop(0) if self.breaks_after else None
        for at in range(0, length, self.block):
            end = min(at + self.block, length)
            if limit is not None and end > limit:
                if limit > at:
                    yield data[at:limit]
                raise self.break_error
            yield data[at:end]

    def entry(self, name: str) -> Entry | None:
        self._ask("entry", name)
        return super().entry(name)

    def _ask(self, method: str, name: str) -> None:
        self.asked.append((method, name))
        if self.failure is not None:
            raise self.failure

    def _spoil(self, name: str, data: bytes) -> bytes:
        if not self.damaged[name]:
            return data
        self.damaged[name] -= 1
        return bytes([data[0] ^ 0xFF]) + data[1:]


def memory_store(cache: Path, hands: Hands | None = None) -> Store:
    """A store in memory; its objects and its leases take the time from `hands`."""
    hands = hands or Hands()
    objects = MemoryObjects(clock=lambda: hands.time)
    return Store(objects, cache=cache, clock=hands.clock())


def names(store: Store, prefix: str = "") -> set[str]:
    """Names of all objects that begin with `prefix`."""
    return {entry.name for entry in store.objects.entries(prefix)}
