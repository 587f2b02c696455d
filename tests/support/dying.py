"""A program that stores a folder and is killed at its n-th change of the store.

    python -m tests.support.dying FOLDER URL CACHE N before|after

Ends with status 0 when N was beyond the last change.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TypeVar

from forge.store import Entry, Objects, Store, Stored, open_objects

_T = TypeVar("_T")


class Dying:
    """A real store, and the end of this process at the n-th change."""

    def __init__(self, inner: Objects, number: int, moment: str) -> None:
        self._inner = inner
        self._left = number
        self._moment = moment
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return self._inner.url

    def read(self, name: str, *, max_bytes: int) -> Stored:
        return self._inner.read(name, max_bytes=max_bytes)

    def read_range(self, name: str, start: int, length: int) -> bytes:
        return self._inner.read_range(name, start, length)

    def stream(self, name: str, start: int, length: int) -> Generator[bytes]:
        yield self.read_range(name, start, length)

    def report_bad_copy(self, name: str) -> bool:
        return self._inner.report_bad_copy(name)

    def size(self, name: str) -> int | None:
        return self._inner.size(name)

    def entry(self, name: str) -> Entry | None:
        return self._inner.entry(name)

    def entries(self, prefix: str) -> Iterator[Entry]:
        return self._inner.entries(prefix)

    def scratch(self) -> Path:
        return self._inner.scratch()

    def write(self, name: str, data: bytes) -> str:
        return self._change(lambda: self._inner.write(name, data))

    def write_new(self, name: str, data: bytes) -> str:
        return self._change(lambda: self._inner.write_new(name, data))

    def write_if(self, name: str, data: bytes, etag: str) -> str:
        return self._change(lambda: self._inner.write_if(name, data, etag))

    def write_file(self, name: str, path: Path, *, take: bool = False) -> None:
        self._change(lambda: self._inner.write_file(name, path, take=take))

    def delete(self, name: str) -> None:
        self._change(lambda: self._inner.delete(name))

    def touch(self, name: str) -> None:
        self._change(lambda: self._inner.touch(name))

    def sweep(self, before: float) -> int:
        return self._change(lambda: self._inner.sweep(before))

    def _change(self, change: Callable[[], _T]) -> _T:
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last and self._moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = change()
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result


def main(folder: str, url: str, cache: str, number: str, moment: str) -> None:
    objects = Dying(open_objects(url, environment=os.environ), int(number), moment)
    Store(objects, cache=Path(cache)).put_tree(Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
