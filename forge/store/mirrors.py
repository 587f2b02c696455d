"""Several places with the same objects: what one lacks, fails at or falsifies is read at the next.

Order is preference. A place that fails is asked last for a while, each time it fails again for
longer; one that gave wrong bytes of an object is not asked for that object for a while. Every
object is proved by whoever asks for it, so a place needs no trust and a mirror no key.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from forge.errors import CorruptedError, NotInStoreError, StoreError
from forge.store import stopping
from forge.store.layout import is_object
from forge.store.objects import BrokenOffError, BusyError, Entry, Objects, Stored
from forge.store.pace import pause
from forge.store.readonly import ReadOnly

__all__ = ["Mirrors", "Standing"]

_ROUNDS: Final = 3
_AWAY_S: Final = 30.0
_LONGEST_AWAY_S: Final = 600.0
_DOUBTED_S: Final = 600.0
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """How one place has done since it was opened.

    Attributes:
        url: where it is, without credentials.
        failures: in a row; 0 if it answered last, or was not asked.
        served_last: of all places, it was the last that had what was asked for.
    """

    url: str
    failures: int = 0
    served_last: bool = False


@dataclass(eq=False, slots=True)
class _Place:
    """One mirror and what is known of it; times by the monotonic clock."""

    objects: Objects
    failures: int = 0
    away_until: float = 0.0
    doubted: dict[str, float] = field(default_factory=dict)

    def failed(self, now: float, after_s: float) -> None:
        self.failures += 1
        away = max(after_s, _AWAY_S * 2 ** min(self.failures - 1, 8))
        self.away_until = now + min(away, _LONGEST_AWAY_S)

    def answered(self) -> None:
        self.failures, self.away_until = 0, 0.0

    def doubts(self, name: str, now: float) -> bool:
        return self.doubted.get(name, 0.0) > now


class Mirrors(ReadOnly):
    """Objects of the first place that has them right.

    Args:
        places: at least one; the first is preferred.
        clock: seconds, monotonic.
        sleep: waits between rounds when none is in reach.
    """

    def __init__(
        self,
        places: Sequence[Objects],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = stopping.sleep,
    ) -> None:
        self._places = [_Place(one) for one in places]
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._served: _Place | None = None
        self._used = threading.local()  # what this thread read last, and where

    @property
    def url(self) -> str:
        """The preferred place's."""
        return self._places[0].objects.url

    def standings(self) -> tuple[Standing, ...]:
        """Every place, in the order of preference."""
        with self._lock:
            return tuple(
                Standing(one.objects.url, one.failures, one is self._served) for one in self._places
            )

    def read(self, name: str, *, max_bytes: int) -> Stored:
        """See `Objects.read`."""
        return self._first(name, lambda one: one.read(name, max_bytes=max_bytes))

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """See `Objects.read_range`."""
        return self._first(name, lambda one: one.read_range(name, start, length))

    def stream(self, name: str, start: int, length: int) -> Generator[bytes]:
        """See `Objects.stream`. All of its bytes are of one place, so that one can be doubted."""

        def begin(objects: Objects) -> tuple[bytes, Generator[bytes]]:
            blocks = objects.stream(name, start, length)
            return next(blocks, b""), blocks

        first, blocks = self._first(name, begin)
        place: _Place = self._used.read[1]
        with contextlib.closing(blocks):
            yield first
            try:
                yield from blocks
            except stopping.StoppedError:
                raise
            except StoreError as error:
                self._leave(place, error)
                raise BrokenOffError(error.what, why=error.why, hint=error.hint) from error

    def doubt(self, name: str) -> bool:
        """See `Objects.doubt`."""
        now = self._clock()
        read: tuple[str, _Place] | None = getattr(self._used, "read", None)
        if read is None or read[0] != name:  # none had it
            return False
        with self._lock:
            self._doubt(read[1], name, now)
            elsewhere = any(not one.doubts(name, now) for one in self._places)
            if not elsewhere:  # all are alike: the next try begins with the preferred one
                for one in self._places:
                    one.doubted.pop(name, None)
        return elsewhere

    def size(self, name: str) -> int | None:
        """See `Objects.size`."""
        entry = self.entry(name)
        return None if entry is None else entry.size

    def entry(self, name: str) -> Entry | None:
        """See `Objects.entry`."""

        def look(objects: Objects) -> Entry:
            found = objects.entry(name)
            if found is None:
                raise NotInStoreError(f"{name} is not in the store {objects.url}")
            return found

        try:
            return self._first(name, look)
        except NotInStoreError:
            return None

    def _first(self, name: str, call: Callable[[Objects], _T]) -> _T:
        """What the first place says that can be asked. Raises as `Objects.read`."""
        for turn in range(1, _ROUNDS):
            try:
                return self._round(name, call)
            except (NotInStoreError, CorruptedError):
                raise
            except stopping.StoppedError:
                raise
            except StoreError:
                self._sleep(pause(turn + 1))
        return self._round(name, call)

    def _round(self, name: str, call: Callable[[Objects], _T]) -> _T:
        self._used.read = None
        answer: StoreError | None = None  # that it is not there, or damaged
        trouble: StoreError | None = None
        for place, away in self._order(name):
            if away and answer is not None and not is_object(name):
                break  # each look asks for a root that is not there yet: not of a dead place, too
            try:
                value = call(place.objects)
            except NotInStoreError as error:
                answer = answer or error
            except CorruptedError as error:
                with self._lock:
                    self._doubt(place, name, self._clock())
                answer = error
            except stopping.StoppedError:
                raise
            except StoreError as error:
                self._leave(place, error)
                trouble = error
            else:
                place.answered()
                self._served = place
                self._used.read = name, place
                return value
        raise answer or trouble or AssertionError

    def _order(self, name: str) -> list[tuple[_Place, bool]]:
        """Places that are well, those that are doubted, and those that are away (True)."""
        now = self._clock()
        with self._lock:
            rows = [(one, one.away_until > now) for one in self._places]
            return sorted(rows, key=lambda row: (row[1], row[0].doubts(name, now)))

    def _leave(self, place: _Place, error: StoreError) -> None:
        after_s = error.after_s if isinstance(error, BusyError) else 0.0
        with self._lock:
            place.failed(self._clock(), after_s)
        _log.warning("%s Other mirrors are asked.", str(error).splitlines()[0])

    def _doubt(self, place: _Place, name: str, now: float) -> None:
        place.doubted = {key: until for key, until in place.doubted.items() if until > now}
        place.doubted[name] = now + _DOUBTED_S
        _log.warning("%s of %s is wrong.", name, place.objects.url)
